"""The read models of keyspaces, data nodes, migrations and tasks; fed by `Views` with what is not about services."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from domain.groups import group
from domain.message import Recorded
from domain.saga import Saga
from domain.shards import cluster
from domain.shards.node import DataNode, NodeEvent, NodeJoined, NodeLost, NodeRejoined, NodeRemoved, NodeReturned
from domain.shards.shard import Keyspace, ShardEvent, ShardsAssigned
from muster.wire.error import KeyspaceNotFound, MigrationNotFound, NodeNotFound
from muster.wire.sagas import not_found
from muster.wire.stream import CLUSTER, GROUP, KEYSPACE, MIGRATION, keyspace_stream, kind_of, name_of, saga_name_of
from muster.wire.token import Positions
from projections.migrations import MIGRATIONS, MigrationRow
from sagas.catalogue import DEFINITIONS
from sagas.drain import DrainPlan, TurnedBack, drain_plan, draining
from sagas.engine.definition import Definitions
from sagas.placement import NOTHING_KNOWN, Weights
from sagas.tasks import TaskRow, tasks_of_saga, tasks_of_shard
from workers.views.table import AllParked, MemoryTable

ended_migrations_max: Final = 10_000


@dataclass(slots=True)
class ShardsChanged:
    """What one applied batch changed, by key; readers look up what is there now.

    `asked` has the sagas that events of other streams name; `streams` those in which an event named no saga.
    """

    shards: set[tuple[str, int]] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)
    tasks: set[tuple[str, str]] = field(default_factory=set)
    migrations: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    streams: set[str] = field(default_factory=set)


ShardListener = Callable[[int, Positions, ShardsChanged], None]


class ShardViews:
    """`keyspaces` by name, `cluster`, `groups` by stream, `sagas` by id, `tasks` by node and id.

    `migrations` has a row by (id,) of every saga, whatever its root is. `definitions` are those that sagas may have.
    """

    def __init__(self, parked: AllParked | None = None, definitions: Definitions = DEFINITIONS) -> None:
        self.definitions = definitions
        self.keyspaces: dict[str, Keyspace] = {}
        self.cluster: cluster.Cluster = cluster.INITIAL
        self.groups: dict[str, group.FailoverGroup] = {}
        self.sagas: dict[str, Saga] = {}
        self._migrations = MemoryTable(MIGRATIONS, {} if parked is None else parked)
        self.migrations = self._migrations.rows
        self.tasks: dict[str, dict[str, TaskRow]] = {}
        self.progress: dict[str, dict[str, Any]] = {}
        self._of: dict[str, list[tuple[str, str]]] = {}
        self._ended: deque[str] = deque()
        self._listeners: list[ShardListener] = []

    def listen(self, listener: ShardListener) -> None:
        """Call the listener after each applied batch that changed something here."""
        self._listeners.append(listener)

    def apply(self, partition: int, token: Positions, folded: Sequence[tuple[Recorded, Any]]) -> None:
        """Take in one batch: each event, with the item that it changed as the partition has folded it."""
        changed = ShardsChanged()
        for recorded, part in folded:
            self._fold(recorded, part, changed)
        for listener in self._listeners:
            listener(partition, token, changed)

    def _fold(self, recorded: Recorded[Any], part: Any, changed: ShardsChanged) -> None:
        event, stream = recorded.event, recorded.stream
        saga = getattr(event, "saga", None)
        if saga is None or saga == stream:
            changed.streams.add(stream)
        else:
            changed.asked.add(saga)
        if isinstance(part, Saga):
            self._saga(recorded, part, changed)
        elif isinstance(part, Keyspace):
            name = name_of(stream)
            self.keyspaces[name] = part
            numbers = _touched(event, part)
            changed.shards.update((name, number) for number in numbers)
            for number in numbers:
                self._standing(name, number, recorded.at, changed)
        elif stream == CLUSTER:
            # The part is often only the node that the event is about, so the whole cluster is folded here once more.
            self.cluster = cluster.evolve(self.cluster, recorded)
            if isinstance(event, NodeEvent):
                changed.nodes.add(event.node)
            if isinstance(event, NodeJoined | NodeRejoined | NodeRemoved):
                self._relocated(event.node, changed)
            elif isinstance(event, NodeLost | NodeReturned):
                self._owns_changed(event.node, changed)
        elif kind_of(stream) == GROUP:
            # As with the cluster: the part is often only a member.
            self.groups[stream] = group.evolve(self.groups.get(stream, group.INITIAL), recorded)

    def _saga(self, recorded: Recorded, saga: Saga, changed: ShardsChanged) -> None:
        id_ = recorded.stream
        self.sagas[id_] = saga
        self._migrations.fold((id_,), recorded)
        changed.migrations.add(id_)
        self._place(id_, list(tasks_of_saga(saga, self._step_at(id_, recorded.at), self.definitions)), changed)
        if saga.ended:
            self.progress.pop(id_, None)
            self._ended.append(id_)
            while len(self._ended) > ended_migrations_max:
                old = self._ended.popleft()
                del self.sagas[old]
                self.migrations.pop((old,), None)

    def _step_at(self, id_: str, otherwise: datetime) -> datetime:
        """When the migration's step began. `otherwise`: of one that has no row, since its first event could not be folded."""
        row = self.migrations.get((id_,))
        return otherwise if row is None else row.step_at

    def _standing(self, keyspace: str, number: int, at: datetime, changed: ShardsChanged) -> None:
        wanted = list(tasks_of_shard(keyspace, self.keyspaces[keyspace], number, at))
        self._place(f"{keyspace_stream(keyspace)}/shard/{number}", wanted, changed)

    def _place(self, whose: str, wanted: Sequence[TaskRow], changed: ShardsChanged) -> None:
        """Make these the tasks of a saga, or of a shard."""
        before = self._of.pop(whose, ())
        for node, id_ in before:
            self.tasks[node].pop(id_, None)
            changed.tasks.add((node, id_))
            if not self.tasks[node]:
                del self.tasks[node]
        for task in wanted:
            self.tasks.setdefault(task.node, {})[task.id] = task
            changed.tasks.add((task.node, task.id))
        if wanted:
            self._of[whose] = [(task.node, task.id) for task in wanted]

    def _relocated(self, node: str, changed: ShardsChanged) -> None:
        """The node has another address: what shows addresses has changed too."""
        self._owns_changed(node, changed)
        for tasks in self.tasks.values():
            for task in tasks.values():
                if node in (task.params.get("source"), task.params.get("owner")):
                    changed.tasks.add((task.node, task.id))

    def _owns_changed(self, node: str, changed: ShardsChanged) -> None:
        """What the node owns is shown otherwise now: its address, or whether anybody serves it."""
        for name, keyspace in self.keyspaces.items():
            changed.shards.update((name, shard.id) for shard in keyspace.shards.values() if shard.owner == node)

    def restore(self, streams: Mapping[str, Any], migrations: Sequence[MigrationRow], at: datetime) -> None:
        """Take over what a partition's snapshot holds: its states, and the rows of its migrations. `at`: its last instant."""
        # Tasks that are placed here are no news to anybody: listeners begin with what they find.
        nobody = ShardsChanged()
        self.migrations.update(((row.migration,), row) for row in migrations)
        self._ended.extend(row.migration for row in migrations if row.ended_at is not None)
        for stream, state in streams.items():
            if isinstance(state, cluster.Cluster):
                self.cluster = state
            elif isinstance(state, Saga):
                self.sagas[stream] = state
                self._place(stream, list(tasks_of_saga(state, self._step_at(stream, at), self.definitions)), nobody)
            elif isinstance(state, group.FailoverGroup):
                self.groups[stream] = state
            elif isinstance(state, Keyspace):
                name = name_of(stream)
                self.keyspaces[name] = state
                for number in state.shards:
                    self._standing(name, number, at, nobody)

    def state(self, stream: str) -> Any:
        """The state of the cluster, a keyspace, a group or a saga; None: it is not known here, or is of another kind."""
        if stream == CLUSTER:
            return self.cluster
        if kind_of(stream) == GROUP:
            return self.groups.get(stream)
        # A service may have the name of a keyspace.
        return self.keyspaces.get(name_of(stream)) if kind_of(stream) == KEYSPACE else self.sagas.get(stream)

    def keyspace(self, name: str) -> Keyspace:
        """The keyspace. Raises KeyspaceNotFound."""
        found = self.keyspaces.get(name)
        if found is None:
            raise KeyspaceNotFound(f"there is no keyspace {name}", keyspace=name)
        return found

    def node(self, node: str) -> DataNode:
        """The data node. Raises NodeNotFound."""
        found = self.cluster.nodes.get(node)
        if found is None:
            raise NodeNotFound(f"the cluster has no data node {node}", node=node)
        return found

    def migration(self, id_: str) -> MigrationRow:
        """The migration; the id may be any text. Raises MigrationNotFound."""
        found = self.migrations.get((id_,))
        # Sagas of other kinds stand beside it.
        if found is None or saga_name_of(id_) != MIGRATION:
            raise MigrationNotFound(f"there is no migration {id_}", migration=id_)
        return found

    def saga(self, id_: str) -> MigrationRow:
        """The saga with this stream. Raises SagaNotFound, or MigrationNotFound."""
        found = self.migrations.get((id_,))
        if found is None:
            raise not_found(id_)
        return found

    def drain_plan(self, now: datetime, weights: Callable[[], Weights] = lambda: NOTHING_KNOWN) -> DrainPlan:
        """What to move next off nodes that are being drained, and why shards stay there. `weights` is asked if there are any."""
        leaves = draining(self.cluster)
        if not leaves:
            return DrainPlan()
        # Of moves that have ended the newest are remembered, which is where a drain that fails has its own.
        failed = (row for row in self.migrations.values() if row.phase == "compensated" and row.source in leaves)
        return drain_plan(self.keyspaces, self.cluster, list(map(_turned_back, failed)), now, weights())

    def address(self, node: str | None) -> str | None:
        """Where the node listens; None: nobody knows."""
        found = self.cluster.nodes.get(node) if node is not None else None
        return found.address if found is not None else None


def _turned_back(row: MigrationRow) -> TurnedBack:
    why = row.cause or row.error or "no reason is known"
    at = row.ended_at or row.step_at
    return TurnedBack(row.keyspace or "", row.shard or 0, row.source or "", row.target or "", at, why)


def _touched(event: object, state: Keyspace) -> Sequence[int]:
    match event:
        case ShardEvent():
            return (event.shard,)
        case ShardsAssigned():
            return event.shards
        case _:
            # What is left is the creation, which brings all shards.
            return range(state.count)
