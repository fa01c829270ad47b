"""What runs out for an instance: its lease, its ttl checks, how long it may stay unhealthy, how long it is in doubt."""

from typing import Literal, NamedTuple

from domain.registry.instance import Instance, InstanceHealthChanged, ServiceEvent
from muster.wire.registry.check import REPORTED, TtlCheck


class InstanceTimer(NamedTuple):
    """Something that runs out after `seconds` unless renewed; `check` names the ttl check."""

    instance: str
    incarnation: int
    kind: Literal["lease", "ttl", "unhealthy", "doubt"]
    seconds: float
    check: str = ""

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
        wanted.append(InstanceTimer(instance.id, instance.incarnation, "doubt", instance.suspect.seconds, ""))
    elif spec.deregister_after_seconds is not None and instance.health == "unhealthy":
        wanted.append(InstanceTimer(instance.id, instance.incarnation, "unhealthy", spec.deregister_after_seconds, ""))
    return tuple(wanted)


def keeps_timers(event: ServiceEvent, instance: Instance) -> bool:
    """Whether the event surely leaves the timers of the instance, as it stands after it, as they were: most reports do."""
    # Reported health belongs to no ttl check. The one timer that it can start or stop is that of a long illness.
    reported = isinstance(event, InstanceHealthChanged) and event.check == REPORTED
    return reported and instance.spec.deregister_after_seconds is None
