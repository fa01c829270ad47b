"""The load of a service over the last 30 s: a ring of six slots of five seconds, by the time of its partition.

There is one ring for a service and none for an instance: to read 100,000 rings once a second would cost half a core.
"""

from array import array
from typing import Final

slots: Final = 6
slot_seconds: Final = 5.0
window_seconds: Final = slots * slot_seconds
_KINDS: Final = 3


class Window:
    """Sums of what beats have said in the last 30 s: calls and failures per second, utilisation; a mean of each can be read."""

    __slots__ = ("_counts", "_slot", "_sums")

    def __init__(self) -> None:
        # By kind, and in a kind by slot: how many beats said something, and the sum of it.
        self._counts = array("q", bytes(8 * slots * _KINDS))
        self._sums = array("d", bytes(8 * slots * _KINDS))
        self._slot = 0

    def add(self, elapsed: float, counts: tuple[int, int, int], sums: tuple[float, float, float]) -> None:
        """What the beats of one message said, at this second of the partition: how many said it, and the sum, of each kind."""
        self._turn(elapsed)
        place = self._slot % slots
        for kind in range(_KINDS):
            self._counts[kind * slots + place] += counts[kind]
            self._sums[kind * slots + place] += sums[kind]

    def means(self, elapsed: float) -> tuple[float | None, float | None, float | None]:
        """The mean of each kind over the window that ends now; None: nobody said it."""
        self._turn(elapsed)
        found: list[float | None] = []
        for kind in range(_KINDS):
            count = sum(self._counts[kind * slots : (kind + 1) * slots])
            total = sum(self._sums[kind * slots : (kind + 1) * slots])
            found.append(total / count if count else None)
        return found[0], found[1], found[2]

    def _turn(self, elapsed: float) -> None:
        """Empty the slots that have begun since the last time."""
        now = int(elapsed / slot_seconds)
        # After a long pause each slot is emptied once, however many have passed.
        for slot in range(max(self._slot + 1, now - slots + 1), now + 1):
            for kind in range(_KINDS):
                self._counts[kind * slots + slot % slots] = 0
                self._sums[kind * slots + slot % slots] = 0.0
        self._slot = max(self._slot, now)
