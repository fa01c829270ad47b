"""The registry's aggregate: one service and its instances; stream `service/<name>`.

Commands   RegisterInstance · DeregisterInstance · ReportHealth · Heartbeat · SetMaintenance · ClearMaintenance ·
           DrainInstance · UndrainInstance; of the writer itself: ObserveCheck · ExpireLease · ExpireTtl · ExpireUnhealthy
Events     see `domain.registry.instance`
State      `Service` (`domain.registry.versions`): how many events its stream has, and the instances by id

A repeated command yields nothing. What runs out (leases, ttl checks, long illness) is said by `domain.registry.timers`; the
writer keeps the clock and comes back with an Expire command.
"""

from dataclasses import replace
from operator import attrgetter
from typing import Final, assert_never, get_args

from domain.decider import Decider, Parts, Renewed
from domain.message import Text
from domain.registry.admission import admit
from domain.registry.instance import (
    Instance,
    InstanceAddressChanged,
    InstanceCheckChanged,
    InstanceChecksChanged,
    InstanceDeregisterAfterChanged,
    InstanceDeregistered,
    InstanceDrainEnded,
    InstanceDrainStarted,
    InstanceHealthChanged,
    InstanceLeaseChanged,
    InstanceMaintenanceCleared,
    InstanceMaintenanceSet,
    InstanceMetadataChanged,
    InstanceRegistered,
    InstanceTagsChanged,
    InstanceWeightChanged,
    InstanceZoneChanged,
    LeaseExpired,
    Removal,
    ServiceEvent,
    carried_over,
    health_of,
)
from domain.registry.timers import InstanceTimer, keeps_timers, timers
from domain.registry.versions import INITIAL, Service, evolve
from muster.wire.command import Command
from muster.wire.error import InstanceNotFound, InvalidCommand, ServiceNotFound, StaleIncarnation
from muster.wire.registry.check import REPORTED, Health, TtlCheck, same_asked, worst
from muster.wire.registry.spec import Spec
from muster.wire.stream import SERVICE, Name

__all__ = ["DECIDER", "INITIAL", "Service", "decide", "evolve"]


class InstanceCommand(Command):
    """What all commands to an instance carry."""

    instance: Name


class RegisterInstance(InstanceCommand):
    """Be here, as `spec` says. Identical: the lease is renewed; changed: events name what changed."""

    type = "muster.instance.register.v1"
    spec: Spec


class DeregisterInstance(InstanceCommand):
    """Leave."""

    type = "muster.instance.deregister.v1"
    incarnation: int | None = None


class ReportHealth(InstanceCommand):
    """Say how the instance is: `check` is one of its ttl checks, or the reported check when left out."""

    type = "muster.instance.report_health.v1"
    status: Health
    cause: Text | None = None
    check: Name = REPORTED
    incarnation: int | None = None


class Heartbeat(InstanceCommand):
    """Still here: renews the lease and the ttl checks."""

    type = "muster.instance.heartbeat.v1"
    incarnation: int | None = None


class SetMaintenance(InstanceCommand):
    """Take it out of discovery for maintenance."""

    type = "muster.instance.set_maintenance.v1"


class ClearMaintenance(InstanceCommand):
    """Maintenance is over."""

    type = "muster.instance.clear_maintenance.v1"


class DrainInstance(InstanceCommand):
    """Take it out of discovery because it is about to leave."""

    type = "muster.instance.drain.v1"


class UndrainInstance(InstanceCommand):
    """It stays after all."""

    type = "muster.instance.undrain.v1"


class ObserveCheck(InstanceCommand):
    """A check of this incarnation has come to another status."""

    type = "muster.instance.observe_check.v1"
    incarnation: int
    check: Name
    status: Health
    cause: Text | None = None


class ExpireLease(InstanceCommand):
    """The lease has run out."""

    type = "muster.instance.expire_lease.v1"
    incarnation: int


class ExpireTtl(InstanceCommand):
    """A ttl check was not renewed in time."""

    type = "muster.instance.expire_ttl.v1"
    incarnation: int
    check: Name


class ExpireUnhealthy(InstanceCommand):
    """It was unhealthy for too long."""

    type = "muster.instance.expire_unhealthy.v1"
    incarnation: int


PublicCommand = (
    RegisterInstance
    | DeregisterInstance
    | ReportHealth
    | Heartbeat
    | SetMaintenance
    | ClearMaintenance
    | DrainInstance
    | UndrainInstance
)
"""What anyone may ask of a service."""

OwnCommand = ObserveCheck | ExpireLease | ExpireTtl | ExpireUnhealthy
"""What the writer of the partition has seen: a check's result, a timer that has run out."""

ServiceCommand = PublicCommand | OwnCommand


def decide(command: ServiceCommand, state: Service) -> list[ServiceEvent]:
    """What the command makes happen. Raises a `Refused`; an empty list: already so."""
    instance = state.instances.get(command.instance)
    match command:
        case ReportHealth():  # First, because it is most of all commands.
            return _reported(command, _spoken_for(command, instance, state))
        case Heartbeat():
            return _heard(_spoken_for(command, instance, state))
        case RegisterInstance():
            return _register(command, instance, state)
        case ObserveCheck() | ExpireLease() | ExpireTtl() | ExpireUnhealthy():
            # What the writer has seen of an incarnation that has gone meanwhile is late, not wrong.
            late = instance is None or instance.incarnation != command.incarnation
            return [] if instance is None or late else _observed(command, instance)
        case DeregisterInstance():
            # No refusal when it is gone: a repeated removal finds nothing left to do.
            return [] if instance is None else [_removed(_spoken_for(command, instance, state), "requested")]
        case SetMaintenance() | ClearMaintenance() | DrainInstance() | UndrainInstance():
            return _marked(command, _registered(command, instance, state))
        case _:
            assert_never(command)


def _registered(command: InstanceCommand, instance: Instance | None, state: Service) -> Instance:
    """The instance that the command is about. Raises ServiceNotFound or InstanceNotFound."""
    # A service has no life of its own: it is there as long as one of its instances is.
    if instance is None and not state.instances:
        raise ServiceNotFound("no instance of this service is registered")
    if instance is None:
        raise InstanceNotFound(
            f"instance {command.instance} is not registered; register it again", instance=command.instance
        )
    return instance


def _spoken_for(
    command: ReportHealth | Heartbeat | DeregisterInstance, instance: Instance | None, state: Service
) -> Instance:
    """The instance that the caller speaks for. Raises as `_registered`, and StaleIncarnation."""
    found = _registered(command, instance, state)
    # A process that was replaced under the same id must not speak for its successor. A caller that names no
    # incarnation speaks for the present one.
    if command.incarnation is not None and command.incarnation != found.incarnation:
        raise StaleIncarnation(
            f"{found.id} is at incarnation {found.incarnation}, not {command.incarnation}",
            incarnation=found.incarnation,
        )
    return found


def _marked(
    command: SetMaintenance | ClearMaintenance | DrainInstance | UndrainInstance, instance: Instance
) -> list[ServiceEvent]:
    match command:
        case SetMaintenance():
            return [] if instance.maintenance else [InstanceMaintenanceSet(instance=instance.id)]
        case ClearMaintenance():
            return [InstanceMaintenanceCleared(instance=instance.id)] if instance.maintenance else []
        case DrainInstance():
            return [] if instance.draining else [InstanceDrainStarted(instance=instance.id)]
        case UndrainInstance():
            return [InstanceDrainEnded(instance=instance.id)] if instance.draining else []
        case _:
            assert_never(command)


def _observed(command: OwnCommand, instance: Instance) -> list[ServiceEvent]:
    match command:
        case ObserveCheck():
            # The spec may have lost the check since the checker asked it, within the same incarnation.
            known = command.check in instance.checks
            return _checked(instance, command.check, command.status, command.cause) if known else []
        case ExpireTtl():
            known = command.check in instance.checks
            cause = "no heartbeat within the ttl"
            return _checked(instance, command.check, "unhealthy", cause) if known else []
        case ExpireLease():
            seconds = instance.spec.lease_seconds
            if seconds is None:
                return []
            expired = LeaseExpired(instance=instance.id, incarnation=instance.incarnation, lease_seconds=seconds)
            # Both in one batch: nobody sees an instance whose lease is over and which is still here.
            return [expired, _removed(instance, "lease_expired")]
        case ExpireUnhealthy():
            wanted = instance.health == "unhealthy" and instance.spec.deregister_after_seconds is not None
            return [_removed(instance, "unhealthy_too_long")] if wanted else []
        case _:
            assert_never(command)


def _register(command: RegisterInstance, instance: Instance | None, state: Service) -> list[ServiceEvent]:
    admit(command.spec.checks, instance.spec.checks if instance is not None else ())
    if instance is None:
        health: Health = "unknown" if command.spec.checks else "healthy"
        return [
            # The stream's version only grows, also across removals, so no two incarnations get the same number.
            InstanceRegistered(instance=command.instance, incarnation=state.version, spec=command.spec, health=health)
        ]
    # Nothing is recorded, but the lease gets its full length again: see `renews`.
    if instance.spec == command.spec:
        return []
    return _changes(instance, command.spec)


def _changes(instance: Instance, spec: Spec) -> list[ServiceEvent]:
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
        health = health_of(carried_over(instance, spec.checks, kept).values())
        if health != instance.health:
            changed = InstanceHealthChanged(instance=name, was=instance.health, to=health, cause="the checks changed")
            events.append(changed)
    return events


def _reported(command: ReportHealth, instance: Instance) -> list[ServiceEvent]:
    if command.check != REPORTED and command.check not in {
        check.name for check in instance.spec.checks if isinstance(check, TtlCheck)
    }:
        raise InvalidCommand(
            f"{command.check!r} is no ttl check of {instance.id}; only those and {REPORTED!r} can be reported",
            field="check",
        )
    return _checked(instance, command.check, command.status, command.cause)


def _heard(instance: Instance) -> list[ServiceEvent]:
    events: list[ServiceEvent] = []
    for check in instance.spec.checks:
        if isinstance(check, TtlCheck) and (events_of_check := _checked(instance, check.name, "healthy", "heartbeat")):
            events += events_of_check
            # The next check is decided on what this one has changed. Otherwise two that recover together would both
            # say that they changed the instance's health, and `evolve` would find a gap.
            checks = {**instance.checks, check.name: replace(instance.checks[check.name], status="healthy")}
            instance = replace(instance, checks=checks, health=health_of(checks.values()))
    return events


def _checked(instance: Instance, check: str, status: Health, cause: str | None) -> list[ServiceEvent]:
    before = instance.checks.get(check)
    was: Health = before.status if before else "unknown"
    # A first report is recorded even when it says unknown: from then on the reported check counts for the health.
    if before is not None and was == status:
        return []
    statuses = [found.status for name, found in instance.checks.items() if name != check]
    statuses.append(status)
    health = worst(statuses)
    if health != instance.health:
        flipped = InstanceHealthChanged(
            instance=instance.id, was=instance.health, to=health, cause=cause, check=check, check_status=status
        )
        return [flipped]
    return [InstanceCheckChanged(instance=instance.id, check=check, was=was, to=status, cause=cause)]


def _removed(instance: Instance, cause: Removal) -> InstanceDeregistered:
    return InstanceDeregistered(
        instance=instance.id, incarnation=instance.incarnation, cause=cause, health=instance.health
    )


def renews(command: ServiceCommand) -> Renewed | None:
    """Which timers the command, once answered, gives their full length again; None: none at all, as of most reports."""
    match command:
        case ReportHealth(check=check, status=status):
            # Reported health has no ttl, and a ttl check that is unhealthy has no timer: see `timers`.
            if check == REPORTED or status == "unhealthy":
                return None
            return lambda timer: timer.kind == "ttl" and timer.check == check
        case Heartbeat():
            # A heartbeat says nothing about the other checks, so a long illness goes on being counted.
            return lambda timer: timer.kind != "unhealthy"
        case RegisterInstance():
            return lambda timer: timer.kind == "lease"
        case _:
            return None


def expire(timer: InstanceTimer) -> OwnCommand:
    """The command to give when the timer has run out."""
    match timer.kind:
        case "lease":
            return ExpireLease(instance=timer.instance, incarnation=timer.incarnation)
        case "ttl":
            return ExpireTtl(instance=timer.instance, incarnation=timer.incarnation, check=timer.check)
        case "unhealthy":
            return ExpireUnhealthy(instance=timer.instance, incarnation=timer.incarnation)


DECIDER: Final[Decider[Service, ServiceCommand, ServiceEvent]] = Decider(
    stream=SERVICE,
    commands=get_args(PublicCommand),
    own=get_args(OwnCommand),
    events=get_args(ServiceEvent),
    initial=INITIAL,
    decide=decide,
    evolve=evolve,
    parts=Parts(
        item=attrgetter("instance"),
        items=lambda state: state.instances,
        part=lambda state, instance: state.instances.get(instance),
        version=lambda instance: None if instance is None else instance.version,
        incarnation=attrgetter("incarnation"),
        timers=timers,
        keeps_timers=keeps_timers,
        renews=renews,
        expire=expire,
    ),
)
