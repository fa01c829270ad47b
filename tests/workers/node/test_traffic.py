"""What a data node counts of its shards, and what it tells of them."""

from collections.abc import Callable
from typing import Any

import pytest

from muster.wire.error import MusterError
from muster.wire.rpc import node_pb2
from muster.wire.shards.driver import ShardId
from muster.wire.telemetry.shard_loads import ShardLoadReport
from tests.drivers.driver_stage import OTHER, SHARD, opened
from tests.workers.node.lmdb_node import LmdbNode, wire
from tests.workers.node.test_data_node import get, put, started  # noqa: F401 a fixture
from workers.node.traffic import ShardTraffic, window_seconds

Started = Callable[..., Any]


class Counting:
    def __init__(self) -> None:
        self.seconds = 0.0
        self.traffic = ShardTraffic(lambda: self.seconds)

    def after(self, seconds: float, reads: int = 0, writes: int = 0, shard: ShardId = SHARD) -> "Counting":
        self.seconds += seconds
        self.traffic.reads[shard] += reads
        self.traffic.writes[shard] += writes
        return self

    def looks(self, *shards: ShardId, size: int = 10) -> "Counting":
        self.traffic.look(dict.fromkeys(shards or (SHARD,), size))
        return self

    def rates(self, shard: ShardId = SHARD) -> tuple[float | None, float | None]:
        return self.traffic.load(shard)[:2]


def test_rates_are_means_up_to_the_last_look() -> None:
    counting = Counting().after(5, reads=50, writes=5).looks()
    assert counting.traffic.load(SHARD) == ShardLoadReport(10.0, 1.0, 10)
    assert counting.after(5, reads=1_000).rates() == (10.0, 1.0)


def test_what_was_before_the_window_is_forgotten() -> None:
    counting = Counting().after(5, reads=5_000).looks()
    for _ in range(int(window_seconds / 5)):
        counting.after(5, reads=5).looks()
    assert counting.rates() == (1.0, 0.0)


def test_a_shard_that_has_come_is_told_as_it_is_asked_since_then() -> None:
    counting = Counting()
    for _ in range(6):
        counting.after(5).looks()
    counting.after(5, reads=100, shard=OTHER).looks(SHARD, OTHER)
    assert counting.rates(OTHER) == (20.0, 0.0)
    assert counting.after(5, reads=50, shard=OTHER).looks(SHARD, OTHER).rates(OTHER) == (15.0, 0.0)


def test_a_shard_that_left_and_comes_back_begins_anew() -> None:
    counting = Counting().after(5, reads=500, writes=50).looks().after(5).looks(OTHER)
    assert counting.traffic.load(SHARD).bytes is None
    assert counting.after(5, reads=10).looks().rates() == (2.0, 0.0)


def test_looks_in_quick_succession_are_no_beginnings_of_windows() -> None:
    counting = Counting().looks().looks().after(0.5, reads=3).looks()
    assert counting.rates() == (3.0, 0.0)
    assert len(counting.traffic._looks) == 1


async def test_a_node_counts_what_it_has_answered(started: Started) -> None:  # noqa: F811
    node: LmdbNode = await started()
    await opened(node, 0)
    traffic = node.node.traffic
    await node.put(SHARD, "a", b"1")
    await node.delete(SHARD, "a")
    assert await node.get(SHARD, "a") is None
    assert (traffic.reads[SHARD], traffic.writes[SHARD]) == (1, 2)

    async def message() -> Any:
        yield node_pb2.Operations(
            operations=[put("b"), get("b"), put("c"), put("d", shard=OTHER), get("e", shard=OTHER)]
        )

    async for _ in node.stub.Batch(message()):
        pass
    assert (traffic.reads[SHARD], traffic.writes[SHARD]) == (2, 4)
    async for _ in node.stub.Scan(node_pb2.ScanRequest(shard=wire(SHARD))):
        pass
    assert traffic.reads[SHARD] == 3


async def test_what_is_refused_is_no_load(started: Started) -> None:  # noqa: F811
    node: LmdbNode = await started()
    await opened(node, 0)
    for call in (node.put(OTHER, "a", b"1"), node.get(OTHER, "a"), node.put(SHARD, "", b"")):
        with pytest.raises(MusterError):
            await call
    traffic = node.node.traffic
    assert (dict(traffic.reads), dict(traffic.writes)) == ({}, {})
