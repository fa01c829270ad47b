"""What is another once an instance is registered anew: from two specs to the events that name it."""

from domain.registry.instance import (
    Instance,
    InstanceAddressChanged,
    InstanceChecksChanged,
    InstanceDeregisterAfterChanged,
    InstanceHealthChanged,
    InstanceLeaseChanged,
    InstanceMetadataChanged,
    InstanceTagsChanged,
    InstanceWeightChanged,
    InstanceZoneChanged,
    ServiceEvent,
)
from domain.registry.status import carried_over, health_of
from muster.wire.registry.check import same_asked
from muster.wire.registry.spec import Spec


def changes(instance: Instance, spec: Spec) -> list[ServiceEvent]:
    """What the new spec changes, an event for each field, in the order in which they are to be folded."""
    old, name = instance.spec, instance.id
    events: list[ServiceEvent] = []
    if (old.address, old.port) != (spec.address, spec.port):
        events.append(InstanceAddressChanged(instance=name, address=spec.address, port=spec.port))
    if old.metadata != spec.metadata:
        events.append(InstanceMetadataChanged(instance=name, metadata=spec.metadata))
    if old.tags != spec.tags:
        events.append(InstanceTagsChanged(instance=name, tags=spec.tags))
    if old.zone != spec.zone:
        events.append(InstanceZoneChanged(instance=name, zone=spec.zone))
    if old.weight != spec.weight:
        events.append(InstanceWeightChanged(instance=name, weight=spec.weight))
    if old.lease_seconds != spec.lease_seconds:
        events.append(InstanceLeaseChanged(instance=name, lease_seconds=spec.lease_seconds))
    if old.deregister_after_seconds != spec.deregister_after_seconds:
        after = spec.deregister_after_seconds
        events.append(InstanceDeregisterAfterChanged(instance=name, deregister_after_seconds=after))
    # The checks come before the health that follows from them: `evolve` takes the events in this order.
    if old.checks != spec.checks:
        kept = same_asked(old.checks, spec.checks)
        events.append(InstanceChecksChanged(instance=name, checks=spec.checks, kept=kept))
        health = health_of(carried_over(instance.checks, old.checks, spec.checks, kept).values())
        if health != instance.health:
            changed = InstanceHealthChanged(instance=name, was=instance.health, to=health, cause="the checks changed")
            events.append(changed)
    return events
