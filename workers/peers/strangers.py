"""Controllers on our topic whose signs of life are not made with our key: they are no peers. Pure.

Anybody who may write to the topic can say such signs, so nothing is given to a stranger, and nothing is left to it. One
thing counts for it: as long as it reigns over a partition by the log, and goes on to write there, we do not claim the partition.
Else two clusters of controllers that were given different keys by mistake would depose each other for ever. A forged sign
alone does not do that: the beats of a reign cannot be forged without ending it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from muster.wire.controllers import controllers_max
from workers.peers.roll_call import RollCall, StrangeSign, signs_behind_max

looks_still_max: Final = 10
"""A log that has not grown in so many looks has no writer any more. Looks are half a second apart, beats of a writer one."""

REMEDY: Final = "give all controllers of the log the same --cluster-key FILE"


@dataclass(frozen=True, slots=True)
class _Heard:
    url: str
    turn: int


class Strangers:
    """Who was heard lately. Time is counted in turns, our own signs that have come back, as in `roll`.

    `reigning` may be set: the names of the writers who reign, by the log. Those are always remembered, of others a few.
    """

    def __init__(self, roll: RollCall) -> None:
        self._roll = roll
        self.reigning: Callable[[], Collection[str]] = tuple
        self.signs = 0
        self._heard: dict[str, _Heard] = {}
        self._ends: dict[int, object] = {}
        self._still: dict[int, int] = {}

    def heard(self, sign: StrangeSign) -> None:
        """A strange sign has come. One that says the name of a peer is counted, and is nobody's: the peer's own count."""
        self.signs += 1
        if not sign.name or self._roll.knows(sign.name):
            return
        self._forget()
        # A flood of names takes no more room, and pushes nobody out.
        if sign.name in self._heard or len(self._heard) < controllers_max or sign.name in self.reigning():
            self._heard[sign.name] = _Heard(sign.url, self._roll.returned)

    def live(self) -> Mapping[str, str]:
        """Their addresses as they claim them, by the name that they claim."""
        self._forget()
        return {name: one.url for name, one in self._heard.items()}

    def looked(self, ends: Mapping[int, object]) -> None:
        """By partition, where its log ends now, and how far its writer's beats are."""
        for partition, end in ends.items():
            still = self._still.get(partition, 0) + 1
            self._still[partition] = still if self._ends.get(partition) == end else 0
        self._ends = dict(ends)

    def hold(self, partition: int, writer: str) -> str | None:
        """Why the partition is not claimed, where this writer reigns by the log; None: nothing is against it."""
        if not self._heard or self._roll.knows(writer):
            return None
        if writer not in self.live() or self._still.get(partition, 0) > looks_still_max:
            return None
        return f"it is written by {writer}, whose signs of life are not made with this controller's key: {REMEDY}"

    def _forget(self) -> None:
        for name in [name for name, one in self._heard.items() if self._is_old(one)]:
            del self._heard[name]
        if not self._heard:
            # What was seen of the logs is not looked at while nobody is there, so it says nothing later.
            self._ends, self._still = {}, {}

    def _is_old(self, one: _Heard) -> bool:
        return self._roll.returned - one.turn > signs_behind_max
