"""One plausible message of every kind about keyspaces and data nodes, in the order of the catalogue."""

from datetime import UTC, datetime
from typing import Final

from domain.message import Event
from domain.shards import keyspace as k
from domain.shards import node as n
from domain.shards import shard as m
from muster.wire.command import Command

MOVE: Final = "keyspace/users/migration/17"
_FACTS: Final = {
    "address": "10.0.0.7:7400",
    "zone": "eu-1a",
    "capacity": 2.0,
    "lease_seconds": 5.0,
    "process": "p-1",
    "store": "s-1",
}
_STEP: Final = {"shard": 17, "migration": MOVE, "epoch": 4}

EVENTS: Final[tuple[Event, ...]] = (
    m.KeyspaceCreated(shards=256, value_bytes_max=1_048_576, shard_bytes_max=4_294_967_296),
    m.ShardsAssigned(node="n1", shards=(0, 2, 4)),
    m.ShardOpened(shard=17, node="n1", epoch=1),
    m.ShardPinSet(shard=17),
    m.ShardPinCleared(shard=17),
    m.ShardMoveStarted(shard=17, migration=MOVE, epoch=4, source="n1", target="n2"),
    m.CleanupIntended(shard=17, node="n2", epoch=5, migration=MOVE),
    m.ShardFenced(shard=17, migration=MOVE, epoch=4),
    m.ShardMoved(shard=17, migration=MOVE, epoch=5, owner="n2", was="n1"),
    m.ShardReclaimed(shard=17, migration=MOVE, epoch=5, owner="n1"),
    m.ShardMoveEnded(shard=17, migration=MOVE, outcome="aborted", cleaned=False),
    m.CleanupDone(shard=17, node="n2"),
    m.CleanupAbandoned(shard=17, node="n2"),
    n.NodeJoined(node="n1", **_FACTS),
    n.NodeRejoined(node="n1", **{**_FACTS, "process": "p-2"}),
    n.NodeLost(node="n1", incarnation=3, lease_seconds=5.0),
    n.NodeReturned(node="n1"),
    n.NodeRemoved(node="n1"),
    n.NodeCordonSet(node="n1"),
    n.NodeCordonCleared(node="n1"),
    n.NodeDrainStarted(node="n1"),
    n.NodeDrainEnded(node="n1"),
    n.MoveLimitsChanged(node_moves_max=2, cluster_moves_max=8),
    n.SlotsQueued(saga=MOVE, source="n1", target="n2"),
    n.SlotsGranted(saga=MOVE, source="n1", target="n2"),
    n.SlotsReleased(saga=MOVE),
    n.NodeSilenceAttested(node="n1", saga=MOVE),
)

COMMANDS: Final[tuple[Command, ...]] = (
    k.CreateKeyspace(shards=256, nodes=("n1", "n2")),
    k.AssignShards(nodes=("n1",)),
    k.MoveShard(shard=17, target="n2", bytes_per_second=1e6, not_before=datetime(2026, 1, 3, 2, 0, tzinfo=UTC)),
    k.PinShard(shard=17),
    k.UnpinShard(shard=17),
    k.ReportOpened(shard=17, node="n1", epoch=1),
    k.ReportDropped(shard=17, node="n2", migration=MOVE),
    n.JoinNode(node="n1", **_FACTS),
    n.RenewNode(node="n1", incarnation=3),
    n.RemoveNode(node="n1"),
    n.CordonNode(node="n1"),
    n.UncordonNode(node="n1"),
    n.DrainNode(node="n1"),
    n.UndrainNode(node="n1"),
    n.SetMoveLimits(node_moves_max=2, cluster_moves_max=8),
)

INTERNAL_COMMANDS: Final[tuple[Command, ...]] = (
    k.StartMove(**_STEP, target="n2"),
    k.IntendCleanup(**_STEP, node="n2"),
    k.FenceShard(**_STEP),
    k.CommitMove(**_STEP, target="n2"),
    k.ReclaimShard(**_STEP),
    k.EndMove(**_STEP, outcome="completed", cleaned=True),
    k.AbandonCleanup(shard=17, node="n2"),
    n.ReserveSlots(saga=MOVE, source="n1", target="n2"),
    n.ReleaseSlots(saga=MOVE),
    n.AttestSilence(node="n1", saga=MOVE),
    n.ExpireNode(node="n1", incarnation=3),
)
"""Those that one controller may give to another; `ExpireStep` never leaves its partition."""
