"""Which services are there, and how many of their instances are healthy? One row per service with instances."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from domain.message import Event, Recorded
from domain.registry.instance import Instance, InstanceDeregistered, InstanceHealthChanged, InstanceRegistered
from muster.wire.registry import answers
from muster.wire.registry.check import Health
from muster.wire.stream import name_of
from muster.wire.value import value
from projections.projection import Key, Projection


@value
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


COUNTED: Final[frozenset[type[Event]]] = frozenset((InstanceHealthChanged, InstanceRegistered, InstanceDeregistered))
_PLACES: Final[dict[Health, int]] = {"healthy": 0, "unhealthy": 1, "unknown": 2}


def key_of(recorded: Recorded) -> Key:
    """(service,)."""
    return (name_of(recorded.stream),)


def fold(row: ServiceRow | None, recorded: Recorded) -> ServiceRow | None:
    """The row after the event."""
    event = recorded.event
    counts = [0, 0, 0] if row is None else [row.healthy, row.unhealthy, row.unknown]
    match event:
        case InstanceHealthChanged():
            counts[_PLACES[event.was]] -= 1
            counts[_PLACES[event.to]] += 1
        case InstanceRegistered():
            counts[_PLACES[event.health]] += 1
        case InstanceDeregistered():
            counts[_PLACES[event.health]] -= 1
    healthy, unhealthy, unknown = counts
    assert min(counts) >= 0, f"negative count of {recorded.stream}: {counts}"
    # A service without instances is not there, as the decider says too.
    if not healthy and not unhealthy and not unknown:
        return None
    service = name_of(recorded.stream) if row is None else row.service
    return ServiceRow(service, healthy, unhealthy, unknown, recorded.position)


def tallied(service: str, instances: Iterable[Instance], position: int) -> ServiceRow:
    """The row of a service with these instances: what its events fold to."""
    healths = Counter(instance.health for instance in instances)
    return ServiceRow(service, healths["healthy"], healths["unhealthy"], healths["unknown"], position)


SERVICES: Final = Projection(
    name="services",
    revision=2,
    row=ServiceRow,
    key=("service",),
    events=COUNTED,
    key_of=key_of,
    fold=fold,
    columns=("instances", "healthy", "unhealthy", "unknown", "position"),
    served=answers.SERVICES,
    summary="All services with instances, by name",
)
