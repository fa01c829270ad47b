"""The instances of a service as one client sees them: all that the watch tells, and those of them that can take a call. Pure.

What is known of an instance belongs to its incarnation, and outlives changes of the list: one that flaps comes back with its
latency. Of one that is gone it is kept for a minute, because a controller that is behind may name it once more.

An instance can take a call that is discoverable, has a weight, is in the client's subset and is not left out. One is left out
for a few seconds after failures in a row (answers that say "overloaded" are none: that is for the limit), but always fewer
than half of them, so never the last: who fails everywhere has a trouble of its own, and is not helped by fewer instances.
"""

from collections.abc import Collection, Iterator
from hashlib import blake2b
from math import inf
from typing import Final

from muster.balance.load import InstanceLoad
from muster.balance.policy import Able
from muster.client.watch import Appeared, Change, Changed, Removed, Snapshot
from muster.wire.error import InvalidCommand
from muster.wire.registry.answers import Instance

KEPT_SECONDS: Final = 60.0
gone_kept_max: Final = 1_000
OUT_TIMES_MAX: Final = 4
"""One that fails again and again is left out for so many times as long as at first."""
PROBATION: Final = 2
"""So many failures in a row are enough once an instance that was left out is back."""

_Incarnation = tuple[str, int]


class Candidate:
    """An instance and what this client knows of it. `out_until`: it is left out until then, for the `outs`th time in a row.

    `answers` and `failures` are the calls that ended so, `failing` how many have failed in a row up to now; the answers took
    `answer_seconds` in all, but for those that are `untimed`.
    """

    __slots__ = (
        "answer_seconds",
        "answers",
        "failing",
        "failures",
        "gone_at",
        "instance",
        "load",
        "out_until",
        "outs",
        "picks",
        "untimed",
    )

    def __init__(self, instance: Instance, came_at: float) -> None:
        self.instance = instance
        self.load = InstanceLoad(instance.weight, came_at)
        self.picks = 0
        self.failures = 0
        self.failing = 0
        self.answers = 0
        self.answer_seconds = 0.0
        self.untimed = 0
        self.out_until = -inf
        self.outs = 0
        self.gone_at = inf

    @property
    def key(self) -> _Incarnation:
        """What knowledge belongs to."""
        return self.instance.instance, self.instance.incarnation

    @property
    def is_wanted(self) -> bool:
        """Whether the registry and its weight say that it takes calls."""
        return self.instance.discoverable and self.instance.weight > 0

    def leave_out(self, now: float, seconds: float, after: int) -> None:
        """From now on, for so long; the longer, the more often it was so within a minute."""
        self.outs = min(OUT_TIMES_MAX, 1 if now - self.out_until > KEPT_SECONDS else self.outs + 1)
        self.out_until = now + seconds * self.outs
        self.load.failures_in_row = max(0, after - PROBATION)


class Fleet:
    """All instances of the service, by name, as of the newest change. `client` is this client's name for its subset."""

    def __init__(self, client: str, zone: str = "", subset: int | None = None) -> None:
        self._client, self._zone, self._subset = client, zone, subset
        self._known: dict[str, Candidate] = {}
        self._gone: dict[_Incarnation, Candidate] = {}
        self._begun = False
        self.able: tuple[Candidate, ...] = ()
        self._choice = Able(())
        self._places: dict[str, int] = {}
        self._ejected = 0
        # When the list has to be made anew: at once after a change, else when one that is left out comes back.
        self._stale_at = -inf

    def take(self, change: Change, now: float) -> None:
        """Apply a change of the watch. A second Snapshot, of a watch that was begun anew, is compared with what is known."""
        match change:
            case Snapshot():
                named = {instance.instance for instance in change.instances}
                for name in self._known.keys() - named:
                    self._remove(name, now)
                for instance in change.instances:
                    self._put(instance, now)
                self._begun = True
            case Appeared() | Changed():
                self._put(change.instance, now)
            case Removed():
                self._remove(change.instance.instance, now)
        self._forget(now)
        # Not made here: of a hundred changes that come together, the next pick makes one list.
        self._stale_at = -inf

    def choice(self, now: float) -> Able:
        """Those that can take a call now, for `choose`; their places are those of `able`."""
        if now >= self._stale_at:
            self._make(now)
        return self._choice

    def ended(self, candidate: Candidate) -> None:
        """A call has ended there."""
        place = self._places.get(candidate.instance.instance, -1)
        # A call may end at an instance that is out of the list by now.
        if place >= 0:
            self._choice.fewest.ended(place)

    def refresh(self) -> None:
        """The next choice is made anew."""
        self._stale_at = -inf

    def places(self, names: Collection[str]) -> frozenset[int]:
        """The places of the instances of these names, of those that can take a call."""
        # One name is a collection of letters too, and nobody has these for a name.
        if isinstance(names, str):
            raise InvalidCommand(f"avoid: must be names of instances, like [{names!r}]", field="avoid")
        return frozenset(self._places[name] for name in names if name in self._places)

    def leave_out(self, candidate: Candidate, now: float, seconds: float, after: int) -> bool:
        """Leave it out for a while, if more than half of those that are wanted are left then. Returns whether it is."""
        self.choice(now)
        wanted = len(self.able) + self._ejected
        if candidate.out_until > now or self._known.get(candidate.instance.instance) is not candidate:
            return False
        if candidate.instance.instance not in self._places or 2 * (self._ejected + 1) >= wanted:
            return False
        candidate.leave_out(now, seconds, after)
        self._stale_at = -inf
        return True

    def counts(self, now: float) -> tuple[int, int, int, int]:
        """How many are registered, healthy, wanted by the registry, and left out."""
        self.choice(now)
        healthy = sum(each.instance.health == "healthy" for each in self._known.values())
        wanted = sum(each.is_wanted for each in self._known.values())
        return len(self._known), healthy, wanted, self._ejected

    def is_able(self, candidate: Candidate) -> bool:
        """Whether it can take a call, as the list is now."""
        return candidate.instance.instance in self._places

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._known.values())

    @property
    def remembered(self) -> int:
        """Of how many incarnations something is known, with those that are gone."""
        return len(self._known) + len(self._gone)

    def _put(self, instance: Instance, now: float) -> None:
        held = self._known.get(instance.instance)
        if held is not None and held.instance.incarnation != instance.incarnation:
            self._remove(instance.instance, now)
            held = None
        if held is None:
            held = self._gone.pop((instance.instance, instance.incarnation), None)
        if held is None:
            # Those of the first picture have been here for who knows how long: they are not cold.
            held = Candidate(instance, now if self._begun else -inf)
        elif instance.discoverable and not held.instance.discoverable and self._begun:
            # It comes back from wherever it was: as cold as a new one, as far as anyone knows.
            held.load.came_at = now
        held.instance, held.load.weight, held.gone_at = instance, instance.weight, inf
        self._known[instance.instance] = held

    def _remove(self, name: str, now: float) -> None:
        held = self._known.pop(name, None)
        if held is not None:
            held.gone_at = now
            self._gone[held.key] = held

    def _forget(self, now: float) -> None:
        # They stand in the order in which they have left.
        for key, held in list(self._gone.items()):
            if held.gone_at + KEPT_SECONDS > now and len(self._gone) <= gone_kept_max:
                break
            del self._gone[key]

    def _make(self, now: float) -> None:
        wanted = self._chosen([each for each in self._known.values() if each.is_wanted])
        out = [each for each in wanted if each.out_until > now]
        # The list may have become shorter since they were left out.
        if 2 * len(out) >= len(wanted):
            out = []
        self._ejected = len(out)
        # Made once for each change, and not with each pick, which so costs the same for ten instances and for a thousand.
        self.able = tuple(each for each in wanted if each.out_until <= now) if out else tuple(wanted)
        self._places = {each.instance.instance: place for place, each in enumerate(self.able)}
        near = [place for place, each in enumerate(self.able) if self._zone and each.instance.zone == self._zone]
        self._choice = Able(tuple(each.load for each in self.able), near)
        self._stale_at = min((each.out_until for each in out), default=inf)

    def _chosen(self, wanted: list[Candidate]) -> list[Candidate]:
        """The client's subset: each client has its own, and keeps it while instances come and go. Half of it is near."""
        if self._subset is None or len(wanted) <= self._subset:
            return wanted
        # By rank and not by place: when one leaves, only its successor comes in (rendezvous).
        ranked = sorted(wanted, key=lambda each: _rank(self._client, each.instance.instance))
        near = [each for each in ranked if self._zone and each.instance.zone == self._zone]
        first = near[: (self._subset + 1) // 2]
        taken = {each.instance.instance for each in first}
        rest = [each for each in ranked if each.instance.instance not in taken]
        # Far ones for the other half; near ones again where there are not enough of them.
        rest.sort(key=lambda each: bool(first) and each.instance.zone == self._zone)
        return first + rest[: self._subset - len(first)]


def _rank(client: str, instance: str) -> bytes:
    return blake2b(f"{client}\0{instance}".encode(), digest_size=8).digest()
