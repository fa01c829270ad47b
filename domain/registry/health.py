"""What is heard of an instance, as events: a check's status, a heartbeat, its end; and which checks are not believed at once.

Checks of the controller's own that fail together say more about the controller's way to the instances than about these. When
three or more of a service have fallen within two seconds (within the check's interval, if that is longer: it is asked no more
often), and more than are left healthy, those that fell are in doubt: they go on serving. So does who falls while there is doubt.
It ends for each by itself: its checks succeed, somebody else says that it is ill too, an operator says so, or time passes.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from domain.registry.doubt.event import InstanceChecksBelieved, InstanceChecksDisputed
from domain.registry.instance import (
    Instance,
    InstanceCheckChanged,
    InstanceDeregistered,
    InstanceHealthChanged,
    LeaseExpired,
    ServiceEvent,
)
from domain.registry.status import Removal, health_of
from domain.registry.versions import Service, own_check
from muster.wire.registry.check import Health, TtlCheck, worst

TOGETHER_SECONDS: Final = 2.0
FALLEN_MIN: Final = 3
disputed_max: Final = 100
"""Of those that fell before, so many are taken back at once: each further fall takes back more."""


def heard(instance: Instance) -> list[ServiceEvent]:
    """What a heartbeat changes: every ttl check that was not healthy is."""
    events: list[ServiceEvent] = []
    for check in instance.spec.checks:
        if isinstance(check, TtlCheck) and (events_of_check := checked(instance, check.name, "healthy", "heartbeat")):
            events += events_of_check
            # The next check is decided on what this one has changed. Otherwise two that recover together would both
            # say that they changed the instance's health, and `evolve` would find a gap.
            checks = {**instance.checks, check.name: replace(instance.checks[check.name], status="healthy")}
            instance = replace(instance, checks=checks, health=health_of(checks.values()))
    return events


def is_well(instance: Instance) -> bool:
    """Whether a heartbeat surely changes nothing: no ttl check waits for one."""
    # Most instances have no check at all, and this is asked of each of them with each beat.
    return not instance.spec.checks or all(
        instance.checks[check.name].status == "healthy" for check in instance.spec.checks if isinstance(check, TtlCheck)
    )


def checked(instance: Instance, check: str, status: Health, cause: str | None) -> list[ServiceEvent]:
    """What a check's status changes: the instance's health, or that check alone, or nothing."""
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
    changed = InstanceCheckChanged(instance=instance.id, check=check, was=was, to=status, cause=cause)
    if instance.suspect is not None and status == "unhealthy" and own_check(instance, check) is None:
        # The second opinion: whoever says so does not stand where the checks stand.
        return [changed, InstanceChecksBelieved(instance=instance.id, because="reported")]
    return [changed]


def fallen(
    instance: Instance, fall: InstanceHealthChanged, service: Service, at: datetime, seconds: float
) -> list[ServiceEvent]:
    """What it makes happen that the instance falls, at this instant, by a check of the controller's own: if most of the service
    falls together, those that fell go on serving for `seconds`.
    """
    own = own_check(instance, fall.check)
    if own is None:
        return [fall]
    since = at - timedelta(seconds=max(TOGETHER_SECONDS, own.interval_seconds))
    count, left = service.falls.count(since) + 1, service.healthy - 1
    # By numbers first, so that a single fall is as quick as it ever was. While there is doubt, it is about all who fall.
    if not service.doubted and (count < FALLEN_MIN or count <= left):
        return [fall]
    # As many in doubt as have fallen: these are they.
    others = [] if service.doubted >= count - 1 else list(islice(_ill(instance, service, since), count))
    # Some of those that were counted are well again, or gone, or ill by the word of others too.
    if not service.doubted and (len(others) + 1 < FALLEN_MIN or len(others) < left):
        return [fall]
    # Before the fall itself, so that the instance is never out of discovery in between.
    names = [*(other.id for other in others[:disputed_max]), instance.id]
    told = (InstanceChecksDisputed(instance=name, seconds=seconds, fallen=count, healthy=left) for name in names)
    return [*told, fall]


def _ill(instance: Instance, service: Service, since: datetime) -> Iterator[Instance]:
    """Others that fell since, are still ill, and of which nobody but the controller's checks says so; the newest first."""
    seen = {instance.id}
    for name in service.falls.names(since):
        other = service.instances.get(name)
        if name in seen or other is None or not other.fell or other.health != "unhealthy" or other.suspect is not None:
            continue
        seen.add(name)
        ill = (check for check, found in other.checks.items() if found.status == "unhealthy")
        if all(own_check(other, check) is not None for check in ill):
            yield other


def overdue(instance: Instance, check: str) -> list[ServiceEvent]:
    """What it changes that a ttl check was not renewed in time."""
    # The spec may have lost the check since then, within the same incarnation.
    return checked(instance, check, "unhealthy", "no heartbeat within the ttl") if check in instance.checks else []


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
