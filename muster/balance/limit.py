"""How many calls a client has under way to a service, and who is refused first when that is too many. Pure.

There is no limit until a window of answers (at least 20 of them, and 0.1 s) has more than a tenth that say "overloaded": then it
is the mean of what was under way. Each further such window takes a fifth of it away, each calm one gives a twentieth back, and it
is gone after five calm windows in which nobody was refused. Windows and not single answers, because one instance of ten that
hangs is no overload. A client that has few answers need not wait for twenty where it is plain: 8 of them and 0.5 s are enough
when two fifths say so.

What is compared with the limit is the mean of what the last ten calls or so have found under way, and not what is under way at
this moment. A client with one or two calls at a time has none or three by chance, whatever their priority; their mean lies
still, and so does the order in which priorities are refused, also where the limit is a fraction of a call. Low priority may use
half of the limit, normal 65 %, high 80 % and critical all of it.
"""

from math import inf
from typing import Final, Literal

Priority = Literal["low", "normal", "high", "critical"]
SHARES: Final[dict[Priority, float]] = {"low": 0.5, "normal": 0.65, "high": 0.8, "critical": 1.0}

WINDOW_ANSWERS_MIN: Final = 20
WINDOW_SECONDS_MIN: Final = 0.1
OVERLOADED_SHARE: Final = 0.1
PLAIN_ANSWERS_MIN: Final = 8
PLAIN_SECONDS_MIN: Final = 0.5
PLAIN_SHARE: Final = 0.4
NEWEST_SHARE: Final = 0.1
"""What one call has found under way counts so much in the mean."""
PAUSE_SECONDS: Final = 1.0
"""After so long without a call nothing is left of the mean."""
CUT: Final = 0.8
GROWTH: Final = 0.05
CALM_WINDOWS: Final = 5


class Limit:
    """The calls under way and their limit: `calls`, inf while there is none. `mean`: what calls have found under way.

    Who begins and ends calls counts them in `in_flight`.
    """

    __slots__ = ("_asked_at", "_calm", "_refused", "answers", "calls", "in_flight", "mean", "overloaded", "since")

    def __init__(self, now: float = 0.0) -> None:
        self.calls = inf
        self.in_flight = 0
        self.mean = 0.0
        self.answers = 0
        self.overloaded = 0
        self.since = now
        self._asked_at = now
        self._refused = False
        self._calm = 0

    def allowed(self, priority: Priority) -> float:
        """Below this the mean has to be for one more call of this priority."""
        return self.calls * SHARES[priority]

    def admits(self, priority: Priority, now: float) -> bool:
        """A call of this priority has come: whether it may begin. What it finds under way counts in the mean."""
        # Who calls rarely must not be judged by what was under way a minute ago.
        if now - self._asked_at > PAUSE_SECONDS:
            self.mean = float(self.in_flight)
        self._asked_at = now
        # Refused calls count too: so the mean comes down while nothing begins, and nobody is refused for ever.
        self.mean += NEWEST_SHARE * (self.in_flight - self.mean)
        if self.calls == inf or self.mean < self.calls * SHARES[priority]:
            return True
        self._refused = True
        return False

    def answered(self, overloaded: bool, now: float) -> None:
        """A call was answered, or its time ran out; `overloaded`: that, or the answer said so."""
        self.answers += 1
        self.overloaded += overloaded
        if now - self.since >= WINDOW_SECONDS_MIN and self._is_whole(now - self.since):
            self.calls = self._judged()
            self.answers = self.overloaded = 0
            self.since, self._refused = now, False

    def lift(self) -> None:
        """There is no limit any more, until a window says so again."""
        self.calls, self._refused = inf, False

    def _is_whole(self, seconds: float) -> bool:
        # Both bounds: a busy client must not judge by a millisecond, nor a quiet one by two answers.
        if self.answers >= WINDOW_ANSWERS_MIN:
            return True
        is_plain = self.overloaded >= PLAIN_SHARE * self.answers
        return is_plain and self.answers >= PLAIN_ANSWERS_MIN and seconds >= PLAIN_SECONDS_MIN

    def _judged(self) -> float:
        if self.overloaded > OVERLOADED_SHARE * self.answers:
            self._calm = 0
            # A limit that has refused nobody says nothing: then it is what was under way. Never less than one call: an
            # instance that hangs is no reason to call nobody.
            cut = self.calls * CUT
            return max(1.0, cut if self._refused else min(cut, self.mean))
        self._calm = 0 if self._refused else self._calm + 1
        return inf if self._calm >= CALM_WINDOWS else self.calls * (1 + GROWTH)
