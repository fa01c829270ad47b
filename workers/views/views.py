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
from infra.log.port import START, Cursor, Term
from muster.wire.error import NotReady, OtherLog, Timeout
from muster.wire.token import Positions, Token, TokenPlace
from projections.catalogue import PROJECTIONS
from projections.data_nodes import DATA_NODES
from projections.migrations import MIGRATIONS
from projections.projection import AnyProjection, Key, Projection, Row
from projections.registry.history import HISTORY
from projections.registry.instances import INSTANCES
from projections.registry.services import SERVICES
from sagas.catalogue import DEFINITIONS
from sagas.engine.definition import Definitions
from workers.machine.group import Folded
from workers.views.registry import Change, RegistryViews
from workers.views.shards import ShardViews
from workers.views.table import AllParked, MemoryTable
from workers.views.terms import Terms

_OWN: Final = (SERVICES, INSTANCES, HISTORY, DATA_NODES, MIGRATIONS)
"""The projections that `RegistryViews` and `ShardViews` keep."""

Listener = Callable[[int, Cursor, Sequence[Change]], None]
Follower = Callable[[Sequence[Folded]], None]


class Views:
    """The read models: `services` by (name,), `instances` by service and id, `history` by (service, id); `shards`: all that
    is about keyspaces, data nodes and migrations; `rows` gives any of them, by its projection.

    `cursors` says how far each partition is folded; `terms` where each valid term began, and its mark.
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
        self.terms = {partition: Terms() for partition in partitions}
        self.voids: dict[int, int] = dict.fromkeys(partitions, 0)
        self._current_at: dict[int, float] = dict.fromkeys(partitions, 0.0)
        self._waiting: list[tuple[Positions, asyncio.Future[None]]] = []
        self._places: dict[int, str] = {}
        self._token: str | None = ""
        self._listeners: list[Listener] = []
        self._followers: list[Follower] = []

    def listen(self, listener: Listener) -> None:
        """Call the listener after each applied batch, with its changes of instances."""
        self._listeners.append(listener)

    def follow(self, follower: Follower) -> None:
        """Call the follower after each applied batch, with its events."""
        self._followers.append(follower)

    def apply(
        self,
        partition: int,
        folded: Sequence[Folded],
        cursor: Cursor,
        voids: int = 0,
        began: Sequence[Term] = (),
    ) -> None:
        """Take in one whole batch, as the partition has folded it, move the partition's cursor past it, call the listeners.
        `began`: the terms that have begun since the batch before.
        """
        changes, others = self.registry.apply(folded)
        self._move(partition, folded, others, cursor, voids, began)
        for listener in self._listeners:
            listener(partition, cursor, changes)
        for follower in self._followers:
            follower(folded)
        if self._waiting:
            self._wake()

    def skim(
        self,
        partition: int,
        folded: Sequence[Folded],
        cursor: Cursor,
        voids: int = 0,
        began: Sequence[Term] = (),
    ) -> None:
        """Take in a batch of a partition's beginning that nobody can read yet: of instances only what their states will
        lack. `complete` makes up for the rest; listeners miss it. A quarter of the time of `apply`.
        """
        others = self.registry.skim(partition, folded)
        self._move(partition, folded, others, cursor, voids, began)

    def complete(self, partition: int, streams: Mapping[str, Any]) -> None:
        """Make the rows of what was skimmed from the partition's states as they are at the cursor; nothing, if nothing was.
        More may be skimmed after it.
        """
        self.registry.complete(partition, streams)

    def _move(
        self,
        partition: int,
        folded: Sequence[Folded],
        others: Sequence[Folded],
        cursor: Cursor,
        voids: int,
        began: Sequence[Term],
    ) -> None:
        if began:
            self.terms[partition].extend(began)
        self.stand(partition, cursor)
        self.voids[partition] += voids
        if tables := self.tables[partition]:
            recorded: list[Recorded] = [each for each, _ in folded]
            for table in tables:
                table.take(recorded)
        if others:
            self.shards.apply(partition, {partition: cursor.position}, others)

    def stand(self, partition: int, cursor: Cursor) -> None:
        """The partition is folded up to the cursor, and its terms are known up to there."""
        self.cursors[partition] = cursor
        self._token = None
        self._places.pop(partition, None)

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

    def positions(self) -> Positions:
        """How far these views are. Partitions without any history are left out: of them nothing can be seen."""
        return {partition: cursor.position for partition, cursor in self.cursors.items() if cursor.term > 0}

    def token(self) -> str:
        """How far these views are, as a token; made once for each batch, and not for each answer."""
        if self._token is None:
            for partition, position in self.positions().items():
                if partition not in self._places:
                    self._places[partition] = f"{partition}:{self.terms[partition].place(position)}"
            self._token = ",".join(self._places[partition] for partition in sorted(self._places))
        return self._token

    def place(self, partition: int, position: int) -> TokenPlace:
        """The position as a token has it; without a mark when these views have not come there, or do not read the partition."""
        cursor = self.cursors.get(partition, START)
        return self.terms[partition].place(position) if position <= cursor.position else TokenPlace(position)

    def strange(self, token: Token) -> list[int]:
        """The partitions of which the token has certainly seen another log, as far as these views have come."""
        return [
            partition
            for partition, place in token.items()
            if partition in self.cursors and self.terms[partition].contradict(place, self.cursors[partition].position)
        ]

    def check(self, token: Token) -> None:
        """Raises OtherLog when the token has certainly seen another log than these views read."""
        for partition in self.strange(token):
            raise _other_log(token, partition, "which is no history of this log")

    def check_length(self, token: Token, heads: Positions) -> None:
        """Raises OtherLog when the log of a partition ends before the token's place. `heads`: where they end, as these views
        have read them.
        """
        for partition, head in heads.items():
            # More may have come since the head was proven.
            if token[partition].position > max(head, self.cursors[partition].position):
                raise _other_log(token, partition, f"but its log ends at {head}")

    def age_seconds(self, partition: int) -> float:
        """For how long the partition's view has not been known to be current."""
        return time.monotonic() - self._current_at[partition]

    async def reach(self, token: Positions, timeout_seconds: float) -> None:
        """Wait until every position is folded. Raises NotReady (unknown partition) or Timeout."""
        if unknown := token.keys() - self.cursors.keys():
            raise NotReady(f"partition {min(unknown)} is not read here; the token is from another cluster")
        if self.has_reached(token):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((token, future))
        try:
            async with asyncio.timeout(timeout_seconds):
                await future
        except TimeoutError:
            raise Timeout(f"the views did not reach the token within {timeout_seconds:.3g} s; read again") from None

    def has_reached(self, token: Positions) -> bool:
        """Whether every position is folded."""
        return all(self.cursors.get(number, START).position >= position for number, position in token.items())

    def _wake(self) -> None:
        # A wait that has timed out is done as well: its future was cancelled.
        waiting = [(token, future) for token, future in self._waiting if not future.done()]
        self._waiting = [pair for pair in waiting if not self.has_reached(pair[0])]
        for token, future in waiting:
            if self.has_reached(token):
                future.set_result(None)


def _other_log(token: Token, partition: int, why: str) -> OtherLog:
    what = f"the token has seen {token[partition]} of partition {partition}, {why}"
    return OtherLog(f"{what}: it was lost, or replaced by a backup; begin anew without the token", partition=partition)
