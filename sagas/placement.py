"""How much each data node has to do, so that shards go to the one with the least. Pure: the same input gives the same answer.

    load of a shard    what is asked of it, reads and writes per second, and one more
    load of a node     the sum over the shards that it has, or is about to have, for its capacity

The one more is what a shard costs without being asked: where nobody asks, the number of shards decides, and a stray request
does not. When the load of one shard that counts is not known, by the number of shards alone: to compare what is known with what
is guessed would fill the node that says nothing.

Each shard goes where the load is least once it has come. Then no node that took one has more than (T + (m - 1) w) / C, where
T and C are the loads and capacities of all m nodes that could take it, and w is the heaviest shard that moves. Every plan
leaves some node with T / C at least, so this one is at most (m - 1) w / C worse than the best.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from domain.shards.node import DataNode
from domain.shards.shard import Keyspace, Shard
from muster.wire.shards.answers import MoveWeights

Weights = Mapping[tuple[str, int], float]
"""What is asked of shards per second, by keyspace and number; of those of which it is known now."""

NOTHING_KNOWN: Final[Weights] = {}
shard_requests_per_second: Final = 1.0
nodes_told_max: Final = 8


class Placement:
    """What the nodes have while shards are placed on them. `nodes` are those between which shards may move."""

    def __init__(self, keyspaces: Mapping[str, Keyspace], nodes: Iterable[DataNode], weights: Weights) -> None:
        here = {node.id: node for node in nodes}
        held = [(node, name, shard) for node, name, shard in _held(keyspaces) if node in here]
        # A shard that nobody has opened yet serves nobody, and nobody tells of it.
        self._unknown = next((one for one in held if one[2].status != "inactive" and _place(one) not in weights), None)
        self._weights = weights if self._unknown is None else NOTHING_KNOWN
        self._nodes = here
        self._shards = Counter(node for node, _, _ in held)
        self._loads: defaultdict[str, float] = defaultdict(float)
        for node, name, shard in held:
            self._loads[node] += self.weight(name, shard)

    def weight(self, keyspace: str, shard: Shard) -> float:
        """The load of the shard; 1 of each, where that of some is not known."""
        return self._weights.get((keyspace, shard.id), 0.0) + shard_requests_per_second

    def rank(self, node: DataNode, weight: float) -> tuple[float, int]:
        """The less, the better the node is for a shard of this weight. Between equals the fewer shards decide."""
        return (self._loads[node.id] + weight) / node.capacity, self._shards[node.id]

    def placed(self, shard: float, source: str, target: str) -> MoveWeights | None:
        """Place a shard of this weight: what comes next is placed as if it had arrived. What was weighed; None: no loads."""
        weighed = MoveWeights(
            shard=round(shard, 3), source=round(self._loads[source], 3), target=round(self._loads[target], 3)
        )
        self._loads[target] += shard
        self._shards[target] += 1
        # At the source it still counts, since no shard is placed there.
        return weighed if self._unknown is None else None

    def said(self) -> str:
        """By what shards are placed now, and what the nodes that may take some have: a sentence for people."""
        if self._unknown is not None:
            node, name, shard = self._unknown
            return f"by the number of shards, since the load of {name}/{shard.id} on {node} is not known"
        loads = sorted(
            (self._loads[node.id] / node.capacity, node.id) for node in self._nodes.values() if node.eligible
        )
        told = ", ".join(f"{node} {load:.4g}" for load, node in loads[:nodes_told_max])
        more = f", and {len(loads) - nodes_told_max} with no less" if len(loads) > nodes_told_max else ""
        return f"by load (requests per second, and 1 for each shard): {told or 'no node can take any'}{more}"


def _place(held: "_Held") -> tuple[str, int]:
    return held[1], held[2].id


_Held = tuple[str, str, Shard]


def _held(keyspaces: Mapping[str, Keyspace]) -> Iterator[_Held]:
    """Each shard with the node that has it, or is about to have it: node, keyspace, shard."""
    # In a fixed order, so that sums of the same numbers are the same, and all controllers name the same unknown one.
    for name in sorted(keyspaces):
        for _, shard in sorted(keyspaces[name].shards.items()):
            holder = shard.target or shard.owner
            if holder is not None:
                yield holder, name, shard
