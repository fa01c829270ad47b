"""How an instance goes: the events of a removal, and of a lease that is over."""

from domain.registry.instance import Instance, InstanceDeregistered, LeaseExpired, Removal, ServiceEvent


def removed(instance: Instance, cause: Removal) -> InstanceDeregistered:
    """It is gone; the marks that outlive it stand in the event."""
    return InstanceDeregistered(
        instance=instance.id,
        incarnation=instance.incarnation,
        cause=cause,
        health=instance.health,
        keeps_maintenance=instance.maintenance is not None,
        # To drain is to be about to leave. Who leaves on request has done so; who only fell silent has not.
        keeps_drain=instance.draining is not None and cause != "requested",
    )


def expired(instance: Instance) -> list[ServiceEvent]:
    """Its lease is over; nothing, if it has none any more."""
    seconds = instance.spec.lease_seconds
    if seconds is None:
        return []
    over = LeaseExpired(instance=instance.id, incarnation=instance.incarnation, lease_seconds=seconds)
    # Both in one batch: nobody sees an instance whose lease is over and which is still here.
    return [over, removed(instance, "lease_expired")]
