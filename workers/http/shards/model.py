"""The shapes of what is answered about keyspaces, data nodes, migrations and tasks; see `workers.http.model`."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from domain.saga import Text
from domain.shards.keyspace import AssignShards, CreateKeyspace, Nodes
from domain.shards.shard import Status
from muster.wire.stream import Name
from workers.http.model import Listing, Shape, Written
from workers.http.sagas.model import StepShape

Hash = Annotated[str, StringConstraints(pattern="^[0-9a-f]{16}$")]


class KeyspaceBody(CreateKeyspace):
    """What a keyspace is to be; without `nodes` all that can take shards now get them."""

    nodes: Nodes | None = None  # type: ignore[assignment]


class AssignBody(AssignShards):
    """Which nodes get the shards that nobody owns; without `nodes` all that can take shards now."""

    nodes: Nodes | None = None  # type: ignore[assignment]


class KeyspaceItem(Shape):
    """A keyspace and its shards by status. `cleanups`: copies that have to go, now or later; `moves`: begun so far."""

    keyspace: str
    shards: int
    active: int
    migrating: int
    inactive: int
    value_bytes_max: int
    shard_bytes_max: int
    cleanups: int
    moves: int


class KeyspaceList(Listing):
    """Keyspaces."""

    items: list[KeyspaceItem]


class ShardItem(Shape):
    """A shard: who owns it with which epoch. `fenced`: it takes no writes just now; it owns the hashes from first to last."""

    keyspace: str
    shard: int
    owner: str | None
    address: str | None
    epoch: int
    status: Status
    fenced: bool
    migration: str | None
    target: str | None
    pinned: bool
    first_hash: Hash
    last_hash: Hash


class ShardList(Listing):
    """Shards."""

    items: list[ShardItem]


class RouteItem(Shape):
    """Where a key is: its hash, its shard, and who owns that."""

    keyspace: str
    key: str
    hash: Hash
    shard: int
    owner: str | None
    address: str | None
    epoch: int
    status: Status


class NodeItem(Shape):
    """A data node. `alive`: it holds its lease; `shards` and `moves`: how many it owns, and takes part in."""

    node: str
    address: str
    zone: str
    capacity: float
    lease_seconds: float
    alive: bool
    cordoned: bool
    draining: bool
    incarnation: int
    version: int
    shards: int
    moves: int


class NodeList(Listing):
    """Data nodes."""

    items: list[NodeItem]


class SlotsItem(Shape):
    """A move that holds slots, or waits for them."""

    migration: str
    source: str
    target: str


class ClusterItem(Shape):
    """How many moves there may be at a time, who holds slots, and who waits for some, in their order."""

    node_moves_max: int
    cluster_moves_max: int
    held: list[SlotsItem]
    waiting: list[SlotsItem]


class Joined(Written):
    """A node has joined. The lease counts from when the node sent the request."""

    lease_seconds: float


class MoveWritten(Written):
    """A shard is being moved, by `migration`; when there was nothing to do, the newest that it has had, if any."""

    migration: str | None


class ProgressShape(Shape):
    """How far the step under way has come, by what its participant last said; `seconds_left` is an estimate."""

    bytes: int | None
    bytes_total: int | None
    records: int | None
    lag_records: int | None
    bytes_per_second: float | None
    seconds_left: float | None


class MigrationItem(Shape):
    """A migration: where it stands, what it waits for (null: it has ended), which verbs it takes now."""

    id: str
    keyspace: str
    shard: int
    source: str
    target: str
    phase: Literal["forward", "compensating", "completed", "compensated"]
    standing: Literal["running", "retrying", "blocked", "ended"]
    paused: bool
    step: str | None
    attempt: int
    error: str | None
    cause: str | None
    stalled: str | None
    started_at: datetime
    ended_at: datetime | None
    seconds: float
    actor: str
    reason: str | None
    events: int
    waits_for: str | None
    allowed: list[str]
    progress: ProgressShape | None


class MigrationList(Listing):
    """Migrations, newest first."""

    items: list[MigrationItem]


class MigrationWhole(MigrationItem):
    """A migration with its steps."""

    steps: list[StepShape]


class TaskItem(Shape):
    """What a node is wanted to do. `saga`, `step` and `attempt` are empty for what the shard map wants by itself."""

    id: str
    node: str
    kind: str
    keyspace: str
    shard: int
    params: dict[str, Any]
    saga: str | None
    step: str | None
    attempt: int
    since: datetime


class TaskList(Listing):
    """Tasks."""

    items: list[TaskItem]


class Report(BaseModel):
    """What a node says of a task."""

    model_config = ConfigDict(extra="forbid")
    id: Annotated[str, Field(min_length=1, max_length=700)]
    outcome: Literal["done", "failed", "progress"]
    result: dict[str, Any] | None = None
    error: Text | None = None
    final: bool = False


class ReportBatch(Shape):
    """What a node says of its tasks, in its order."""

    node: Name
    reports: list[Report]
