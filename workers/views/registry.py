"""The read models of services and instances; fed by `Views` with the events of instances.

The row of an instance is the decider's own `Instance`: it is the fold of the `instances` projection already, so it is taken
over and not folded a second time. A long beginning of the log is skimmed, since nobody can read it yet: of each event only
what the states lack is kept, and `complete` makes the rows from the states.
"""

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

from domain.message import Recorded
from domain.registry.instance import Instance
from domain.registry.service import DECIDER as OF_SERVICES
from muster.wire.error import InstanceNotFound, NoHealthyInstances, ServiceNotFound
from muster.wire.stream import name_of, service_stream
from muster.wire.value import value
from projections.projection import Key
from projections.registry.history import HISTORY, HistoryRow, listed
from projections.registry.services import COUNTED, SERVICES, tallied
from workers.machine.group import Folded
from workers.views.table import AllParked, MemoryTable

_OF_INSTANCES: Final = frozenset(OF_SERVICES.events)
_incarnation: Final = attrgetter("incarnation")


@value
class Change:
    """What one event did to one instance."""

    recorded: Recorded
    before: Instance | None
    after: Instance | None


@dataclass(slots=True)
class _Skimmed:
    """What the states lack: where each instance's events stand, and the last one that changed a service's counts."""

    positions: dict[Key, list[int]] = field(default_factory=dict)
    counted_at: dict[str, int] = field(default_factory=dict)


class RegistryViews:
    """`instances` by service and id, and the tables of services and of instances' history. `suspects` are those by service that
    are served although their checks say otherwise, and since when that is known here (seconds of the monotonic clock).
    `by_topic` counts those of each service whose heartbeats come by the topic.
    """

    def __init__(self, parked: AllParked) -> None:
        self.instances: dict[str, dict[str, Instance]] = {}
        self.services = MemoryTable(SERVICES, parked)
        self.history = MemoryTable(HISTORY, parked)
        self._count, self._history = self.services.fold, self.history.fold
        self.suspects: dict[str, dict[str, float]] = {}
        self.by_topic: Counter[str] = Counter()
        self._skimmed: dict[int, _Skimmed] = {}

    def apply(self, folded: Sequence[Folded]) -> tuple[list[Change], list[Folded]]:
        """Take in the events of instances, each with the instance after it. Returns what they changed, and the other events."""
        changes: list[Change] = []
        others: list[Folded] = []
        fold, of_instances = self._fold, _OF_INSTANCES
        for recorded, part in folded:
            if type(recorded.event) in of_instances:
                changes.append(fold(recorded, part))
            else:
                others.append((recorded, part))
        return changes, others

    def _fold(self, recorded: Recorded, after: Instance | None) -> Change:
        event: Any = recorded.event  # An InstanceEvent; a cast is a call, and every event comes by.
        # The instance's own texts: those of the event are others at each event, and their hashes not known yet.
        service, id_ = key = (name_of(recorded.stream), event.instance) if after is None else (after.service, after.id)
        self._history(key, recorded)
        if type(event) in COUNTED:
            self._count((service,), recorded)
        if after is None:
            return Change(recorded, self._removed(service, id_), None)
        rows = self.instances.get(service)
        if rows is None:
            rows = self.instances[service] = {}
        before = rows.get(id_)
        rows[id_] = after
        if _by_topic(after) != _by_topic(before):
            self._topic_takes(service, 1 if _by_topic(after) else -1)
        if after.suspect is not None:
            self.suspects.setdefault(service, {}).setdefault(id_, time.monotonic())
        elif before is not None and before.suspect is not None:
            self._cleared(service, id_)
        return Change(recorded, before, after)

    def _removed(self, service: str, id_: str) -> Instance | None:
        rows = self.instances.get(service, {})
        gone = rows.pop(id_, None)
        if gone is not None and gone.suspect is not None:
            self._cleared(service, id_)
        if _by_topic(gone):
            self._topic_takes(service, -1)
        # A service without instances is not there, as the decider says too.
        if not rows:
            self.instances.pop(service, None)
        return gone

    def look(self, service: str, instances: Collection[Instance]) -> None:
        """Find the suspects, and who is heard by the topic, of all instances of a service, whose rows did not come by events."""
        now = time.monotonic()
        del self.by_topic[service]
        self._topic_takes(service, sum(map(_by_topic, instances)))
        if suspects := {instance.id: now for instance in instances if instance.suspect is not None}:
            self.suspects[service] = suspects

    def _topic_takes(self, service: str, more: int) -> None:
        self.by_topic[service] += more
        if not self.by_topic[service]:
            del self.by_topic[service]

    def _cleared(self, service: str, id_: str) -> None:
        self.suspects[service].pop(id_, None)
        if not self.suspects[service]:
            del self.suspects[service]

    def skim(self, partition: int, folded: Sequence[Folded]) -> list[Folded]:
        """Keep of the events of instances what the states lack. Returns the other events."""
        skimmed = self._skimmed.setdefault(partition, _Skimmed())
        positions, counted_at = skimmed.positions, skimmed.counted_at
        others: list[Folded] = []
        for recorded, part in folded:
            event: Any = recorded.event
            kind = type(event)
            if kind not in _OF_INSTANCES:
                others.append((recorded, part))
                continue
            key = (name_of(recorded.stream), event.instance) if part is None else (part.service, part.id)
            before = positions.get(key)
            if before is None:
                positions[key] = [recorded.position]
            else:
                before.append(recorded.position)
            if kind in COUNTED:
                counted_at[key[0]] = recorded.position
        return others

    def complete(self, partition: int, streams: Mapping[str, Any]) -> None:
        """Make the rows of what was skimmed from the partition's states; nothing, if nothing was skimmed."""
        skimmed = self._skimmed.pop(partition, _Skimmed())
        history = self.history.rows
        history.update((key, listed(history.get(key), positions)) for key, positions in skimmed.positions.items())
        for service in {service for service, _ in skimmed.positions}:
            # In the order of registration, as the rows stand when each event is applied.
            registered = sorted(streams[service_stream(service)].instances.values(), key=_incarnation)
            self._replace(service, registered, skimmed.counted_at.get(service))

    def _replace(self, service: str, registered: list[Instance], counted_at: int | None) -> None:
        counted = self.services.rows.pop((service,), None)
        self.instances.pop(service, None)
        self.suspects.pop(service, None)
        del self.by_topic[service]
        if not registered:
            return
        self.look(service, registered)
        self.instances[service] = {instance.id: instance for instance in registered}
        if counted_at is None:  # No count has changed since the last time.
            assert counted is not None, f"{service} was never counted"
            counted_at = counted.position
        self.services.rows[service,] = tallied(service, registered, counted_at)

    def of_service(self, service: str) -> dict[str, Instance]:
        """The service's instances by id. Raises ServiceNotFound."""
        rows = self.instances.get(service)
        if rows is None:
            raise ServiceNotFound(f"no instance of service {service} is registered", service=service)
        return rows

    def instance(self, service: str, instance: str) -> Instance:
        """One instance. Raises ServiceNotFound or InstanceNotFound."""
        found = self.of_service(service).get(instance)
        if found is None:
            raise InstanceNotFound(f"{service} has no instance {instance}", service=service, instance=instance)
        return found

    def history_of(self, service: str, instance: str) -> HistoryRow:
        """Where the newest events of an instance stand, also of one that has gone. Raises InstanceNotFound."""
        row = self.history.rows.get((service, instance))
        if row is None:
            raise InstanceNotFound(
                f"{service} has never had an instance {instance}", service=service, instance=instance
            )
        return row

    def discover(self, service: str) -> list[Instance]:
        """Those that can take traffic. Raises ServiceNotFound or NoHealthyInstances."""
        found = [instance for instance in self.of_service(service).values() if instance.discoverable]
        if not found:
            raise NoHealthyInstances(f"no instance of {service} can take traffic now", service=service)
        return found


def _by_topic(instance: Instance | None) -> bool:
    return instance is not None and instance.spec.heartbeats == "topic"
