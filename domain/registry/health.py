"""What is heard of an instance, as events: a check's status, a heartbeat."""

from dataclasses import replace

from domain.registry.instance import Instance, InstanceCheckChanged, InstanceHealthChanged, ServiceEvent
from domain.registry.status import health_of
from muster.wire.registry.check import Health, TtlCheck, worst


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
    return [InstanceCheckChanged(instance=instance.id, check=check, was=was, to=status, cause=cause)]


def overdue(instance: Instance, check: str) -> list[ServiceEvent]:
    """What it changes that a ttl check was not renewed in time."""
    # The spec may have lost the check since then, within the same incarnation.
    return checked(instance, check, "unhealthy", "no heartbeat within the ttl") if check in instance.checks else []
