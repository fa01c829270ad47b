"""How results in a row become a status.

From unknown the first result decides. Afterwards `healthy_after` successes in a row make it healthy and
`unhealthy_after` failures in a row make it unhealthy; a result that agrees with the status ends the run against it.

A check that flaps is held unhealthy for a while: each change is an event for ever, and no caller can rely on such an instance.

    falls, each within a minute ──the fifth──▶ flapping: recoveries are held for 10 s, then 20, 40, 60, 60, …
                                   ◀── no fall for a minute after a hold ──┘

Only recoveries are held. What fails is told at once, so nobody is sent to an instance that is known to be ill.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import Final

from muster.wire.registry.check import Health
from workers.health.probe import TEXT_CHARS_MAX

falls_max: Final = 4
hold_seconds_max: Final = 60.0
FIRST_HOLD_SECONDS: Final = 10.0
CALM_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Streak:
    """The status reached so far, and how many results in a row have been `against` it since.

    A new checker starts with `Streak(status)`, the status in the log, so that nothing changes only because it is new.
    """

    status: Health
    against: int = 0


def after(streak: Streak, *, success: bool, healthy_after: int, unhealthy_after: int) -> Streak:
    """The streak after one more result; both thresholds are counts of results in a row, at least 1."""
    result: Health = "healthy" if success else "unhealthy"
    if streak.status == "unknown":
        return Streak(result)
    if streak.status == result:
        return Streak(result) if streak.against else streak
    against = streak.against + 1
    return (
        Streak(result) if against >= (healthy_after if success else unhealthy_after) else Streak(streak.status, against)
    )


@dataclass(frozen=True, slots=True)
class Flaps:
    """When a check has fallen from healthy lately, in monotonic seconds, and until when its recovery is held."""

    falls: tuple[float, ...] = ()
    hold_seconds: float = 0.0
    until: float = -inf

    def holds(self, at: float) -> bool:
        """Whether a recovery is held at this instant."""
        return at < self.until

    def told(self, text: str | None) -> str | None:
        """The cause of the newest fall: what the check has found, behind the word that it flaps if it does."""
        if not self.hold_seconds:
            return text
        return f"flapping: held unhealthy for {self.hold_seconds:g} s: {text}"[:TEXT_CHARS_MAX]


def fallen(flaps: Flaps, at: float, most_seconds: float = hold_seconds_max) -> Flaps:
    """After one more fall; no hold is longer than `most_seconds`."""
    falls = (*(fall for fall in flaps.falls if at - fall < CALM_SECONDS), at)[-falls_max - 1 :]
    hold = 0.0
    if at < flaps.until + CALM_SECONDS:
        hold = 2 * flaps.hold_seconds
    elif len(falls) > falls_max:
        hold = FIRST_HOLD_SECONDS
    hold = min(hold, most_seconds, hold_seconds_max)
    return replace(flaps, falls=falls, hold_seconds=hold, until=at + hold if hold else -inf)
