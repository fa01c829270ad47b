"""The registry's aggregate: one service and its instances; stream `service/<name>`.

Commands   RegisterInstance · DeregisterInstance · ReportHealth · Heartbeat · SetMaintenance · ClearMaintenance ·
           DrainInstance · UndrainInstance · BelieveChecks; of telemetry: ReportSilence; of the writer itself: ObserveCheck ·
           ExpireLease · ExpireTtl · ExpireUnhealthy · ExpireDoubt · WeighClients
Events     see `domain.registry.instance`
State      `Service` (`domain.registry.versions`): how many events its stream has, and the instances by id

A repeated command yields nothing. What runs out (leases, ttl checks, long illness) is said by `domain.registry.timers`; the
writer keeps the clock and comes back with an Expire command.
"""

from operator import attrgetter
from typing import Annotated, ClassVar, Final, assert_never, get_args

from pydantic import Field

from domain.decider import Decider, Parts, Renewed
from domain.message import Text
from domain.registry.admission import admit, admit_heartbeats
from domain.registry.changes import changes
from domain.registry.doubt.event import InstanceChecksBelieved
from domain.registry.doubt.opinion import WeighClients, weighed
from domain.registry.health import checked, heard, is_well, removed
from domain.registry.instance import (
    Instance,
    InstanceDrainEnded,
    InstanceDrainStarted,
    InstanceMaintenanceCleared,
    InstanceMaintenanceSet,
    InstanceRegistered,
    ServiceEvent,
)
from domain.registry.observation import (
    ExpireDoubt,
    ExpireLease,
    ExpireTtl,
    ExpireUnhealthy,
    InstanceCommand,
    ObserveCheck,
    OwnCommand,
    expire,
    observed,
)
from domain.registry.silence import ReportSilence, reported
from domain.registry.timers import keeps_timers, left, timers
from domain.registry.versions import INITIAL, NOTHING, Kept, Service, evolve
from muster.wire.command import Command, Whole
from muster.wire.error import InstanceNotFound, InvalidCommand, ServiceNotFound, StaleIncarnation
from muster.wire.registry.check import REPORTED, Health, TtlCheck
from muster.wire.registry.spec import Spec
from muster.wire.stream import SERVICE, Name

believed_max: Final = 1_000

__all__ = ["DECIDER", "INITIAL", "Service", "decide", "evolve"]


def _absent(value: object) -> bool:
    return value is None


# Left out where they are not given: the hash of what a command asks stays what it was before there were holders, and a command
# that the log remembers is known again.
_Incarnation = Annotated[Whole | None, Field(exclude_if=_absent)]
_Holder = Annotated[Name | None, Field(exclude_if=_absent)]
_OnlyOf = Annotated[Name | None, Field(exclude_if=_absent, description="Only for what this holder has registered")]


class RegisterInstance(InstanceCommand):
    """Be here, as `spec` says. Identical: the lease is renewed; changed: events name what changed.

    `holder` is whoever registers, by an id that it has made for itself (None: it does not say). What another holder has
    registered under this id is removed, and a new incarnation begins. `incarnation`: the one that the caller had, and only
    returns to; it is refused when another has come since.
    """

    type = "muster.instance.register.v1"
    spec: Spec
    holder: _Holder = None
    incarnation: _Incarnation = None


class DeregisterInstance(InstanceCommand):
    """Leave."""

    type = "muster.instance.deregister.v1"
    incarnation: Whole | None = None
    holder: _OnlyOf = None


class ReportHealth(InstanceCommand):
    """Say how the instance is: `check` is one of its ttl checks, or the reported check when left out."""

    type = "muster.instance.report_health.v1"
    status: Health
    cause: Text | None = None
    check: Name = REPORTED
    incarnation: Whole | None = None
    holder: _OnlyOf = None


class Heartbeat(InstanceCommand):
    """Still here: renews the lease and the ttl checks."""

    type = "muster.instance.heartbeat.v1"
    incarnation: Whole | None = None
    holder: _OnlyOf = None


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


class BelieveChecks(Command):
    """Take those whose checks have failed together out of discovery: they are ill. `instances`: only these; none: all of them."""

    type = "muster.instance.believe_checks.v1"
    # It is about several; the partition asks each command for one.
    instance: ClassVar[str] = ""
    instances: Annotated[tuple[Name, ...], Field(max_length=believed_max)] = ()


PublicCommand = (
    RegisterInstance
    | DeregisterInstance
    | ReportHealth
    | Heartbeat
    | SetMaintenance
    | ClearMaintenance
    | DrainInstance
    | UndrainInstance
    | BelieveChecks
    | ReportSilence
)
"""What anyone may ask of a service."""

ServiceCommand = PublicCommand | OwnCommand | WeighClients


def decide(command: ServiceCommand, state: Service) -> list[ServiceEvent]:
    """What the command makes happen. Raises a `Refused`; an empty list: already so."""
    instance = state.instances.get(command.instance)
    match command:
        case ReportHealth():  # First, because it is most of all commands.
            return _reported(command, _spoken_for(command, instance, state))
        case Heartbeat():
            return heard(_spoken_for(command, instance, state))
        case RegisterInstance():
            return _register(command, instance, state)
        case ObserveCheck() | ExpireLease() | ExpireTtl() | ExpireUnhealthy() | ExpireDoubt():
            # What the writer has seen of an incarnation that has gone meanwhile is late, not wrong.
            late = instance is None or instance.incarnation != command.incarnation
            return [] if instance is None or late else observed(command, instance, state)
        case DeregisterInstance():
            # No refusal when it is gone: a repeated removal finds nothing left to do.
            return [] if instance is None else [removed(_spoken_for(command, instance, state), "requested")]
        case SetMaintenance() | ClearMaintenance() | DrainInstance() | UndrainInstance():
            cleared = [] if instance is not None else _cleared(command, state)
            return cleared or _marked(command, _registered(command, instance, state))
        case BelieveChecks():
            return _believed(command, state)
        case ReportSilence():
            return reported(command, state)
        case WeighClients():
            return weighed(command, state)
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
    # Who holds it does not have to know the number: the answer that had it may have been lost.
    if command.holder is not None and command.holder != state.holders.get(found.id):
        raise _another(found)
    return found


def _another(found: Instance) -> StaleIncarnation:
    return StaleIncarnation(
        f"{found.id} is at incarnation {found.incarnation}, which another holder has registered",
        incarnation=found.incarnation,
    )


def _cleared(
    command: SetMaintenance | ClearMaintenance | DrainInstance | UndrainInstance, state: Service
) -> list[ServiceEvent]:
    """What takes a mark off the name of an instance that is gone; nothing, if none was kept for it."""
    kept = state.kept.get(command.instance)
    match command:
        case ClearMaintenance() if kept is not None and kept.maintenance is not None:
            return [InstanceMaintenanceCleared(instance=command.instance)]
        case UndrainInstance() if kept is not None and kept.draining is not None:
            return [InstanceDrainEnded(instance=command.instance)]
        case _:
            return []


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


def _believed(command: BelieveChecks, state: Service) -> list[ServiceEvent]:
    if not state.instances:
        raise ServiceNotFound("no instance of this service is registered")
    for name in command.instances:
        if name not in state.instances:
            raise InstanceNotFound(f"instance {name} is not registered", instance=name)
    names = dict.fromkeys(command.instances) or state.instances
    return [InstanceChecksBelieved(instance=name, because="told") for name in names if state.instances[name].suspect]


def _register(command: RegisterInstance, instance: Instance | None, state: Service) -> list[ServiceEvent]:
    admit(command.spec.checks, instance.spec.checks if instance is not None else ())
    # As it stands in the log already it may be registered again, whatever the limits are by then.
    if instance is None or instance.spec != command.spec:
        admit_heartbeats(command.spec)
    if instance is None:
        return [_arrival(command, state.version, state.kept.get(command.instance, NOTHING))]
    same = command.holder == state.holders.get(instance.id)
    # Decided here, at the writer: whoever looks first and registers then may have been succeeded in between. A holder may
    # have missed its own newest number, so it is asked for the number only where it cannot be told by its id.
    if command.incarnation not in (None, instance.incarnation) and (not same or command.holder is None):
        raise _another(instance)
    if not same:
        # Both in one batch, so nobody sees the name without an instance. What the one before still says (its leave, a
        # heartbeat, a check's late result) is of an incarnation that is over.
        kept = Kept(instance.maintenance, instance.draining, state.version)
        return [removed(instance, "succeeded"), _arrival(command, state.version + 1, kept)]
    # Nothing is recorded, but the lease gets its full length again: see `renews`.
    return [] if instance.spec == command.spec else changes(instance, command.spec)


def _arrival(command: RegisterInstance, version: int, kept: Kept) -> InstanceRegistered:
    # The stream's version only grows, also across removals, so no two incarnations get the same number.
    return InstanceRegistered(
        instance=command.instance,
        incarnation=version,
        spec=command.spec,
        health="unknown" if command.spec.checks else "healthy",
        holder=command.holder,
        maintenance=kept.maintenance,
        draining=kept.draining,
    )


def _reported(command: ReportHealth, instance: Instance) -> list[ServiceEvent]:
    if command.check != REPORTED and command.check not in {
        check.name for check in instance.spec.checks if isinstance(check, TtlCheck)
    }:
        raise InvalidCommand(
            f"{command.check!r} is no ttl check of {instance.id}; only those and {REPORTED!r} can be reported",
            field="check",
        )
    return checked(instance, command.check, command.status, command.cause)


def renews(command: ServiceCommand) -> Renewed | None:
    """Which timers the command, once answered, gives their full length again; None: none at all, as of most reports."""
    match command:
        case ReportHealth(check=check, status=status):
            # Reported health has no ttl, and a ttl check that is unhealthy has no timer: see `timers`.
            if check == REPORTED or status == "unhealthy":
                return None
            return lambda timer: timer.kind == "ttl" and timer.check == check
        case Heartbeat():
            # A heartbeat says nothing about the other checks: a long illness goes on being counted, and so does a doubt.
            return lambda timer: timer.kind in ("lease", "ttl")
        case RegisterInstance():
            return lambda timer: timer.kind == "lease"
        case _:
            return None


def is_only_sign(command: Heartbeat, state: Service) -> bool:
    """Whether the heartbeat surely changes nothing: of an instance that is there, by who may speak for it, and well."""
    found = state.instances.get(command.instance)
    if found is None or command.incarnation not in (None, found.incarnation):
        return False
    return command.holder in (None, state.holders.get(found.id)) and is_well(found)


DECIDER: Final[Decider[Service, ServiceCommand, ServiceEvent]] = Decider(
    stream=SERVICE,
    commands=get_args(PublicCommand),
    own=(*get_args(OwnCommand), WeighClients),
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
        left=left,
        renews=renews,
        expire=expire,
        signs={Heartbeat: is_only_sign},
    ),
)
