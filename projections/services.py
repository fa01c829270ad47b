"""Which services are there, and how many of their instances are healthy? One row per service with instances."""

from dataclasses import dataclass, replace
from typing import Final

from domain.check import Health
from domain.instance import InstanceDeregistered, InstanceEvent, InstanceHealthChanged, InstanceRegistered
from domain.message import Recorded
from projections.projection import Key, Projection


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """A service and its instances by health; `position` is that of the last event that changed a count."""

    service: str
    healthy: int
    unhealthy: int
    unknown: int
    position: int

    @property
    def instances(self) -> int:
        """How many are registered."""
        return self.healthy + self.unhealthy + self.unknown


_COUNTED: Final = (InstanceHealthChanged, InstanceRegistered, InstanceDeregistered)


def key(recorded: Recorded) -> Key | None:
    """(service,), for events that change a count."""
    return (recorded.stream[8:],) if isinstance(recorded.event, _COUNTED) else None


def evolve(row: ServiceRow | None, recorded: Recorded) -> ServiceRow | None:
    """The row after the event."""
    event = recorded.event
    assert isinstance(event, InstanceEvent)
    row = row or ServiceRow(recorded.stream[8:], 0, 0, 0, recorded.position)
    match event:
        case InstanceHealthChanged():
            row = _moved(_moved(row, event.was, -1), event.to, 1)
        case InstanceRegistered():
            row = _moved(row, event.health, 1)
        case InstanceDeregistered():
            row = _moved(row, event.health, -1)
    assert min(row.healthy, row.unhealthy, row.unknown) >= 0, f"negative count in {row}"
    return replace(row, position=recorded.position) if row.instances else None


def _moved(row: ServiceRow, health: Health, by: int) -> ServiceRow:
    match health:
        case "healthy":
            return ServiceRow(row.service, row.healthy + by, row.unhealthy, row.unknown, row.position)
        case "unhealthy":
            return ServiceRow(row.service, row.healthy, row.unhealthy + by, row.unknown, row.position)
        case "unknown":
            return ServiceRow(row.service, row.healthy, row.unhealthy, row.unknown + by, row.position)


def columns(row: ServiceRow) -> dict[str, object]:
    """What SQL users filter and join by."""
    return {
        "instances": row.instances,
        "healthy": row.healthy,
        "unhealthy": row.unhealthy,
        "unknown": row.unknown,
        "position": row.position,
    }


SERVICES = Projection("services", 1, ("service",), ServiceRow, key, evolve, columns)
