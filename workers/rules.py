"""What is refused of a command because of what other partitions know: pure checks of the views.

A rule that a command's own partition can judge stands in its `decide`. These need the shards of all keyspaces, or the nodes of
the cluster, for a command to another stream. `workers.gateway` asks them for every way in: the verbs of HTTP, `/v1/commands` and
the commands topic. The partition, or the saga, still decides: a check is a quick and clear answer, not a lock.
"""

from collections.abc import Callable

from domain.shards.cluster import Cluster
from domain.shards.keyspace import MoveShard
from domain.shards.node import DataNode, RemoveNode
from muster.wire.command import Envelope
from muster.wire.error import NodeCordoned, NodeNotFound, Refused, VerbNotAllowed
from muster.wire.stream import name_of
from workers.views.shards import ShardViews

Check = Callable[[Envelope, ShardViews], Refused | None]
"""Why a command is refused, as far as the views know; None: it is not."""


def refusal(envelope: Envelope, views: ShardViews) -> Refused | None:
    """Why a command is refused, whichever way it came."""
    match envelope.command:
        case RemoveNode(node=node):
            return _of_removal(node, views)
        case MoveShard(shard=shard, target=target):
            return _of_move(name_of(envelope.stream), shard, target, views)
        case _:
            return None


def _of_removal(node: str, views: ShardViews) -> Refused | None:
    found = views.cluster.nodes.get(node)
    if found is None:
        return None  # It has been removed: a repeat is answered like the first one.
    spaces = views.keyspaces.values()
    shards = sum(shard.owner == node for keyspace in spaces for shard in keyspace.shards.values())
    if shards:
        return VerbNotAllowed(
            f"data node {node} owns {shards} shards: drain it first, or remove it by force (`--force`, `?force=true`), which "
            "gives up what only it holds",
            allowed="drain",
        )
    if found.alive:
        return VerbNotAllowed(
            f"data node {node} is alive, and would join again: stop it, and wait until its lease is over "
            f"({found.lease_seconds:g} s), or remove it by force (`--force`, `?force=true`)",
            allowed="",
        )
    return None


def no_refusal(envelope: Envelope, views: ShardViews) -> Refused | None:
    """None: the caller has said that it is to be done by force, which only `DELETE /v1/nodes/{node}?force=true` can say."""


def _of_move(keyspace: str, number: int, target: str, views: ShardViews) -> Refused | None:
    space = views.keyspaces.get(keyspace)
    shard = space.shard(number) if space is not None else None
    if shard is not None and target in (shard.target, shard.owner):
        return None  # The move is under way, or done: its repeat is answered like the first one.
    return _not_a_target(views.cluster.nodes.get(target), target)


def _not_a_target(node: DataNode | None, name: str) -> Refused | None:
    if node is None:
        return NodeNotFound(f"the cluster has no data node {name}", node=name)
    if not (node.cordoned or node.draining):
        return None
    what = "cordoned" if node.cordoned else "being drained"
    return NodeCordoned(f"data node {name} is {what}: it takes no new shards", node=name)


def eligible(cluster: Cluster) -> tuple[str, ...]:
    """The data nodes that can take shards now, by name."""
    return tuple(sorted(node.id for node in cluster.nodes.values() if node.eligible))


def some_eligible(cluster: Cluster) -> tuple[str, ...]:
    """The same. Raises NodeNotFound when there are none."""
    nodes = eligible(cluster)
    if not nodes:
        raise NodeNotFound("no data node can take shards now; let one join, or name some in `nodes`")
    return nodes
