"""What runs out, and when, on a clock that stands still while the process does.

A tick that comes late (the process was stopped, the disk hung) counts for `step_max_seconds` only, which moves every
deadline by the gap: nothing expires in a burst because we were away.
"""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final

from domain.decider import Timer

Subject = tuple[str, str]
"""A stream, and the item of it that a timer is for."""

step_max_seconds: Final = 0.3
"""Three ticks of the writer: short enough for a lease of half a second that is renewed in good time to outlive a pause."""

LEFT_OVER_MAX: Final = 1_024
"""Entries of dropped timers that the heap may hold, beside as many as were armed when it was cleared of them last."""


@dataclass(slots=True, eq=False)
class _Armed:
    """A timer's deadline, and the number of the heap entry that carries it; others are left over from before."""

    deadline: float
    number: int


class Deadlines:
    """Armed timers by subject. Renewing is a dictionary write: the heap is corrected when a stale entry comes up."""

    def __init__(self) -> None:
        self._elapsed = 0.0
        self._last: float | None = None
        self._armed: dict[Subject, dict[Timer, _Armed]] = {}
        self._heap: list[tuple[float, int, Subject, Timer]] = []
        self._pushed = 0
        self._clear_at = LEFT_OVER_MAX

    def advance(self, monotonic: float) -> None:
        """Let the time pass up to now (seconds on the monotonic clock)."""
        if self._last is not None:
            self._elapsed += min(max(monotonic - self._last, 0.0), step_max_seconds)
        self._last = monotonic

    def arm(
        self, subject: Subject, timers: Iterable[Timer], length: Callable[[Timer], float] = attrgetter("seconds")
    ) -> None:
        """Make these the subject's timers: new ones start now, with this length; known ones go on, others are dropped."""
        known = self._armed.get(subject, {})
        if tuple(known) == timers:  # As most events leave them.
            return
        armed: dict[Timer, _Armed] = {}
        for timer in timers:
            if timer in known:
                armed[timer] = known[timer]
            else:
                armed[timer] = self._push(self._elapsed + length(timer), subject, timer)
        if armed:
            self._armed[subject] = armed
        else:
            self._armed.pop(subject, None)
        # Only here, where timers are dropped, and what is in the heap for them would stay until a lease of a day is over.
        if len(self._heap) > self._clear_at:
            self._clear()

    def renew(self, subject: Subject, which: Callable[[Any], bool]) -> None:
        """Give these of the subject's timers their full length again."""
        armed = self._armed.get(subject)
        if armed:
            # In place, without asking for any of them by name: that takes most of the time, of thousands of renewals a second.
            for timer, entry in armed.items():
                if which(timer):
                    # Never earlier: at the beginning of a reign a timer may have been given more than its full length.
                    entry.deadline = max(entry.deadline, self._elapsed + timer.seconds)

    def due(self, most: int) -> list[tuple[Subject, Any]]:
        """Up to `most` that have run out. They are disarmed, so that none is returned twice."""
        found: list[tuple[Subject, Any]] = []
        while self._heap and self._heap[0][0] <= self._elapsed and len(found) < most:
            _, number, subject, timer = heapq.heappop(self._heap)
            armed = self._armed.get(subject, {}).get(timer)
            # Left over from before: the timer was dropped since, or armed anew.
            if armed is None or number != armed.number:
                continue
            # It was renewed since it was pushed, and gets its new place in the heap only now.
            if armed.deadline > self._elapsed:
                self._armed[subject][timer] = self._push(armed.deadline, subject, timer)
            else:
                found.append((subject, timer))
                del self._armed[subject][timer]
        return found

    def put_back(self, timers: Iterable[tuple[Subject, Any]]) -> None:
        """Arm timers again that `due` has returned and that could not be dealt with yet: they are due at once."""
        for subject, timer in timers:
            self._armed.setdefault(subject, {})[timer] = self._push(self._elapsed, subject, timer)

    def __len__(self) -> int:
        return sum(map(len, self._armed.values()))

    def _clear(self) -> None:
        """Throw out what is left over from before. The next time is when as much has come again, so each push pays its share."""
        self._heap = [entry for entry in self._heap if self._is_live(*entry)]
        heapq.heapify(self._heap)
        self._clear_at = 2 * len(self._heap) + LEFT_OVER_MAX

    def _is_live(self, _: float, number: int, subject: Subject, timer: Timer) -> bool:
        armed = self._armed.get(subject, {}).get(timer)
        return armed is not None and armed.number == number

    def _push(self, deadline: float, subject: Subject, timer: Timer) -> _Armed:
        self._pushed += 1
        heapq.heappush(self._heap, (deadline, self._pushed, subject, timer))
        return _Armed(deadline, self._pushed)
