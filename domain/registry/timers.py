"""What runs out for an instance: its lease, its ttl checks, how long it may stay unhealthy, how long it is in doubt."""

from datetime import datetime
from typing import Final, Literal, NamedTuple

from domain.registry.instance import Instance, InstanceHealthChanged, ServiceEvent
from muster.wire.registry.check import REPORTED, TtlCheck, timeout_seconds_max

LOOK_GRACE_SECONDS: Final = 1.0


class InstanceTimer(NamedTuple):
    """Something that runs out after `seconds` unless renewed; `check` names the ttl check.

    `since`, of a doubt: when it began. One that ends and one that begins in the same group are two, each of its full length.
    """

    instance: str
    incarnation: int
    kind: Literal["lease", "ttl", "unhealthy", "doubt"]
    seconds: float
    check: str = ""
    since: datetime | None = None

    @property
    def name(self) -> str:
        """What tells it from others of its kind."""
        return self.check


def timers(instance: Instance) -> tuple[InstanceTimer, ...]:
    """All that can run out for the instance now; of what telemetry keeps, only how long it may stay unhealthy."""
    spec, wanted = instance.spec, []
    here = spec.heartbeats == "direct"
    if here and spec.lease_seconds is not None:
        wanted.append(InstanceTimer(instance.id, instance.incarnation, "lease", spec.lease_seconds, ""))
    for check in spec.checks:
        # A ttl check that is unhealthy already waits for its next heartbeat: there is nothing left to run out.
        if here and isinstance(check, TtlCheck) and instance.checks[check.name].status != "unhealthy":
            wanted.append(InstanceTimer(instance.id, instance.incarnation, "ttl", check.ttl_seconds, check.name))
    if instance.suspect is not None:
        # Only behind it does it count for how long the instance has been ill: so long it was served.
        doubt = instance.suspect
        wanted.append(InstanceTimer(instance.id, instance.incarnation, "doubt", doubt.seconds, "", doubt.since))
    elif spec.deregister_after_seconds is not None and instance.health == "unhealthy":
        wanted.append(InstanceTimer(instance.id, instance.incarnation, "unhealthy", spec.deregister_after_seconds, ""))
    return tuple(wanted)


def left(instance: Instance, timer: InstanceTimer, now: datetime, newest: datetime) -> float | None:
    """How many seconds are left of the timer for a writer that begins now, behind the `newest` event of the log; None: all of
    them, and more for who has to renew it.

    A doubt ends when its event says, whoever writes then: with its full length each time it would stand for ever where
    controllers take over from each other again and again. But it lasts until the new writer's own checks can have succeeded: the
    one before may have been what was cut off, and by its word alone the service would be out until they have. That at most
    doubles its length, by the instants of events and not by the clock of who begins: that may be wrong, and while nobody wrote
    nobody has looked.
    """
    if timer.since is None:
        return None
    own = [check for check in instance.spec.checks if not isinstance(check, TtlCheck)]
    looks = [check.interval_seconds * check.healthy_after + timeout_seconds_max(check) for check in own]
    look = max(looks, default=0.0) + LOOK_GRACE_SECONDS
    rest = timer.seconds - (now - timer.since).total_seconds()
    most = 2 * timer.seconds - (newest - timer.since).total_seconds()
    return min(max(rest, min(look, most), 0.0), timer.seconds)


def keeps_timers(event: ServiceEvent, instance: Instance) -> bool:
    """Whether the event surely leaves the timers of the instance, as it stands after it, as they were: most reports do."""
    # Reported health belongs to no ttl check. The one timer that it can start or stop is that of a long illness.
    reported = isinstance(event, InstanceHealthChanged) and event.check == REPORTED
    return reported and instance.spec.deregister_after_seconds is None
