"""What a controller answers about keyspaces, data nodes and migrations; see `muster.wire.registry.answers`."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter

from muster.wire.read_model import Page, ReadModel
from muster.wire.registry.answers import Written
from muster.wire.sagas import SagaStep, Standing

Status = Literal["active", "migrating", "inactive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyspaceState:
    """A keyspace and its shards by status. `cleanups`: copies that have to go, now or later; `moves`: begun so far.
    `unavailable`: how many of the active and migrating ones nobody serves.
    """

    keyspace: str
    shards: int
    active: int
    migrating: int
    inactive: int
    value_bytes_max: int
    shard_bytes_max: int
    cleanups: int
    moves: int
    unavailable: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A shard: who owns it with which epoch. `fenced`: it takes no writes just now; `migration`: the move to `target`;
    `first_hash` and `last_hash`: of the keys in it, 16 hex digits; `unavailable`: nobody serves it, though its status is
    active or migrating; `cause`: why its owner serves nothing.
    """

    keyspace: str
    shard: int
    owner: str | None
    address: str | None
    epoch: int
    status: Status | str
    fenced: bool = False
    migration: str | None = None
    target: str | None = None
    pinned: bool = False
    # Text, because many readers of JSON cannot hold a number of 64 bits.
    first_hash: str = ""
    last_hash: str = ""
    unavailable: bool = False
    cause: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a key is: its hash, its shard, and who owns that. `unavailable` and `cause` are the shard's."""

    keyspace: str
    key: str
    hash: str
    shard: int
    owner: str | None
    address: str | None
    epoch: int
    status: Status | str
    unavailable: bool = False
    cause: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
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
    # Why shards stay on it though it is being drained; null: they do not.
    drain_waits_for: str | None = None
    # How the nodes are compared to which its shards go; null: it is not being drained.
    drain_places: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveSlots:
    """A move that holds slots, or waits for them."""

    migration: str
    source: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """How many moves there may be at a time, who holds slots, and who waits for some, in their order."""

    node_moves_max: int
    cluster_moves_max: int
    held: tuple[MoveSlots, ...] = ()
    waiting: tuple[MoveSlots, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveProgress:
    """How far the step under way has come, by what its participant last said; `seconds_left` is an estimate."""

    bytes: int | None = None
    bytes_total: int | None = None
    records: int | None = None
    lag_records: int | None = None
    bytes_per_second: float | None = None
    seconds_left: float | None = None


Weight = Annotated[float, Field(strict=True, ge=0, le=1e18, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveWeights:
    """What was weighed when a move was planned: reads and writes per second, and 1 for each shard. `shard` is the shard's own;
    `source` and `target` what the two nodes had then, with what was on its way to them.
    """

    shard: Weight
    source: Weight
    target: Weight


MigrationStep = SagaStep
"""One step of a migration's story."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration(Standing):
    """A move of a shard: where it stands. `waits_for` says what it waits for, `allowed` which verbs it takes now.

    Lists leave out the `steps`.
    """

    keyspace: str
    shard: int
    source: str
    target: str
    progress: MoveProgress | None = None
    # Null: an operator has chosen the target, or the number of shards.
    weighed: MoveWeights | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined(Written):
    """A node has joined. The lease counts from when the node sent the request."""

    lease_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveStarted(Written):
    """A shard is being moved, by `migration`; when there was nothing to do, the newest that it has had, if any."""

    migration: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a node is wanted to do. `saga`, `step` and `attempt` are empty for what the shard map wants by itself."""

    id: str
    node: str = ""
    kind: str
    keyspace: str
    shard: int
    params: dict[str, Any] = field(default_factory=dict)
    saga: str | None = None
    # The id says these two as well: another attempt is another task.
    step: str | None = None
    attempt: int = 0
    # Not compared: an agent begins anew what is wanted in another form, and since when it is wanted is no part of that.
    since: datetime | None = field(default=None, compare=False)


# Made once, with the module: to make one costs far more than to use it.
SHARD_PAGE: Final = TypeAdapter(Page[Shard])
ROUTE: Final = TypeAdapter(Route)
CLUSTER: Final = TypeAdapter(ClusterState)
MOVE_STARTED: Final = TypeAdapter(MoveStarted)
TASK: Final = TypeAdapter(Task)

KEYSPACES: Final = ReadModel(name="keyspaces", item=KeyspaceState, key=("keyspace",))
NODES: Final = ReadModel(name="nodes", item=Node, key=("node",))
MIGRATIONS: Final = ReadModel(name="migrations", item=Migration, key=("id",), watched=True)
