"""What data nodes say of the loads of their shards, as this controller has heard; nothing of it outlives this process.

Kept is the last word about each shard, whoever said it: while a shard changes its owner the one has stopped to tell of it before
the other begins.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final, NamedTuple, TypeVar

from muster.wire.telemetry.shard_loads import NodeLoad, NodeLoads, ShardLoad, ShardLoads

Number = TypeVar("Number", int, float)

fresh_seconds: Final = 15.0
"""Three times what lies between two words of a node. What is older is nobody's load any more."""

weights_seconds: Final = 1.0
shards_max: Final = 200_000
nodes_max: Final = 10_000


class _Said(NamedTuple):
    """The last word about a shard, and when it was said, in seconds of our clock."""

    at: float
    load: ShardLoad


class ToldShards:
    """The last word about each shard, and when each node was last heard. `clock` gives seconds that only grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shards: dict[tuple[str, int], _Said] = {}
        self._nodes: dict[str, tuple[float, datetime]] = {}
        self._swept_at = clock()
        self._weights: tuple[float, Mapping[tuple[str, int], float]] | None = None

    def hear(self, row: NodeLoads, age_seconds: float = 0.0) -> None:
        """Take what a node has said so long ago."""
        at = self._clock() - age_seconds
        self._sweep()
        known = self._nodes.get(row.node)
        # On Kafka a controller hears twice of what was told to itself: what it hears second may be the older one.
        if age_seconds > fresh_seconds or (known is not None and known[0] > at):
            return
        if known is None and len(self._nodes) >= nodes_max:
            return
        self._nodes[row.node] = at, row.at
        self._weights = None
        for load in row:
            place = load.keyspace, load.shard
            # Whoever is there already goes on being heard, however full it is.
            if place in self._shards or len(self._shards) < shards_max:
                self._shards[place] = _Said(at, load)

    def loads(self, keyspace: str | None = None, node: str | None = None) -> ShardLoads:
        """The loads that are told now: of all shards, or of those of a keyspace, of a node, or both."""
        shards = sorted(
            (load for load in self._fresh() if keyspace in (None, load.keyspace) and node in (None, load.node)),
            key=lambda load: (load.keyspace, load.shard),
        )
        return ShardLoads(nodes=tuple(self._together(shards, keyspace, node)), shards=tuple(shards))

    def weights(self) -> Mapping[tuple[str, int], float]:
        """By keyspace and number the reads and writes per second of the shards whose load is told now."""
        now = self._clock()
        # While nodes are drained every partition asks twice a second, and of 200,000 shards that would be felt.
        if self._weights is None or now - self._weights[0] > weights_seconds:
            found = {
                (load.keyspace, load.shard): (load.reads_per_second or 0.0) + (load.writes_per_second or 0.0)
                for load in self._fresh()
                if load.reads_per_second is not None or load.writes_per_second is not None
            }
            self._weights = now, found
        return self._weights[1]

    def _fresh(self) -> Iterator[ShardLoad]:
        since = self._clock() - fresh_seconds
        return (said.load for said in self._shards.values() if said.at >= since)

    def _together(self, shards: Iterable[ShardLoad], keyspace: str | None, node: str | None) -> Iterator[NodeLoad]:
        by_node: dict[str, list[ShardLoad]] = {}
        for load in shards:
            by_node.setdefault(load.node, []).append(load)
        since = self._clock() - fresh_seconds
        for name, (at, heard_at) in sorted(self._nodes.items()):
            loads = by_node.get(name, [])
            # A node without shards has said so, which is worth a row; one without shards of this keyspace is not asked about.
            if at >= since and node in (None, name) and (loads or keyspace is None):
                yield NodeLoad(
                    node=name,
                    shards=len(loads),
                    reads_per_second=_rate([load.reads_per_second for load in loads]),
                    writes_per_second=_rate([load.writes_per_second for load in loads]),
                    bytes=_total([load.bytes for load in loads]),
                    at=heard_at,
                )

    def _sweep(self) -> None:
        """Forget what is old, now and then: nodes and keyspaces come and go."""
        now = self._clock()
        if now - self._swept_at <= fresh_seconds:
            return
        self._swept_at = now
        self._shards = {place: said for place, said in self._shards.items() if now - said.at <= fresh_seconds}
        self._nodes = {node: heard for node, heard in self._nodes.items() if now - heard[0] <= fresh_seconds}


def _rate(told: list[float | None]) -> float | None:
    total = _total(told)
    return None if total is None else round(total, 3)


def _total(told: list[Number | None]) -> Number | int | None:
    """The sum of what is known; None: there are some, and nothing is known of any."""
    known = [number for number in told if number is not None]
    return None if told and not known else sum(known)
