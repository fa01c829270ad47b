"""The in-memory read models of a controller, folded from acknowledged batches.

One thread, no locks: `apply` runs to its end between two awaits, so a reader never sees half a batch.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

from domain.message import Recorded
from domain.registry.instance import Instance
from domain.registry.service import DECIDER as SERVICES
from infra.log.port import START, Cursor
from muster.wire.error import InstanceNotFound, NoHealthyInstances, NotReady, ServiceNotFound, Timeout
from muster.wire.stream import name_of, service_stream
from muster.wire.token import Token
from muster.wire.value import value
from projections.history import HistoryRow, listed
from projections.history import fold as fold_history
from projections.projection import Key
from projections.services import COUNTED, ServiceRow, tallied
from projections.services import fold as count
from workers.machine.group import Folded
from workers.views.shards import ShardViews


@value
class Change:
    """What one event did to one instance."""

    recorded: Recorded
    before: Instance | None
    after: Instance | None


@dataclass(frozen=True, slots=True)
class Parked:
    """A row that an event could not be folded into: it stands still, and its readers are told."""

    position: int
    reason: str


_OF_INSTANCES: Final = frozenset(SERVICES.events)
_incarnation: Final = attrgetter("incarnation")

Listener = Callable[[int, Cursor, Sequence[Change]], None]


@dataclass(slots=True)
class _Skimmed:
    """What states do not tell: where each instance's events stand, and the last one that changed a service's counts."""

    positions: dict[Key, list[int]] = field(default_factory=dict)
    counted_at: dict[str, int] = field(default_factory=dict)


class Views:
    """The read models: `services` by name, `instances` by service and id, `history` by (service, id); `shards`: all that is
    about keyspaces, data nodes and migrations.

    `cursors` says how far each partition is folded; `terms` where each valid term began, as (position, number).
    """

    def __init__(self, partitions: Sequence[int]) -> None:
        self.services: dict[str, ServiceRow] = {}
        self.instances: dict[str, dict[str, Instance]] = {}
        self.history: dict[Key, HistoryRow] = {}
        self.shards = ShardViews()
        self.parked: dict[tuple[str, Key], Parked] = {}
        self.cursors: dict[int, Cursor] = dict.fromkeys(partitions, START)
        self.terms: dict[int, list[tuple[int, int]]] = {partition: [] for partition in partitions}
        self.voids: dict[int, int] = dict.fromkeys(partitions, 0)
        self._current_at: dict[int, float] = dict.fromkeys(partitions, 0.0)
        self._skimmed: dict[int, _Skimmed] = {}
        self._waiting: list[tuple[Token, asyncio.Future[None]]] = []
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call the listener after each applied batch, with its changes of instances."""
        self._listeners.append(listener)

    def apply(self, partition: int, folded: Sequence[Folded], cursor: Cursor, voids: int = 0) -> None:
        """Take in one whole batch, as the partition has folded it, move the partition's cursor behind it, tell the listeners."""
        changes: list[Change] = []
        others: list[Folded] = []
        for recorded, part in folded:
            if type(recorded.event) in _OF_INSTANCES:
                changes.append(self._fold(recorded, part))
            else:
                others.append((recorded, part))
        self._move(partition, others, cursor, voids)
        for listener in self._listeners:
            listener(partition, cursor, changes)
        if self._waiting:
            self._wake()

    def skim(self, partition: int, folded: Sequence[Folded], cursor: Cursor, voids: int = 0) -> None:
        """Take in a batch of a partition's beginning that nobody can read yet: of instances no more than their states will not
        tell. `complete` makes up for the rest; listeners miss it. A quarter of the time of `apply`.
        """
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
        self._move(partition, others, cursor, voids)

    def complete(self, partition: int, streams: Mapping[str, Any]) -> None:
        """Make the rows of what was skimmed from the partition's states as they are at the cursor; nothing, if nothing was.
        More may be skimmed behind it.
        """
        skimmed = self._skimmed.pop(partition, _Skimmed())
        history = self.history
        history.update((key, listed(history.get(key), positions)) for key, positions in skimmed.positions.items())
        for service in {service for service, _ in skimmed.positions}:
            counted, position = self.services.pop(service, None), skimmed.counted_at.get(service)
            self.instances.pop(service, None)
            registered = sorted(streams[service_stream(service)].instances.values(), key=_incarnation)
            if registered:
                self.instances[service] = {instance.id: instance for instance in registered}
                if position is None:  # No count has changed since the last time.
                    assert counted is not None, f"{service} was never counted"
                    position = counted.position
                self.services[service] = tallied(service, registered, position)

    def _move(self, partition: int, others: Sequence[Folded], cursor: Cursor, voids: int) -> None:
        if cursor.term != self.cursors[partition].term:
            self.terms[partition].append((cursor.head_position, cursor.term))
        self.cursors[partition] = cursor
        self.voids[partition] += voids
        if others:
            self.shards.apply(partition, {partition: cursor.position}, others)

    def confirm(self, partition: int) -> None:
        """The partition's log holds nothing newer than what is folded, as of now."""
        self._current_at[partition] = time.monotonic()

    def _fold(self, recorded: Recorded, after: Instance | None) -> Change:
        """Take in the event and the instance behind it."""
        event: Any = recorded.event  # An InstanceEvent; a cast is a call, and every event comes by.
        history = self.history
        # The instance's own texts: those of the event are others at each event, and their hashes not known yet.
        service, id_ = key = (name_of(recorded.stream), event.instance) if after is None else (after.service, after.id)
        history[key] = fold_history(history.get(key), recorded)
        if type(event) in COUNTED:
            self._count(service, recorded)
        if after is None:
            return Change(recorded, self._removed(service, id_), None)
        rows = self.instances.get(service)
        if rows is None:
            rows = self.instances[service] = {}
        before = rows.get(id_)
        rows[id_] = after
        return Change(recorded, before, after)

    def _removed(self, service: str, id_: str) -> Instance | None:
        rows = self.instances.get(service, {})
        gone = rows.pop(id_, None)
        if not rows:
            self.instances.pop(service, None)
        return gone

    def _count(self, service: str, recorded: Recorded) -> None:
        if self.parked and ("services", (service,)) in self.parked:
            return
        try:
            row = count(self.services.get(service), recorded)
        except AssertionError as error:
            self.parked["services", (service,)] = Parked(recorded.position, str(error))
            return
        if row is None:
            self.services.pop(service, None)
        else:
            self.services[service] = row

    def token(self) -> Token:
        """How far these views are."""
        return {partition: cursor.position for partition, cursor in self.cursors.items() if cursor.position >= 0}

    def age_seconds(self, partition: int) -> float:
        """For how long the partition's view has not been known to be current."""
        return time.monotonic() - self._current_at[partition]

    async def reach(self, token: Token, timeout_seconds: float) -> None:
        """Wait until every position of the token is folded. Raises NotReady (unknown partition) or Timeout."""
        if unknown := token.keys() - self.cursors.keys():
            raise NotReady(f"partition {min(unknown)} is not read here; the token is from another cluster")
        if self._reached(token):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((token, future))
        try:
            async with asyncio.timeout(timeout_seconds):
                await future
        except TimeoutError:
            raise Timeout(f"the views did not reach the token within {timeout_seconds} s; read again") from None

    def _reached(self, token: Token) -> bool:
        return all(self.cursors[partition].position >= position for partition, position in token.items())

    def _wake(self) -> None:
        waiting = [(token, future) for token, future in self._waiting if not future.done()]
        self._waiting = [pair for pair in waiting if not self._reached(pair[0])]
        for token, future in waiting:
            if self._reached(token):
                future.set_result(None)

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

    def discover(self, service: str) -> list[Instance]:
        """Those that can take traffic. Raises ServiceNotFound or NoHealthyInstances."""
        found = [instance for instance in self.of_service(service).values() if instance.discoverable]
        if not found:
            raise NoHealthyInstances(f"no instance of {service} can take traffic now", service=service)
        return found
