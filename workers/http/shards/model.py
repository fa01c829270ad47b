"""The shapes of what is answered about keyspaces, data nodes, migrations and tasks; see `workers.http.model`."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from domain.saga import Text
from domain.shards.keyspace import AssignShards, CreateKeyspace, Nodes
from domain.stage import Phase, Standing
from muster.wire.command import Flag
from muster.wire.sagas import SagaStep
from muster.wire.shards import answers
from muster.wire.stream import Name
from workers.http.model import Written, list_of
from workers.http.openapi.shape import Shape, shape
from workers.http.sagas.model import StepShape

Hash = Annotated[str, StringConstraints(pattern="^[0-9a-f]{16}$")]


class KeyspaceBody(CreateKeyspace):
    """What a keyspace is to be; without `nodes` all that can take shards now get them."""

    nodes: Nodes | None = None  # type: ignore[assignment]


class AssignBody(AssignShards):
    """Which nodes get the shards that nobody owns; without `nodes` all that can take shards now."""

    nodes: Nodes | None = None  # type: ignore[assignment]


KeyspaceItem: Final = shape(answers.KeyspaceState, "KeyspaceItem", unavailable=(int, 0))
KeyspaceList: Final = list_of(KeyspaceItem, "Keyspaces.")
ShardItem: Final = shape(
    answers.Shard,
    "ShardItem",
    "A shard: who owns it with which epoch. `fenced`: it takes no writes just now; it owns the hashes from first to last. "
    "`unavailable`: nobody serves it, though its status is active or migrating; `cause`: why its owner serves nothing.",
    first_hash=Hash,
    last_hash=Hash,
    unavailable=(bool, False),
    cause=(str | None, None),
)
ShardList: Final = list_of(ShardItem, "Shards.")
RouteItem: Final = shape(answers.Route, "RouteItem", hash=Hash, unavailable=(bool, False), cause=(str | None, None))
NodeItem: Final = shape(answers.Node, "NodeItem", drain_waits_for=(str | None, None), drain_places=(str | None, None))
NodeList: Final = list_of(NodeItem, "Data nodes.")
SlotsItem: Final = shape(answers.MoveSlots, "SlotsItem")
ClusterItem: Final = shape(answers.ClusterState, "ClusterItem", parts={answers.MoveSlots: SlotsItem})
Joined: Final = shape(answers.Joined, "Joined", base=Written, without=("duplicate",))
MoveWritten: Final = shape(answers.MoveStarted, "MoveWritten", base=Written, without=("duplicate",))
ProgressShape: Final = shape(answers.MoveProgress, "ProgressShape")
WeightsShape: Final = shape(answers.MoveWeights, "WeightsShape")
MigrationItem: Final = shape(
    answers.Migration,
    "MigrationItem",
    "A migration: where it stands, what it waits for (null: it has ended), which verbs it takes now.",
    parts={answers.MoveProgress: ProgressShape},
    without=("steps",),
    first=("id", "keyspace", "shard", "source", "target"),
    phase=Phase,
    standing=Standing,
    seconds=float,
    actor=str,
    weighed=(WeightsShape | None, None),
)
MigrationList: Final = list_of(MigrationItem, "Migrations, newest first.")
MigrationWhole: Final = shape(
    answers.Migration,
    "MigrationWhole",
    "A migration with its steps.",
    base=MigrationItem,
    parts={SagaStep: StepShape},
)
TaskItem: Final = shape(answers.Task, "TaskItem", since=datetime)
TaskList: Final = list_of(TaskItem, "Tasks.")


class ShardLoadsTold(Shape):
    """What the shards of a node have to do, by keyspace: `[shard, reads_per_second, writes_per_second, bytes]`; any of the last
    three may be left out from the end, or be null: unknown.
    """

    incarnation: int
    keyspaces: dict[str, list[list[float | None]]]


class ShardLoadsHeard(Shape):
    """Of how many shards the node was heard."""

    shards: int


class Report(BaseModel):
    """What a node says of a task."""

    model_config = ConfigDict(extra="forbid")
    id: Annotated[str, Field(min_length=1, max_length=700)]
    outcome: Literal["done", "failed", "progress"]
    result: dict[str, Any] | None = None
    error: Text | None = None
    final: Flag = False


class ReportBatch(Shape):
    """What a node says of its tasks, in its order."""

    node: Name
    reports: list[Report]
