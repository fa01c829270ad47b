"""The registry's aggregate: one service and its instances; stream `service/<name>`.

Commands   RegisterInstance · DeregisterInstance · ReportHealth · Heartbeat · SetMaintenance · ClearMaintenance ·
           DrainInstance · UndrainInstance; from inside: ObserveCheck · ExpireLease · ExpireTtl · ExpireUnhealthy
Events     see `domain.registry.instance`
State      `Service` (`domain.registry.versions`): how many events its stream has, and the instances by id

A repeated command yields nothing. What runs out (leases, ttl checks, long illness) is told by `timers`; the writer keeps
the clock and comes back with an Expire command.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final, Literal, NamedTuple, cast

from domain.message import Event, Text
from domain.registry.instance import (
    EVENTS,
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
    carried_over,
    health_of,
)
from domain.registry.versions import INITIAL, Service, evolve, fold
from muster.wire.check import REPORTED, Health, TtlCheck, worst
from muster.wire.command import Command
from muster.wire.error import InstanceNotFound, InvalidCommand, ServiceNotFound, StaleIncarnation
from muster.wire.spec import Spec
from muster.wire.stream import Name

__all__ = [
    "COMMANDS",
    "EVENTS",
    "INITIAL",
    "INTERNAL_COMMANDS",
    "Service",
    "Timer",
    "decide",
    "evolve",
    "fold",
]


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


COMMANDS: Final = (
    RegisterInstance,
    DeregisterInstance,
    ReportHealth,
    Heartbeat,
    SetMaintenance,
    ClearMaintenance,
    DrainInstance,
    UndrainInstance,
)
INTERNAL_COMMANDS: Final = (ObserveCheck, ExpireLease, ExpireTtl, ExpireUnhealthy)


def decide(command: Command, state: Service) -> list[Event]:
    """What the command makes happen. Raises a `Refused`; an empty list: already so."""
    asked = cast(
        InstanceCommand, command
    )  # `isinstance` that fails costs 0.4 µs: what comes most often is told by its type.
    instance = state.instances.get(asked.instance)
    if instance is not None and type(asked) is ReportHealth:
        _same_incarnation(asked.incarnation, instance)
        return _reported(asked, instance)
    return _decide(asked, instance, state)


def _decide(command: InstanceCommand, instance: Instance | None, state: Service) -> list[Event]:
    if isinstance(command, RegisterInstance):
        return _register(command, instance, state)
    if isinstance(command, ObserveCheck | ExpireLease | ExpireTtl | ExpireUnhealthy):
        # What comes from inside about an incarnation that has gone is late, not wrong.
        return [] if instance is None or instance.incarnation != command.incarnation else _inside(command, instance)
    if instance is None:
        if isinstance(command, DeregisterInstance):
            return []
        if not state.instances:
            raise ServiceNotFound("no instance of this service is registered")
        raise InstanceNotFound(
            f"instance {command.instance} is not registered; register it again", instance=command.instance
        )
    match command:
        case DeregisterInstance():
            _same_incarnation(command.incarnation, instance)
            return [_removed(instance, "requested")]
        case Heartbeat():
            _same_incarnation(command.incarnation, instance)
            return _heard(instance)
        case SetMaintenance():
            return [] if instance.maintenance else [InstanceMaintenanceSet(instance=instance.id)]
        case ClearMaintenance():
            return [InstanceMaintenanceCleared(instance=instance.id)] if instance.maintenance else []
        case DrainInstance():
            return [] if instance.draining else [InstanceDrainStarted(instance=instance.id)]
        case UndrainInstance():
            return [InstanceDrainEnded(instance=instance.id)] if instance.draining else []
        case _:
            raise AssertionError(f"no decision for {type(command).__name__}")


def _inside(command: ObserveCheck | ExpireLease | ExpireTtl | ExpireUnhealthy, instance: Instance) -> list[Event]:
    match command:
        case ObserveCheck():
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
            return [expired, _removed(instance, "lease_expired")]
        case ExpireUnhealthy():
            wanted = instance.health == "unhealthy" and instance.spec.deregister_after_seconds is not None
            return [_removed(instance, "unhealthy_too_long")] if wanted else []


def _register(command: RegisterInstance, instance: Instance | None, state: Service) -> list[Event]:
    if instance is None:
        health: Health = "unknown" if command.spec.checks else "healthy"
        return [
            InstanceRegistered(instance=command.instance, incarnation=state.version, spec=command.spec, health=health)
        ]
    if instance.spec == command.spec:
        return []
    return _changes(instance, command.spec)


def _changes(instance: Instance, spec: Spec) -> list[Event]:
    old, name = instance.spec, instance.id
    events: list[Event] = []
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
    if old.checks != spec.checks:
        events.append(InstanceChecksChanged(instance=name, checks=spec.checks))
        health = health_of(carried_over(instance, spec.checks).values())
        if health != instance.health:
            changed = InstanceHealthChanged(instance=name, was=instance.health, to=health, cause="the checks changed")
            events.append(changed)
    return events


def _reported(command: ReportHealth, instance: Instance) -> list[Event]:
    if command.check != REPORTED and command.check not in {
        check.name for check in instance.spec.checks if isinstance(check, TtlCheck)
    }:
        raise InvalidCommand(
            f"{command.check!r} is no ttl check of {instance.id}; only those and {REPORTED!r} can be reported",
            field="check",
        )
    return _checked(instance, command.check, command.status, command.cause)


def _heard(instance: Instance) -> list[Event]:
    events: list[Event] = []
    for check in instance.spec.checks:
        if isinstance(check, TtlCheck) and (told := _checked(instance, check.name, "healthy", "heartbeat")):
            events += told
            checks = {**instance.checks, check.name: replace(instance.checks[check.name], status="healthy")}
            instance = replace(instance, checks=checks, health=health_of(checks.values()))
    return events


def _checked(instance: Instance, check: str, status: Health, cause: str | None) -> list[Event]:
    before = instance.checks.get(check)
    was: Health = before.status if before else "unknown"
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


def _same_incarnation(incarnation: int | None, instance: Instance) -> None:
    if incarnation is not None and incarnation != instance.incarnation:
        raise StaleIncarnation(
            f"{instance.id} is at incarnation {instance.incarnation}, not {incarnation}",
            incarnation=instance.incarnation,
        )


class Timer(NamedTuple):
    """Something that runs out after `seconds` unless renewed; `check` names the ttl check."""

    instance: str
    incarnation: int
    kind: Literal["lease", "ttl", "unhealthy"]
    seconds: float
    check: str = ""

    @property
    def name(self) -> str:
        """What tells it from others of its kind."""
        return self.check


def timers(instance: Instance) -> tuple[Timer, ...]:
    """All that can run out for the instance now."""
    spec, wanted = instance.spec, []
    if spec.lease_seconds is not None:
        wanted.append(Timer(instance.id, instance.incarnation, "lease", spec.lease_seconds, ""))
    for check in spec.checks:
        if isinstance(check, TtlCheck) and instance.checks[check.name].status != "unhealthy":
            wanted.append(Timer(instance.id, instance.incarnation, "ttl", check.ttl_seconds, check.name))
    if spec.deregister_after_seconds is not None and instance.health == "unhealthy":
        wanted.append(Timer(instance.id, instance.incarnation, "unhealthy", spec.deregister_after_seconds, ""))
    return tuple(wanted)


def keeps_timers(event: Event, instance: Instance) -> bool:
    """Whether the event, behind which the instance stands so, surely leaves its timers alone: as most do, which are reports."""
    reported = type(event) is InstanceHealthChanged and event.check == REPORTED
    return reported and instance.spec.deregister_after_seconds is None


def renews(command: Command) -> Callable[[Timer], bool] | None:
    """Which timers the command, once answered, gives their full length again; None: none at all, as of most reports."""
    kind = type(command)
    if kind is ReportHealth:
        report = cast(ReportHealth, command)
        if report.check == REPORTED or report.status == "unhealthy":
            return None
        return lambda timer: timer.kind == "ttl" and timer.check == report.check
    if kind is Heartbeat:
        return lambda timer: timer.kind != "unhealthy"
    return (lambda timer: timer.kind == "lease") if kind is RegisterInstance else None


def expire(timer: Timer) -> Command:
    """The command to give when the timer has run out."""
    match timer.kind:
        case "lease":
            return ExpireLease(instance=timer.instance, incarnation=timer.incarnation)
        case "ttl":
            return ExpireTtl(instance=timer.instance, incarnation=timer.incarnation, check=timer.check)
        case "unhealthy":
            return ExpireUnhealthy(instance=timer.instance, incarnation=timer.incarnation)
