"""The routes of keyspaces, data nodes, migrations and tasks, for the OpenAPI document: a literal table."""

from typing import Final

from domain.saga import AbortSaga, ForceComplete, PauseSaga, ResumeSaga, RetryStep, UpgradeSaga
from domain.shards.keyspace import MoveShard, PinShard, UnpinShard
from domain.shards.node import (
    CordonNode,
    DrainNode,
    JoinNode,
    RemoveNode,
    RenewNode,
    SetMoveLimits,
    UncordonNode,
    UndrainNode,
)
from workers.http.documented import Operation
from workers.http.model import OutcomeList, Written
from workers.http.shards import keyspaces, migrations, nodes, tasks
from workers.http.shards import watch as shard_watch
from workers.http.shards.model import (
    AssignBody,
    ClusterItem,
    Joined,
    KeyspaceBody,
    KeyspaceItem,
    KeyspaceList,
    MigrationList,
    MigrationWhole,
    MoveWritten,
    NodeItem,
    NodeList,
    ReportBatch,
    RouteItem,
    ShardList,
    SkipBody,
    TaskList,
)

_KEYSPACE: Final = "/v1/keyspaces/{keyspace}"
_PIN: Final = f"{_KEYSPACE}/shards/{{shard}}/pin"
_NODE: Final = "/v1/nodes/{node}"
_MIGRATION: Final = "/v1/migrations/{keyspace}/{number}"

SHARDS: Final = (
    Operation("get", "/v1/keyspaces", "All keyspaces, by name", KeyspaceList, tag="shards"),
    Operation("get", _KEYSPACE, "One keyspace", KeyspaceItem, tag="shards"),
    Operation("put", _KEYSPACE, "Have a keyspace, spread over the nodes", Written, KeyspaceBody, tag="shards"),
    Operation("post", f"{_KEYSPACE}/assign", "Assign the shards that nobody owns", Written, AssignBody, tag="shards"),
    Operation(
        "get", f"{_KEYSPACE}/shards", "A keyspace's shards", ShardList, query=keyspaces.ShardsQuery, tag="shards"
    ),
    Operation("get", f"{_KEYSPACE}/route", "Where a key is", RouteItem, query=keyspaces.RouteQuery, tag="shards"),
    Operation("put", _PIN, "Keep a shard where it is", Written, PinShard, reasoned=True, tag="shards"),
    Operation("delete", _PIN, "Let a shard be moved again", Written, UnpinShard, reasoned=True, tag="shards"),
    Operation("post", f"{_KEYSPACE}/moves", "Move a shard, live", MoveWritten, MoveShard, tag="shards"),
    Operation("get", "/v1/nodes", "All data nodes, by name", NodeList, tag="nodes"),
    Operation("get", _NODE, "One data node", NodeItem, tag="nodes"),
    Operation("put", _NODE, "Join as a data node", Joined, JoinNode, tag="nodes"),
    Operation(
        "delete", _NODE, "Give a node up", Written, RemoveNode, reasoned=True, query=nodes.RemoveQuery, tag="nodes"
    ),
    Operation("post", f"{_NODE}/renew", "Renew a node's lease", Written, RenewNode, tag="nodes"),
    Operation("put", f"{_NODE}/cordon", "Let no new shards come", Written, CordonNode, reasoned=True, tag="nodes"),
    Operation("delete", f"{_NODE}/cordon", "Let shards come again", Written, UncordonNode, reasoned=True, tag="nodes"),
    Operation("put", f"{_NODE}/drain", "Have all shards moved away", Written, DrainNode, reasoned=True, tag="nodes"),
    Operation("delete", f"{_NODE}/drain", "Let the node stay", Written, UndrainNode, reasoned=True, tag="nodes"),
    Operation("get", "/v1/cluster", "The limits of moves, and who holds or awaits slots", ClusterItem, tag="nodes"),
    Operation("put", "/v1/cluster/limits", "Limit moves at a time", Written, SetMoveLimits, reasoned=True, tag="nodes"),
    Operation(
        "get",
        "/v1/migrations",
        "The newest migrations",
        MigrationList,
        query=migrations.MigrationsQuery,
        tag="migrations",
    ),
    Operation("get", _MIGRATION, "One migration with its steps", MigrationWhole, tag="migrations"),
    *(
        Operation("post", f"{_MIGRATION}/{verb}", summary, Written, body, reasoned=True, tag="migrations")
        for verb, summary, body in (
            ("pause", "Stop after what is under way", PauseSaga),
            ("resume", "Go on", ResumeSaga),
            ("retry", "Try the failed step again", RetryStep),
            ("skip", "Leave a step out", SkipBody),
            ("abort", "Turn back, if the shard has not been handed over", AbortSaga),
            ("force-complete", "Leave out what can be left out of the rest", ForceComplete),
            ("upgrade", "Let a later version of the definition take over", UpgradeSaga),
        )
    ),
    Operation("get", "/v1/tasks", "What data nodes are wanted to do", TaskList, query=tasks.TasksQuery, tag="tasks"),
    Operation("post", "/v1/tasks", "Report on tasks; outcomes in their order", OutcomeList, ReportBatch, tag="tasks"),
    *(
        Operation("get", f"/v1/watch/{kind}", f"Follow {kind} (server-sent events)", None, query=query, tag="shards")
        for kind, query in (
            ("shards", shard_watch.ShardsQuery),
            ("tasks", shard_watch.TasksQuery),
            ("migrations", shard_watch.MigrationsQuery),
        )
    ),
)
