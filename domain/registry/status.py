"""What is said of an instance: statuses of its checks, marks that take it out of discovery, doubts that keep it there; and what
all of its events carry.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Literal

from domain.message import Event, event
from muster.wire.registry.check import Health, worst
from muster.wire.registry.spec import Checks
from muster.wire.stream import Name
from muster.wire.value import value


@event
class InstanceEvent(Event):
    """What all events of an instance carry."""

    instance: Name


@value
class CheckStatus:
    """What one check last said, why, and since when it says so (UTC)."""

    status: Health
    cause: str | None
    since: datetime


@value
class Mark:
    """Why an instance is out of discovery, by whom and since when (UTC)."""

    actor: str
    reason: str | None
    since: datetime


Removal = Literal["requested", "lease_expired", "unhealthy_too_long", "succeeded"]
"""Why an instance is gone; `succeeded`: another holder has registered under its id."""


@value
class Doubt:
    """Since when checks that have failed together are not believed (UTC), and for how long. Since then clients on `answering`
    hosts have seen the instance answer, of `clients` on which something called it (0: nobody has said so).
    """

    since: datetime
    seconds: float
    clients: int = 0
    answering: int = 0


def carried_over(
    statuses: Mapping[str, CheckStatus], before: Checks, checks: Checks, kept: Collection[str]
) -> dict[str, CheckStatus | None]:
    """The statuses once `checks` take the place of those `before`: those of unchanged checks, of the `kept` ones and of reported
    health stay, others begin anew (None).
    """
    # Compared as a whole, and not judged anew: what an event meant when it was written, it means for ever.
    unchanged = {check.name for check in checks if check.name in kept or check in before}
    own = {check.name for check in before}
    # What has a status but no check in the spec was reported from outside, so a change of the spec does not end it.
    reported = {name: status for name, status in statuses.items() if name not in own}
    return {check.name: statuses[check.name] if check.name in unchanged else None for check in checks} | reported


def first_cause(statuses: Mapping[str, CheckStatus], health: Health, otherwise: str | None) -> str | None:
    """Why the health is what it is: the cause of the first check that has it."""
    return next((check.cause for check in statuses.values() if check.status == health), otherwise)


def health_of(statuses: Iterable[CheckStatus | None]) -> Health:
    """The worst of the check statuses; one that begins is unknown."""
    return worst(["unknown" if check is None else check.status for check in statuses])
