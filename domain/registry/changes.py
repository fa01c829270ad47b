"""What is another once an instance is registered anew: from two specs to the events that name it."""

from collections.abc import Mapping

from domain.registry.instance import (
    Instance,
    InstanceAddressChanged,
    InstanceChecksChanged,
    InstanceDeregisterAfterChanged,
    InstanceHealthChanged,
    InstanceHeartbeatsChanged,
    InstanceLeaseChanged,
    InstanceMetadataChanged,
    InstanceTagsChanged,
    InstanceWeightChanged,
    InstanceZoneChanged,
    ServiceEvent,
)
from domain.registry.status import CheckStatus, carried_over, health_of
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
    if old.heartbeats != spec.heartbeats:
        events.append(InstanceHeartbeatsChanged(instance=name, heartbeats=spec.heartbeats))
    # The checks come before the health that follows from them: `evolve` takes the events in this order.
    if old.checks != spec.checks:
        kept = same_asked(old.checks, spec.checks)
        statuses = carried_over(instance.checks, old.checks, spec.checks, kept)
        health = health_of(statuses.values())
        # A health that stays may be explained by a check that is gone, or that begins anew.
        recaused = (
            health == instance.health and _explains(instance, instance.checks) and not _explains(instance, statuses)
        )
        events.append(InstanceChecksChanged(instance=name, checks=spec.checks, kept=kept, recaused=recaused))
        if health != instance.health:
            changed = InstanceHealthChanged(instance=name, was=instance.health, to=health, cause="the checks changed")
            events.append(changed)
    return events


def _explains(instance: Instance, statuses: Mapping[str, CheckStatus | None]) -> bool:
    """Whether one of these is what is said to be the cause of the instance's health."""
    said = (instance.health, instance.cause)
    return any(found is not None and (found.status, found.cause) == said for found in statuses.values())
