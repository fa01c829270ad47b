"""The in-memory read models of a controller, folded from acknowledged batches.

One thread, no locks: `apply` runs to its end between two awaits, so a reader never sees half a batch.

    instances, services, history       `RegistryViews`: the projections of these names
    migrations, and states             `ShardViews`: what keyspaces, data nodes and sagas are, and the tasks of nodes
    every other projection             a table per partition, folded from the projection's definition alone
"""

import asyncio
import time
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from domain.message import Recorded
from infra.log.port import START, Cursor
from muster.wire.error import NotReady, Timeout
from muster.wire.token import Token
from projections.catalogue import PROJECTIONS
from projections.data_nodes import DATA_NODES
from projections.history import HISTORY
from projections.instances import INSTANCES
from projections.migrations import MIGRATIONS
from projections.projection import AnyProjection, Key, Projection, Row
from projections.services import SERVICES
from sagas.catalogue import DEFINITIONS
from sagas.engine.definition import Definitions
from workers.machine.group import Folded
from workers.views.registry import Change, RegistryViews
from workers.views.shards import ShardViews
from workers.views.table import AllParked, MemoryTable

_OWN: Final = (SERVICES, INSTANCES, HISTORY, DATA_NODES, MIGRATIONS)
"""The projections that `RegistryViews` and `ShardViews` keep."""

Listener = Callable[[int, Cursor, Sequence[Change]], None]
Follower = Callable[[Sequence[Folded]], None]


class Views:
    """The read models: `services` by (name,), `instances` by service and id, `history` by (service, id); `shards`: all that
    is about keyspaces, data nodes and migrations; `rows` gives any of them, by its projection.

    `cursors` says how far each partition is folded; `terms` where each valid term began, as (position, number).
    """

    def __init__(
        self,
        partitions: Sequence[int],
        projections: Sequence[AnyProjection] = PROJECTIONS,
        definitions: Definitions = DEFINITIONS,
    ) -> None:
        self.parked: AllParked = {}
        self.registry = RegistryViews(self.parked)
        self.services, self.history = self.registry.services.rows, self.registry.history.rows
        self.instances = self.registry.instances
        self.shards = ShardViews(self.parked, definitions)
        others = [projection for projection in projections if projection.in_memory and projection not in _OWN]
        self.tables = {partition: [MemoryTable(each, self.parked) for each in others] for partition in partitions}
        self.cursors: dict[int, Cursor] = dict.fromkeys(partitions, START)
        self.terms: dict[int, list[tuple[int, int]]] = {partition: [] for partition in partitions}
        self.voids: dict[int, int] = dict.fromkeys(partitions, 0)
        self._current_at: dict[int, float] = dict.fromkeys(partitions, 0.0)
        self._waiting: list[tuple[Token, asyncio.Future[None]]] = []
        self._listeners: list[Listener] = []
        self._followers: list[Follower] = []

    def listen(self, listener: Listener) -> None:
        """Call the listener after each applied batch, with its changes of instances."""
        self._listeners.append(listener)

    def follow(self, follower: Follower) -> None:
        """Call the follower after each applied batch, with its events."""
        self._followers.append(follower)

    def apply(self, partition: int, folded: Sequence[Folded], cursor: Cursor, voids: int = 0) -> None:
        """Take in one whole batch, as the partition has folded it, move the partition's cursor past it, call the listeners."""
        changes, others = self.registry.apply(folded)
        self._move(partition, folded, others, cursor, voids)
        for listener in self._listeners:
            listener(partition, cursor, changes)
        for follower in self._followers:
            follower(folded)
        if self._waiting:
            self._wake()

    def skim(self, partition: int, folded: Sequence[Folded], cursor: Cursor, voids: int = 0) -> None:
        """Take in a batch of a partition's beginning that nobody can read yet: of instances only what their states will
        lack. `complete` makes up for the rest; listeners miss it. A quarter of the time of `apply`.
        """
        others = self.registry.skim(partition, folded)
        self._move(partition, folded, others, cursor, voids)

    def complete(self, partition: int, streams: Mapping[str, Any]) -> None:
        """Make the rows of what was skimmed from the partition's states as they are at the cursor; nothing, if nothing was.
        More may be skimmed after it.
        """
        self.registry.complete(partition, streams)

    def _move(
        self, partition: int, folded: Sequence[Folded], others: Sequence[Folded], cursor: Cursor, voids: int
    ) -> None:
        if cursor.term != self.cursors[partition].term:
            self.terms[partition].append((cursor.head_position, cursor.term))
        self.cursors[partition] = cursor
        self.voids[partition] += voids
        if tables := self.tables[partition]:
            recorded: list[Recorded] = [each for each, _ in folded]
            for table in tables:
                table.take(recorded)
        if others:
            self.shards.apply(partition, {partition: cursor.position}, others)

    def rows(self, projection: Projection[Row]) -> Mapping[Key, Row]:
        """The projection's rows by key, as they are now. Raises KeyError: it is not kept in memory."""
        found: Mapping[Key, Row] = self._rows(projection)
        return found

    def row(self, projection: Projection[Row], key: Key) -> Row:
        """The row of the key. Raises what the projection says is missing; NotReady: an event could not be folded into it."""
        # A row that stands still must not pass for the truth.
        parked = self.parked.get((projection.name, key))
        if parked is not None:
            raise NotReady(f"the row stands still: {parked.reason}", position=parked.position)
        found = self.rows(projection).get(key)
        if found is None:
            assert projection.missing is not None, f"{projection.name} has no row {key}, and no refusal that says so"
            raise projection.missing(key)
        return found

    def _rows(self, projection: AnyProjection) -> Mapping[Key, Any]:
        if projection is INSTANCES:
            return {(service, id_): row for service, rows in self.instances.items() for id_, row in rows.items()}
        if projection is DATA_NODES:
            return {(id_,): node for id_, node in self.shards.cluster.nodes.items()}
        known: dict[AnyProjection, dict[Key, Any]] = {
            SERVICES: self.services,
            HISTORY: self.history,
            MIGRATIONS: self.shards.migrations,
        }
        if projection in known:
            return known[projection]
        each = [table.rows for tables in self.tables.values() for table in tables if table.projection is projection]
        if not each:
            raise KeyError(projection.name)
        return ChainMap(*each)

    def confirm(self, partition: int) -> None:
        """The partition's log holds nothing newer than what is folded, as of now."""
        self._current_at[partition] = time.monotonic()

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
        # A wait that has timed out is done as well: its future was cancelled.
        waiting = [(token, future) for token, future in self._waiting if not future.done()]
        self._waiting = [pair for pair in waiting if not self._reached(pair[0])]
        for token, future in waiting:
            if self._reached(token):
                future.set_result(None)
