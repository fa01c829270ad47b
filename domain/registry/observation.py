"""What the writer of the partition has seen itself of an instance: a check's result, a timer that has run out."""

from typing import assert_never

from domain.message import Text
from domain.registry.doubt.event import InstanceChecksBelieved
from domain.registry.health import checked, expired, fallen, overdue, removed
from domain.registry.instance import Instance, InstanceHealthChanged, ServiceEvent
from domain.registry.timers import InstanceTimer
from domain.registry.versions import Service
from muster.wire.command import Command, Instant, Whole
from muster.wire.registry.check import Health
from muster.wire.stream import Name


class InstanceCommand(Command):
    """What all commands to an instance carry."""

    instance: Name


class ObserveCheck(InstanceCommand):
    """A check of this incarnation has come to another status, at this instant. `mass_flip_seconds`: for so long those go on
    serving that fall together with most of the service; 0: they do not.
    """

    type = "muster.instance.observe_check.v1"
    incarnation: Whole
    check: Name
    status: Health
    cause: Text | None = None
    at: Instant | None = None
    mass_flip_seconds: float = 0.0


class ExpireLease(InstanceCommand):
    """The lease has run out."""

    type = "muster.instance.expire_lease.v1"
    incarnation: Whole


class ExpireTtl(InstanceCommand):
    """A ttl check was not renewed in time."""

    type = "muster.instance.expire_ttl.v1"
    incarnation: Whole
    check: Name


class ExpireUnhealthy(InstanceCommand):
    """It was unhealthy for too long."""

    type = "muster.instance.expire_unhealthy.v1"
    incarnation: Whole


class ExpireDoubt(InstanceCommand):
    """Its checks have been in doubt for long enough."""

    type = "muster.instance.expire_doubt.v1"
    incarnation: Whole


OwnCommand = ObserveCheck | ExpireLease | ExpireTtl | ExpireUnhealthy | ExpireDoubt
"""What the writer of the partition has seen: a check's result, a timer that has run out."""


def observed(command: OwnCommand, instance: Instance, state: Service) -> list[ServiceEvent]:
    """What it changes, of the instance that it is about."""
    match command:
        case ObserveCheck():
            # The spec may have lost the check since the checker asked it, within the same incarnation.
            known = command.check in instance.checks
            events = checked(instance, command.check, command.status, command.cause) if known else []
            match events:
                case [InstanceHealthChanged(was="healthy", to="unhealthy") as fall] if command.at is not None:
                    seconds = command.mass_flip_seconds
                    return fallen(instance, fall, state, command.at, seconds) if seconds else events
                case _:
                    return events
        case ExpireTtl():
            return overdue(instance, command.check)
        case ExpireLease():
            return expired(instance)
        case ExpireUnhealthy():
            ill = instance.health == "unhealthy" and instance.suspect is None
            wanted = ill and instance.spec.deregister_after_seconds is not None
            return [removed(instance, "unhealthy_too_long")] if wanted else []
        case ExpireDoubt():
            doubted = instance.suspect is not None
            return [InstanceChecksBelieved(instance=instance.id, because="time")] if doubted else []
        case _:
            assert_never(command)


def expire(timer: InstanceTimer) -> OwnCommand:
    """The command to give when the timer has run out."""
    match timer.kind:
        case "lease":
            return ExpireLease(instance=timer.instance, incarnation=timer.incarnation)
        case "ttl":
            return ExpireTtl(instance=timer.instance, incarnation=timer.incarnation, check=timer.check)
        case "unhealthy":
            return ExpireUnhealthy(instance=timer.instance, incarnation=timer.incarnation)
        case "doubt":
            return ExpireDoubt(instance=timer.instance, incarnation=timer.incarnation)
