"""What keeps a move from its slots: one sentence for an operator, from the cluster's state."""

from collections.abc import Sequence
from typing import Final

from domain.shards.cluster import Cluster

shown_moves_max: Final = 4


def waited_slot(id_: str, cluster: Cluster) -> str:
    """The sentence for the move with this id: the slots that are taken, and the moves before it in the queue."""
    wanted = cluster.waiting.get(id_)
    if wanted is None:
        return "the cluster to queue it for slots"
    before = f"{cluster.queue.index(id_)} before it"
    if len(cluster.held) >= cluster.cluster_moves_max:
        return f"a slot: {_taken(list(cluster.held), cluster.cluster_moves_max)}, {before}"
    for node in (wanted.source, wanted.target):
        there = [move for move, held in cluster.held.items() if node in held.nodes]
        if len(there) >= cluster.node_moves_max:
            return f"a slot of {node}: {_taken(there, cluster.node_moves_max)}, {before}"
    return f"a slot: {before}"


def _taken(moves: Sequence[str], moves_max: int) -> str:
    named = sorted(moves)[:shown_moves_max]
    more = f" and {len(moves) - len(named)} more" if len(moves) > len(named) else ""
    verb = "is" if len(moves) == 1 else "are"
    return f"{len(moves)} of {moves_max} {verb} taken, by {', '.join(named)}{more}"
