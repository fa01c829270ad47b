"""How results in a row become a status.

From unknown the first result decides. Afterwards `healthy_after` successes in a row make it healthy and
`unhealthy_after` failures in a row make it unhealthy; a result that agrees with the status ends the run against it.
"""

from dataclasses import dataclass

from muster.wire.check import Health


@dataclass(frozen=True, slots=True)
class Streak:
    """The status come to, and how many results in a row have spoken `against` it since.

    `Streak(status)` with the status that the log knows is where a new checker starts: nothing flips because it is new.
    """

    status: Health
    against: int = 0


def after(streak: Streak, *, success: bool, healthy_after: int, unhealthy_after: int) -> Streak:
    """The streak after one more result; both thresholds are counts of results in a row, at least 1."""
    told: Health = "healthy" if success else "unhealthy"
    if streak.status == "unknown":
        return Streak(told)
    if streak.status == told:
        return Streak(told) if streak.against else streak
    against = streak.against + 1
    return (
        Streak(told) if against >= (healthy_after if success else unhealthy_after) else Streak(streak.status, against)
    )
