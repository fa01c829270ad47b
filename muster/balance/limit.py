"""How many calls a client has under way to a service, and who is refused first when that is too many. Pure.

There is no limit until a window of answers (at least 20 of them, and 0.1 s) has more than a tenth that say "overloaded": then it
is four fifths of the most that were under way. It grows again by a twentieth with each calm window that used it, and is gone once
it is four times what is used. Windows and not single answers, because one instance of ten that hangs is no overload. A client
that has few answers need not wait for twenty where it is plain: 8 of them and 0.5 s are enough when two fifths say so.

Of the limit low priority may use 60 %, normal 80 %, high 95 % and critical all: so the important calls go on.
"""

from math import inf
from typing import Final, Literal

Priority = Literal["low", "normal", "high", "critical"]
SHARES: Final[dict[Priority, float]] = {"low": 0.6, "normal": 0.8, "high": 0.95, "critical": 1.0}

WINDOW_ANSWERS_MIN: Final = 20
WINDOW_SECONDS_MIN: Final = 0.1
OVERLOADED_SHARE: Final = 0.1
PLAIN_ANSWERS_MIN: Final = 8
PLAIN_SECONDS_MIN: Final = 0.5
PLAIN_SHARE: Final = 0.4
CUT: Final = 0.8
GROWTH: Final = 0.05
USED_SHARE: Final = 0.5
GONE_TIMES: Final = 4


class Limit:
    """The calls under way and their limit: `calls`, inf while there is none. `most` is the most of this window."""

    __slots__ = ("answers", "calls", "in_flight", "most", "overloaded", "since")

    def __init__(self, now: float = 0.0) -> None:
        self.calls = inf
        self.in_flight = 0
        self.most = 0
        self.answers = 0
        self.overloaded = 0
        self.since = now

    def allowed(self, priority: Priority) -> float:
        """How many calls there may be with one more of this priority; always one."""
        return max(1.0, self.calls * SHARES[priority])

    def admits(self, priority: Priority) -> bool:
        """Whether one more call of this priority may begin."""
        return self.calls == inf or self.in_flight + 1 <= self.allowed(priority)

    def begun(self) -> None:
        """A call has begun."""
        self.in_flight += 1
        if self.in_flight > self.most:
            self.most = self.in_flight

    def ended(self) -> None:
        """A call has ended."""
        self.in_flight -= 1

    def answered(self, overloaded: bool, now: float) -> None:
        """A call was answered, or its time ran out; `overloaded`: that, or the answer said so."""
        self.answers += 1
        self.overloaded += overloaded
        # Both bounds: a busy client must not judge by a millisecond, nor a quiet one by two answers.
        if self._is_whole(now - self.since):
            self.calls = self._judged()
            self.answers = self.overloaded = 0
            self.since, self.most = now, self.in_flight

    def lift(self) -> None:
        """There is no limit any more, until a window says so again."""
        self.calls = inf

    def _is_whole(self, seconds: float) -> bool:
        if self.answers >= WINDOW_ANSWERS_MIN and seconds >= WINDOW_SECONDS_MIN:
            return True
        plain = self.answers >= PLAIN_ANSWERS_MIN and seconds >= PLAIN_SECONDS_MIN
        return plain and self.overloaded >= PLAIN_SHARE * self.answers

    def _judged(self) -> float:
        # From what was under way, and not from a limit that nobody reached.
        if self.overloaded > OVERLOADED_SHARE * self.answers:
            return max(1.0, min(self.calls, self.most) * CUT)
        if self.calls == inf:
            return inf
        # Only a limit that was used has shown that it is too low.
        if self.most >= USED_SHARE * self.calls:
            return self.calls + max(1.0, GROWTH * self.calls)
        # It is far from what is used: it says nothing any more.
        return inf if self.calls > GONE_TIMES * self.most + WINDOW_ANSWERS_MIN else self.calls
