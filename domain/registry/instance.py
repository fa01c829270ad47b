"""One registered copy of a service, from registration to removal.

    (absent) ──InstanceRegistered──▶ Instance ──InstanceDeregistered──▶ (absent)
                                      │ address, metadata, tags, zone, weight, checks, lease: changed by name
                                      │ health: the worst of the checks, with cause
                                      │ maintenance, draining: out of discovery, health untouched

Each registration after a removal is a new incarnation, numbered by the stream version of its `InstanceRegistered`. One by another
holder begins with the removal of the one before, in the same batch. What an operator has marked outlives a removal: the removal
says what is kept, the next registration brings it along (`domain.registry.versions` keeps it in between).
"""

import operator
from dataclasses import fields, replace
from datetime import datetime
from typing import Annotated, assert_never

from pydantic import Field

from domain.message import Recorded, Text, event
from domain.registry.doubt.event import InstanceChecksBelieved, InstanceChecksDisputed, InstanceSeenAnswering
from domain.registry.status import CheckStatus, Doubt, InstanceEvent, Mark, Removal, carried_over, first_cause
from muster.wire.registry.answers import DEREGISTERED
from muster.wire.registry.check import Health, Port
from muster.wire.registry.spec import Address, Checks, HeartbeatsVia, Metadata, Seconds, Spec, Tags, Weight, Zone
from muster.wire.stream import Name, name_of
from muster.wire.value import value

# Left out of the bytes where nothing is said, so that the events of the first release keep theirs.
_Absent, _No = Field(exclude_if=lambda value: value is None), Field(exclude_if=lambda value: not value)


@value
class Instance:
    """A registered instance; commands decide on it and read models show it. `checks` holds a status per check name, the
    reported one included once reported. Instants are UTC; `version` and `position` are those of its last event.

    `fell`: it was healthy before it became unhealthy. `suspect`: its checks, which say so, are not believed for a while.
    """

    id: str
    service: str
    spec: Spec
    incarnation: int
    version: int
    health: Health
    cause: str | None
    health_since: datetime
    checks: dict[str, CheckStatus]
    registered_at: datetime
    position: int
    maintenance: Mark | None = None
    draining: Mark | None = None
    fell: bool = False
    suspect: Doubt | None = None

    @property
    def discoverable(self) -> bool:
        """Whether discovery offers it: healthy, or its checks are in doubt; not in maintenance, not draining."""
        serves = self.health == "healthy" or self.suspect is not None
        return serves and self.maintenance is None and self.draining is None


@event
class InstanceRegistered(InstanceEvent):
    """A new incarnation is here; `health` is healthy without checks, unknown with. `holder` is who holds it, if it said so.

    `maintenance` and `draining` are marks that were kept from the incarnation before: by whom, why and since when.
    """

    type = "muster.instance.registered.v1"
    incarnation: int
    spec: Spec
    health: Health
    holder: Annotated[Name | None, _Absent] = None
    maintenance: Annotated[Mark | None, _Absent] = None
    draining: Annotated[Mark | None, _Absent] = None


@event
class InstanceAddressChanged(InstanceEvent):
    """It answers elsewhere now."""

    type = "muster.instance.address_changed.v1"
    address: Address
    port: Port


@event
class InstanceMetadataChanged(InstanceEvent):
    """The whole metadata, as it is now."""

    type = "muster.instance.metadata_changed.v1"
    metadata: Metadata


@event
class InstanceTagsChanged(InstanceEvent):
    """All tags, as they are now."""

    type = "muster.instance.tags_changed.v1"
    tags: Tags


@event
class InstanceZoneChanged(InstanceEvent):
    """It moved to another zone."""

    type = "muster.instance.zone_changed.v1"
    zone: Zone


@event
class InstanceWeightChanged(InstanceEvent):
    """Its share of the traffic changed."""

    type = "muster.instance.weight_changed.v1"
    weight: Weight


@event
class InstanceChecksChanged(InstanceEvent):
    """All checks, as they are now; statuses of unchanged checks and of those in `kept` stay, others start as unknown.

    `kept` names those that ask what they asked before, more or less often or strictly. `recaused`: what explained the health,
    which stays, is gone: from now on it is explained by the first check that has it. Both stand in the log only when they say
    something: events from before they were known are what they were, and so is what they have led to.
    """

    type = "muster.instance.checks_changed.v1"
    checks: Checks
    kept: Annotated[tuple[Name, ...], Field(exclude_if=operator.not_)] = ()
    recaused: Annotated[bool, _No] = False


@event
class InstanceLeaseChanged(InstanceEvent):
    """The lease's length changed; None: it has no lease any more."""

    type = "muster.instance.lease_changed.v1"
    lease_seconds: Seconds | None


@event
class InstanceDeregisterAfterChanged(InstanceEvent):
    """How long it may stay unhealthy changed; None: for ever."""

    type = "muster.instance.deregister_after_changed.v1"
    deregister_after_seconds: Seconds | None


@event
class InstanceHeartbeatsChanged(InstanceEvent):
    """Its heartbeats come another way from now on: the writer keeps its lease and its ttl checks, or telemetry does."""

    type = "muster.instance.heartbeats_changed.v1"
    heartbeats: HeartbeatsVia


@event
class InstanceHealthChanged(InstanceEvent):
    """The instance's health went from `from` to `to`, because `check` became `check_status`.

    `check` is None when a change of the checks themselves changed the health.
    """

    type = "muster.instance.health_changed.v1"
    was: Annotated[Health, Field(alias="from")]
    to: Health
    cause: Text | None = None
    check: Name | None = None
    check_status: Health | None = None


@event
class InstanceCheckChanged(InstanceEvent):
    """One check changed without changing the instance's health."""

    type = "muster.instance.check_changed.v1"
    check: Name
    was: Annotated[Health, Field(alias="from")]
    to: Health
    cause: Text | None = None


@event
class InstanceMaintenanceSet(InstanceEvent):
    """Out of discovery for maintenance; who and why stand in the envelope."""

    type = "muster.instance.maintenance_set.v1"


@event
class InstanceMaintenanceCleared(InstanceEvent):
    """Maintenance is over; also of an instance that is gone, for which it was kept."""

    type = "muster.instance.maintenance_cleared.v1"


@event
class InstanceDrainStarted(InstanceEvent):
    """Out of discovery because it is about to leave."""

    type = "muster.instance.drain_started.v1"


@event
class InstanceDrainEnded(InstanceEvent):
    """It stays after all; also of an instance that is gone, for which the mark was kept."""

    type = "muster.instance.drain_ended.v1"


@event
class LeaseExpired(InstanceEvent):
    """Nothing was heard for the lease's length."""

    type = "muster.instance.lease_expired.v1"
    incarnation: int
    lease_seconds: Seconds


@event
class InstanceDeregistered(InstanceEvent):
    """It is gone; `health` is what it was last. What it keeps holds again for the next that registers under the id."""

    type = DEREGISTERED
    incarnation: int
    cause: Removal
    health: Health
    keeps_maintenance: Annotated[bool, _No] = False
    keeps_drain: Annotated[bool, _No] = False


# What changes one field of the spec, or two.
_OfSpec = (
    InstanceAddressChanged
    | InstanceMetadataChanged
    | InstanceTagsChanged
    | InstanceZoneChanged
    | InstanceWeightChanged
    | InstanceLeaseChanged
    | InstanceDeregisterAfterChanged
    | InstanceHeartbeatsChanged
)
# What else changes an instance that stays, but for its health.
_Change = (
    InstanceChecksChanged
    | InstanceCheckChanged
    | InstanceMaintenanceSet
    | InstanceMaintenanceCleared
    | InstanceDrainStarted
    | InstanceDrainEnded
    | InstanceChecksDisputed
    | InstanceSeenAnswering
    | InstanceChecksBelieved
    | LeaseExpired
)

ServiceEvent = InstanceRegistered | _OfSpec | _Change | InstanceHealthChanged | InstanceDeregistered
"""All that can happen to an instance."""


def evolve(instance: Instance | None, recorded: Recorded[ServiceEvent]) -> Instance | None:
    """The instance after the event (None: it is gone). History that cannot be is asserted away."""
    event = recorded.event
    if isinstance(event, InstanceRegistered):
        return _registered(instance, event, recorded)
    # A mark that was kept for a name can be taken off while no instance has the name.
    if instance is None and isinstance(event, InstanceMaintenanceCleared | InstanceDrainEnded):
        return None
    # The partition that folds this turns a failed assertion into `Corrupt`, and stops at the event.
    assert instance is not None, f"{type(event).__name__} of {event.instance}, which is not registered"
    match event:
        case InstanceHealthChanged():  # First, because it is most of all events.
            return _flipped(instance, event, recorded)
        case InstanceDeregistered():
            return None
        case _ if isinstance(event, _OfSpec):
            spec = _respecified(instance.spec, event)
            return replace(instance, spec=spec, version=recorded.version, position=recorded.position)
        case _:
            return replace(_changed(instance, event, recorded), version=recorded.version, position=recorded.position)


def _flipped(instance: Instance, event: InstanceHealthChanged, recorded: Recorded[ServiceEvent]) -> Instance:
    assert instance.health == event.was, f"health gap: {instance.health} is not {event.was}"
    checks = instance.checks
    # Without a check the checks themselves were changed: the event before this one has set their statuses.
    if event.check is not None and event.check_status is not None:
        checks = {**checks, event.check: CheckStatus(event.check_status, event.cause, recorded.at)}
    # Written out, because `replace` costs three times as much, and most of a replay passes here.
    return Instance(
        instance.id,
        instance.service,
        instance.spec,
        instance.incarnation,
        recorded.version,
        event.to,
        event.cause,
        recorded.at,
        checks,
        instance.registered_at,
        recorded.position,
        instance.maintenance,
        instance.draining,
        event.to == "unhealthy" and event.was == "healthy",
        # Whatever it is instead, nobody has to be in doubt about it any more.
        instance.suspect if event.to == "unhealthy" else None,
    )


def _registered(instance: Instance | None, event: InstanceRegistered, recorded: Recorded[ServiceEvent]) -> Instance:
    assert instance is None, f"{event.instance} is registered twice"
    at, spec = recorded.at, event.spec
    unknown = CheckStatus("unknown", None, at)
    return Instance(
        event.instance,
        name_of(recorded.stream),
        spec,
        event.incarnation,
        recorded.version,
        event.health,
        None,
        at,
        {check.name: unknown for check in spec.checks},
        at,
        recorded.position,
        event.maintenance,
        event.draining,
    )


def _respecified(spec: Spec, event: _OfSpec) -> Spec:
    # What these events say beside whom it is about is called as the fields of the spec that they change.
    told: dict[str, object] = {field.name: getattr(event, field.name) for field in fields(event)}
    del told["instance"]
    return replace(spec, **told)  # type: ignore[arg-type]


def _changed(instance: Instance, event: _Change, recorded: Recorded[ServiceEvent]) -> Instance:
    at, spec = recorded.at, instance.spec
    match event:
        case InstanceCheckChanged():
            statuses = {**instance.checks, event.check: CheckStatus(event.to, event.cause, at)}
            # What is shown is another check's cause, and still holds, if this one did not have the instance's health before.
            mine = event.was == instance.health
            cause = first_cause(statuses, instance.health, instance.cause) if mine else instance.cause
            return replace(instance, checks=statuses, cause=cause)
        case InstanceChecksChanged():
            unknown = CheckStatus("unknown", None, at)
            kept = carried_over(instance.checks, spec.checks, event.checks, event.kept)
            statuses = {name: status or unknown for name, status in kept.items()}
            cause = first_cause(statuses, instance.health, None) if event.recaused else instance.cause
            return replace(instance, spec=replace(spec, checks=event.checks), checks=statuses, cause=cause)
        case InstanceMaintenanceSet():
            return replace(instance, maintenance=Mark(recorded.actor, recorded.reason, at))
        case InstanceMaintenanceCleared():
            return replace(instance, maintenance=None)
        case InstanceDrainStarted():
            return replace(instance, draining=Mark(recorded.actor, recorded.reason, at))
        case InstanceDrainEnded():
            return replace(instance, draining=None)
        case InstanceChecksDisputed():
            return replace(instance, suspect=Doubt(at, event.seconds))
        case InstanceSeenAnswering():
            assert instance.suspect is not None, f"{instance.id} is seen to answer, and nobody doubts it"
            return replace(
                instance, suspect=replace(instance.suspect, clients=event.clients, answering=event.answering)
            )
        case InstanceChecksBelieved():
            return replace(instance, suspect=None)
        case LeaseExpired():  # The removal follows as an event of its own; this one is there to be read.
            return instance
        case _:
            assert_never(event)
