"""How results in a row become a status.

From unknown the first result decides. Afterwards `healthy_after` successes in a row make it healthy and
`unhealthy_after` failures in a row make it unhealthy; a result that agrees with the status ends the run against it.
"""

from dataclasses import dataclass

from muster.wire.registry.check import Health


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
