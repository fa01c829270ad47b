"""Where the shards of nodes that are being drained should go. Pure: the same states give the same moves."""

from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

from domain.shards.cluster import Cluster
from domain.shards.shard import Keyspace

node_drain_moves_max: Final = 8
"""How many moves off one node are under way or wait for slots at a time: enough to keep its slot busy."""


class DrainMove(NamedTuple):
    """A shard that should leave the node; `latest` is its newest move so far."""

    keyspace: str
    shard: int
    node: str
    target: str
    latest: str | None


def drain_moves(keyspaces: Mapping[str, Keyspace], cluster: Cluster) -> list[DrainMove]:
    """The next moves off draining nodes, each to the eligible node with the least shards for its capacity."""
    draining = {node.id for node in cluster.nodes.values() if node.draining}
    eligible = [node for node in cluster.nodes.values() if node.eligible]
    if not draining or not eligible:
        return []
    loads, leaving = _loads(keyspaces)
    moves: list[DrainMove] = []
    # In a fixed order: each controller starts the moves of its own partitions only, and all of them must come to the
    # same plan.
    for name in sorted(keyspaces):
        keyspace = keyspaces[name]
        for shard in sorted(keyspace.shards.values(), key=lambda shard: shard.id):
            node = shard.owner
            if node not in draining or shard.migration is not None or shard.status != "active" or shard.pinned:
                continue
            if leaving[node] >= node_drain_moves_max:
                continue
            # A node that has yet to clean up after an earlier move of the shard cannot take it again.
            free = [found for found in eligible if (shard.id, found.id) not in keyspace.cleanups]
            if not free:
                continue
            target = min(free, key=lambda found: ((loads[found.id] + 1) / found.capacity, found.id))
            # The next shard is placed as if this one had arrived. Otherwise all would choose the same node.
            loads[target.id] += 1
            leaving[node] += 1
            moves.append(DrainMove(name, shard.id, node, target.id, shard.latest))
    return moves


def _loads(keyspaces: Mapping[str, Keyspace]) -> tuple[Counter[str], Counter[str]]:
    """The shards that each node has or is about to have, and those that are about to leave it."""
    loads: Counter[str] = Counter()
    leaving: Counter[str] = Counter()
    for keyspace in keyspaces.values():
        for shard in keyspace.shards.values():
            holder = shard.target or shard.owner
            if holder is not None:
                loads[holder] += 1
            # After the commit the target is the owner, and the shard has left already.
            if shard.owner is not None and shard.target not in (None, shard.owner):
                leaving[shard.owner] += 1
    return loads, leaving
