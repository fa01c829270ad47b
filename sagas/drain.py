"""Where the shards of nodes that are being drained should go, and why some stay. Pure: the same input gives the same plan.

A move that turned back is not begun again at once: the shard first tries other nodes, and a node that could not take a shard
is left alone for a while, longer each time. All of that stands in the log. Which node has the least to do is told by `weights`,
which do not: each move is begun by one controller, and its command carries what that one has weighed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from domain.shards.cluster import Cluster
from domain.shards.node import DataNode
from domain.shards.shard import Keyspace, Shard
from muster.wire.shards.answers import MoveWeights
from sagas.placement import NOTHING_KNOWN, Placement, Weights

node_drain_moves_max: Final = 8
"""How many moves off one node are under way or wait for slots at a time: enough to keep its slot busy."""

again_seconds: Final = 30.0
again_seconds_max: Final = 3_600.0
"""How long a node is left alone with a shard that it could not take: the first time, and at most. It doubles."""

error_chars_max: Final = 200


class DrainMove(NamedTuple):
    """A shard that should leave the node; `latest` is its newest move so far, `weighed` what the choice rests on, if on loads."""

    keyspace: str
    shard: int
    node: str
    target: str
    latest: str | None
    weighed: MoveWeights | None = None


class TurnedBack(NamedTuple):
    """A move that came to nothing: which shard, off which node, to which one, when it ended, and why."""

    keyspace: str
    shard: int
    node: str
    target: str
    at: datetime
    why: str


@dataclass(frozen=True, slots=True)
class DrainPlan:
    """The next moves off draining nodes, and by node what shards without a move wait for. `by`: how nodes are compared."""

    moves: list[DrainMove] = field(default_factory=list)
    waits: dict[str, str] = field(default_factory=dict)
    by: str = ""


class _Failures:
    """Which node is left alone with which shard, until when; `troubled` counts these shards by node."""

    def __init__(self, turned_back: Iterable[TurnedBack], now: datetime) -> None:
        found: dict[tuple[str, int, str, str], list[TurnedBack]] = defaultdict(list)
        for one in turned_back:
            found[one.keyspace, one.shard, one.node, one.target].append(one)
        self._until: dict[tuple[str, int, str, str], tuple[datetime, TurnedBack]] = {}
        self.troubled: Counter[str] = Counter()
        for place, those in found.items():
            newest = max(those, key=lambda one: one.at)
            seconds = min(again_seconds * 2 ** min(len(those) - 1, 16), again_seconds_max)
            until = newest.at + timedelta(seconds=seconds)
            if until > now:
                self._until[place] = until, newest
                self.troubled[newest.target] += 1

    def of(self, keyspace: str, shard: Shard, target: str) -> tuple[datetime, TurnedBack] | None:
        """Until when the target is left alone with the shard, and the move that it could not take last."""
        return self._until.get((keyspace, shard.id, shard.owner or "", target))


def draining(cluster: Cluster) -> frozenset[str]:
    """The nodes that are being drained."""
    return frozenset(node.id for node in cluster.nodes.values() if node.draining)


def drain_plan(
    keyspaces: Mapping[str, Keyspace],
    cluster: Cluster,
    turned_back: Iterable[TurnedBack],
    now: datetime,
    weights: Weights = NOTHING_KNOWN,
) -> DrainPlan:
    """What to begin next: each shard to an eligible node with the fewest troubles, then the least load for its capacity."""
    leaves = draining(cluster)
    if not leaves:
        return DrainPlan()
    eligible = [node for node in cluster.nodes.values() if node.eligible]
    failures = _Failures(turned_back, now)
    nodes = [node for node in cluster.nodes.values() if node.eligible or node.id in leaves]
    placement, leaving = Placement(keyspaces, nodes, weights), _leaving(keyspaces)
    by = placement.said()
    moves: list[DrainMove] = []
    held: dict[str, Counter[str]] = defaultdict(Counter)
    for name, node, shard in _staying(keyspaces, leaves):
        if shard.status != "active" or shard.pinned:
            held[node]["pinned" if shard.pinned else "not opened yet"] += 1
            continue
        if leaving[node] >= node_drain_moves_max:
            continue
        # A node that has yet to clean up after an earlier move of the shard cannot take it again.
        clean = [found for found in eligible if (shard.id, found.id) not in keyspaces[name].cleanups]
        free = [found for found in clean if failures.of(name, shard, found.id) is None]
        if not free:
            held[node][_hindrance(name, shard, cluster, clean, failures)] += 1
            continue
        weight = placement.weight(name, shard)
        ranks = {found.id: (failures.troubled[found.id], placement.rank(found, weight), found.id) for found in free}
        target = min(ranks, key=ranks.__getitem__)
        # The next shard is placed as if this one had arrived. Otherwise all would choose the same node.
        weighed = placement.placed(weight, node, target)
        leaving[node] += 1
        moves.append(DrainMove(name, shard.id, node, target, shard.latest, weighed))
    return DrainPlan(moves, {node: _said(reasons) for node, reasons in held.items()}, by)


def _staying(keyspaces: Mapping[str, Keyspace], leaves: frozenset[str]) -> Iterator[tuple[str, str, Shard]]:
    """The shards of the nodes that have no move: keyspace, owner, shard."""
    # In a fixed order: each controller starts the moves of its own partitions only, and all of them must come to the
    # same plan.
    for name in sorted(keyspaces):
        for shard in sorted(keyspaces[name].shards.values(), key=lambda shard: shard.id):
            if shard.owner in leaves and shard.migration is None:
                yield name, shard.owner, shard


def _hindrance(keyspace: str, shard: Shard, cluster: Cluster, clean: list[DataNode], failures: _Failures) -> str:
    """Why no node can take the shard now."""
    known = [found for node in clean if (found := failures.of(keyspace, shard, node.id)) is not None]
    if known:
        until, last = min(known)
        return f"the move to {last.target} turned back ({last.why[:error_chars_max]}); again at {until:%H:%M:%S} UTC"
    others = [node for node in cluster.nodes.values() if node.id != shard.owner]
    if not others:
        return "there is no other data node"
    return "no eligible node: " + ", ".join(
        f"{node.id} {_unfit(node)}" for node in sorted(others, key=lambda node: node.id)
    )


def _unfit(node: DataNode) -> str:
    if not node.alive:
        return "is lost"
    if node.draining:
        return "is being drained"
    return "is cordoned" if node.cordoned else "has yet to delete an old copy"


def _said(reasons: Counter[str]) -> str:
    """The reasons with how many shards have each, the most frequent one first."""
    return "; ".join(f"{count} {'shard' if count == 1 else 'shards'}: {why}" for why, count in reasons.most_common(4))


def _leaving(keyspaces: Mapping[str, Keyspace]) -> Counter[str]:
    """How many shards are about to leave each node."""
    leaving: Counter[str] = Counter()
    for keyspace in keyspaces.values():
        for shard in keyspace.shards.values():
            # After the commit the target is the owner, and the shard has left already.
            if shard.owner is not None and shard.target not in (None, shard.owner):
                leaving[shard.owner] += 1
    return leaving
