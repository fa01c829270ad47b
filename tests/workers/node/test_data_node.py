"""A data node as its clients and other nodes meet it: leases, batches, scans, refusals, pace, a log that was trimmed."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from muster.clock import elapsed_seconds
from muster.wire.error import (
    ChecksumMismatch,
    DataUnavailable,
    InvalidShardKey,
    MusterError,
    NotOwner,
    NotReady,
    ReadFailed,
    ShardNotFound,
    StaleEpoch,
)
from muster.wire.rpc import node_pb2, node_pb2_grpc
from muster.wire.rpc.problem import METADATA, error_from, error_of, problem
from muster.wire.shards.driver import CopyLimits, Location, ShardId, ShardLimits
from tests.drivers.driver_stage import (
    ELSEWHERE,
    LIMITS,
    OTHER,
    QUICKLY,
    SHARD,
    Heard,
    copied,
    eventually,
    fill,
    moved,
    opened,
    unheard,
)
from tests.workers.node.lmdb_node import LmdbNode, wire
from workers.node.listener import stop_seconds_max
from workers.node.node import NodeServer
from workers.node.outgoing import heartbeat_seconds

Started = Callable[..., Any]


@pytest.fixture
async def started(tmp_path: Path) -> AsyncIterator[Started]:
    """Starts nodes by name, with options of `NodeServer`."""
    async with AsyncExitStack() as stack:

        async def start(name: str = "n1", **options: Any) -> LmdbNode:
            node = LmdbNode(tmp_path / name, name, **options)
            await node.start()
            stack.push_async_callback(node.kill)
            return node

        yield start


def put(key: str, value: bytes = b"value", shard: ShardId = SHARD, **fields: Any) -> node_pb2.Operation:
    return node_pb2.Operation(put=node_pb2.PutRequest(shard=wire(shard), key=key, value=value, **fields))


def get(key: str, shard: ShardId = SHARD) -> node_pb2.Operation:
    return node_pb2.Operation(get=node_pb2.GetRequest(shard=wire(shard), key=key))


def delete(key: str, shard: ShardId = SHARD) -> node_pb2.Operation:
    return node_pb2.Operation(delete=node_pb2.DeleteRequest(shard=wire(shard), key=key))


async def batch(node: LmdbNode, *operations: node_pb2.Operation) -> list[node_pb2.Result]:
    call = node.stub.Batch()
    await call.write(node_pb2.Operations(operations=operations))
    answer = await call.read()
    await call.done_writing()
    return list(answer.results)


async def scanned(node: LmdbNode, after: str = "", limit: int = 0) -> list[str]:
    request = node_pb2.ScanRequest(shard=wire(SHARD), after=after, limit=limit)
    return [pair.key async for pairs in node.stub.Scan(request) for pair in pairs.pairs]


class TestLease:
    async def test_before_the_first_lease_nothing_is_answered(self, started: Started) -> None:
        node = await started()
        await opened(node, 1)
        node.node.serve_until(-math.inf)

        with pytest.raises(DataUnavailable):
            await node.get(SHARD, "key-0000")
        with pytest.raises(DataUnavailable):
            await node.put(SHARD, "key-0000", b"")
        with pytest.raises(grpc.aio.AioRpcError):
            await scanned(node)
        results = await batch(node, put("a"), get("a"))
        assert [error_from(result.problem).name for result in results] == ["DataUnavailable"] * 2

    async def test_a_lease_that_is_renewed_serves_on(self, started: Started) -> None:
        node = await started()
        await opened(node, 1)
        node.node.serve_until(elapsed_seconds() + 60)

        assert await node.get(SHARD, "key-0000") is not None

    async def test_a_node_without_a_lease_still_gives_its_shards_away(self, started: Started) -> None:
        source, target = await started("n1"), await started("n2")
        pairs = await opened(source)
        source.node.serve_until(-math.inf)

        await moved(source, target)

        assert await target.get(SHARD, "key-0001") == pairs["key-0001"]


async def test_a_burst_of_calls_is_answered(started: Started) -> None:
    node = await started()
    pairs = await opened(node, 3_000, 10)

    assert set(await asyncio.gather(*(node.get(SHARD, key) for key in pairs))) == set(pairs.values())


class TestBatch:
    async def test_results_come_in_the_order_of_the_operations(self, started: Started) -> None:
        node = await started()
        await opened(node, 0)

        results = await batch(node, put("a", b"1"), get("a"), put("b"), delete("a"), get("b"), get("nothing"))

        assert [result.WhichOneof("kind") for result in results] == [
            "written",
            "found",
            *["written"] * 2,
            *["found"] * 2,
        ]
        assert [results[place].written.position for place in (0, 2, 3)] == [1, 2, 3]
        assert results[1].found.found is False, "reads see all writes of their message"
        assert (results[4].found.value, results[5].found.found) == (b"value", False)

    async def test_a_refusal_stands_beside_the_others(self, started: Started) -> None:
        node = await started()
        await opened(node, 0)

        results = await batch(node, put("a"), put("b", shard=OTHER), put("", b""), put("c", epoch=7), put("d"))

        assert [result.WhichOneof("kind") for result in results] == ["written", *["problem"] * 3, "written"]
        told = [error_from(result.problem) for result in results[1:4]]
        assert [type(error) for error in told] == [ShardNotFound, InvalidShardKey, DataUnavailable]

    async def test_a_write_id_is_told_to_be_known(self, started: Started) -> None:
        node = await started()
        await opened(node, 0)

        first, again = (await batch(node, put("a", write_id="w1")))[0], (await batch(node, put("a", write_id="w1")))[0]

        assert (first.written.duplicate, again.written.duplicate) == (False, True)
        assert first.written.position == again.written.position

    async def test_an_operation_that_is_none_ends_the_call(self, started: Started) -> None:
        node = await started()
        call = node.stub.Batch()
        await call.write(node_pb2.Operations(operations=[node_pb2.Operation()]))
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            async for _ in call:
                pass
        assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


class TestScan:
    async def test_all_pairs_come_in_key_order(self, started: Started) -> None:
        node = await started()
        pairs = await opened(node, 150, 8_000)

        assert await scanned(node) == sorted(pairs)
        assert await scanned(node, after="key-0100") == sorted(pairs)[101:]
        assert await scanned(node, after="key-0009", limit=3) == ["key-0010", "key-0011", "key-0012"]

    async def test_a_fenced_shard_is_not_scanned(self, started: Started) -> None:
        node = await started()
        await opened(node)
        await node.driver.fence(SHARD, 1)

        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await scanned(node)
        assert isinstance(error_of(failed.value, ""), DataUnavailable)


class TestProblems:
    async def test_a_refusal_says_who_the_owner_is(self, started: Started) -> None:
        node = await started()
        await opened(node)
        await node.driver.fence(SHARD, 1)
        await node.driver.retire(SHARD, 2, ELSEWHERE)

        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await node.stub.Get(node_pb2.GetRequest(shard=wire(SHARD), key="a"))

        assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        [text] = [text for name, text in failed.value.trailing_metadata() or () if name == METADATA]
        error = error_from(text)
        assert isinstance(error, NotOwner)
        assert error.context == {"epoch": 2, "owner": ELSEWHERE.node, "address": ELSEWHERE.address}

    async def test_an_older_epoch_gets_the_newer_one_and_this_node(self, started: Started) -> None:
        node = await started()
        await opened(node)
        await node.driver.fence(SHARD, 1)
        await node.driver.activate(SHARD, 2, LIMITS)

        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await node.stub.Put(node_pb2.PutRequest(shard=wire(SHARD), key="a", epoch=1))

        error = error_of(failed.value, node.listen)
        assert isinstance(error, StaleEpoch)
        assert error.context == {"epoch": 2, "owner": "n1", "address": node.listen}

    async def test_a_node_that_is_not_there_is_a_failed_read(self, started: Started) -> None:
        node = await started()
        await node.node.__aexit__()

        with pytest.raises(ReadFailed):
            await node.get(SHARD, "a")

    @pytest.mark.parametrize("error", [NotOwner("ä „quoted“", epoch=1), ReadFailed("no"), MusterError("odd", one=1)])
    def test_errors_come_back_as_they_went(self, error: MusterError) -> None:
        text = problem(error)
        assert text.isascii()
        back = error_from(text)
        assert (back.detail, back.context) == (error.detail, error.context)

    async def test_the_record_of_a_shard_is_described(self, started: Started) -> None:
        node = await started()
        await opened(node, 5)
        found = await node.stub.Describe(node_pb2.DescribeRequest(shard=wire(SHARD)))
        extent = await node.extent(SHARD)
        assert (found.state, found.epoch, found.records, found.digest) == ("serving", 1, 5, extent.digest)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await node.stub.Describe(node_pb2.DescribeRequest(shard=wire(OTHER)))
        assert failed.value.code() is grpc.StatusCode.NOT_FOUND


class TestMoves:
    async def test_all_that_a_node_gives_shares_its_pace(self, started: Started) -> None:
        source = await started("n1", bytes_per_second=2 << 20)
        left, right = await started("n2"), await started("n3")
        await opened(source, 64, 16 << 10)
        began = time.monotonic()

        await asyncio.gather(copied(source, left), copied(source, right))

        assert time.monotonic() - began >= 0.7

    async def test_a_slow_copy_goes_on_in_small_parts(self, started: Started) -> None:
        source, target = await started("n1"), await started("n2")
        await opened(source, 64, 1 << 10)
        seen: list[int] = []

        await target.driver.prepare(SHARD, 2)
        slowly = CopyLimits(bytes_per_second=64 << 10)
        await target.driver.copy(SHARD, source.location, slowly, lambda progress: seen.append(progress.bytes))

        assert len(seen) >= 2
        assert seen == sorted(seen)

    async def test_a_log_that_was_trimmed_starts_the_copy_again(self, started: Started) -> None:
        source, target = await started("n1", log_records_max=10), await started("n2")
        await opened(source)
        await copied(source, target)
        await target.kill()
        await source.kill()  # with it go the pins of its readers
        await source.start()
        await fill(source, 50, 50)
        await target.start()

        extent = await copied(source, target)

        assert extent == await source.extent(SHARD) == await target.driver.verify(SHARD, source.location)

    async def test_a_copy_under_way_whose_place_was_trimmed_starts_again(self, started: Started) -> None:
        source, target = await started("n1", log_records_max=10), await started("n2")
        await opened(source, 128, 16 << 10)
        await target.driver.prepare(SHARD, 2)
        heard = Heard()
        copying = asyncio.create_task(target.driver.copy(SHARD, source.location, CopyLimits(2 << 20), heard))
        await heard.reached(1 << 20)
        copying.cancel()
        await source.kill()
        await source.start()
        await fill(source, 50, 50)
        before = source.sent_bytes()

        final = await moved(source, target)

        assert source.sent_bytes() - before < 1.25 * final.bytes, "what could not be used was not sent"

    async def test_the_changes_that_a_slow_copy_needs_are_kept(self, started: Started) -> None:
        source, target = await started("n1", log_records_max=10), await started("n2")
        await opened(source, 128, 16 << 10)
        await target.driver.prepare(SHARD, 2)
        heard = Heard()
        copying = asyncio.create_task(target.driver.copy(SHARD, source.location, CopyLimits(4 << 20), heard))
        await heard.reached(1)
        await fill(source, 100, 50)
        await copying
        before = source.sent_bytes()

        await target.driver.catch_up(SHARD, source.location, QUICKLY, unheard)

        assert source.sent_bytes() - before < 100_000, "the tail was there, nothing was copied again"

    async def test_a_later_step_takes_over_and_the_earlier_is_to_try_again(self, started: Started) -> None:
        source, target = await started("n1"), await started("n2")
        await opened(source, 64, 16 << 10)
        await target.driver.prepare(SHARD, 2)
        heard = Heard()
        first = asyncio.create_task(target.driver.copy(SHARD, source.location, CopyLimits(500_000), heard))
        await heard.reached(0)

        await target.driver.copy(SHARD, source.location, QUICKLY, unheard)

        with pytest.raises(DataUnavailable):
            await first

    async def test_a_follower_hears_of_each_write_at_once(self, started: Started) -> None:
        source, target = await started("n1"), await started("n2")
        await opened(source)
        await copied(source, target)
        began = time.monotonic()
        for number in range(5):
            position = await source.put(SHARD, f"later-{number}", b"")

            async def followed(position: int = position) -> bool:
                return (await target.extent(SHARD)).position == position

            await eventually(followed)

        assert time.monotonic() - began < 3 * heartbeat_seconds

    async def test_who_follows_waits_for_its_source_however_long_it_is_away(self, started: Started) -> None:
        source, target = await started("n1"), await started("n2", patience_seconds=0.2)
        await opened(source)
        await copied(source, target)
        await source.kill()
        await asyncio.sleep(0.5)
        await source.start()
        await fill(source, 5)

        async def followed() -> bool:
            return await target.extent(SHARD) == await source.extent(SHARD)

        await eventually(followed)

    async def test_who_follows_a_retired_shard_is_told_at_once(self, started: Started) -> None:
        source, target = await started("n1"), await started("n2")
        await opened(source)
        await copied(source, target)
        await source.driver.fence(SHARD, 1)

        began = time.monotonic()
        await source.driver.retire(SHARD, 2, ELSEWHERE)
        while target.driver._pulls:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

        assert time.monotonic() - began < heartbeat_seconds / 2

    async def test_dropping_ends_what_follows(self, started: Started) -> None:
        source, target = await started("n1"), await started("n2")
        await opened(source)
        await copied(source, target)

        await target.driver.drop(SHARD, 2)

        assert target.driver._pulls == {}

    async def test_a_copy_that_differs_is_seen_by_the_next_change_of_that_key(self, started: Started) -> None:
        source, target = await started("n1"), await started("n2")
        await opened(source)
        await copied(source, target)
        await target.damage(SHARD, "key-0003")
        await source.put(SHARD, "key-0003", b"overwritten")
        final = await source.driver.fence(SHARD, 1)

        with pytest.raises(ChecksumMismatch):
            await target.driver.drain(SHARD, source.location, final)

    async def test_progress_goes_on_where_a_copy_was_resumed(self, started: Started) -> None:
        source, target = await started("n1"), await started("n2")
        await opened(source, 64, 16 << 10)
        await target.driver.prepare(SHARD, 2)
        before, after = Heard(), Heard()
        copying = asyncio.create_task(target.driver.copy(SHARD, source.location, CopyLimits(1 << 20), before))
        await before.reached(1)
        copying.cancel()
        await asyncio.gather(copying, return_exceptions=True)

        await target.driver.copy(SHARD, source.location, QUICKLY, after)

        assert after.progress[0].bytes >= before.progress[-1].bytes


class Breaking(node_pb2_grpc.ShardNodeServicer):
    """A node that breaks every copy off, as one does that is stopped in the middle."""

    async def Snapshot(self, request: node_pb2.SnapshotRequest, context: Any) -> None:  # noqa: N802
        await context.abort(grpc.StatusCode.CANCELLED)


async def test_a_copy_that_the_source_breaks_off_is_to_be_tried_again(started: Started) -> None:
    target = await started("n2")
    await target.driver.prepare(SHARD, 2)
    server = grpc.aio.server()
    node_pb2_grpc.add_ShardNodeServicer_to_server(Breaking(), server)
    source = Location("n1", f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    await server.start()
    try:
        with pytest.raises(ReadFailed):
            await target.driver.copy(SHARD, source, QUICKLY, unheard)
    finally:
        await server.stop(None)


class TestStarting:
    async def test_a_folder_is_held_by_one_node(self, started: Started, tmp_path: Path) -> None:
        await started("n1")
        with pytest.raises(NotReady):
            async with NodeServer(tmp_path / "n1", "again"):
                pass

    async def test_a_port_that_is_taken_is_told(self, started: Started, tmp_path: Path) -> None:
        node = await started("n1")
        with pytest.raises(NotReady):
            async with NodeServer(tmp_path / "n2", "n2", listen=node.listen):
                pass

    async def test_a_node_that_stops_does_not_wait_for_who_follows_it(self, started: Started) -> None:
        source, target = await started("n1"), await started("n2")
        await opened(source)
        await copied(source, target)
        began = time.monotonic()

        await source.node.__aexit__()

        assert time.monotonic() - began < stop_seconds_max

    async def test_a_node_that_stops_answers_what_it_has_taken(self, started: Started) -> None:
        node = await started()
        await node.driver.open(SHARD, 1, ShardLimits())
        writing = [asyncio.create_task(node.put(SHARD, f"key-{number}", b"v")) for number in range(200)]
        await writing[0]

        await node.node.__aexit__()

        results = await asyncio.gather(*writing, return_exceptions=True)
        await node.start()
        for number, result in enumerate(results):
            assert isinstance(result, int | MusterError)
            if isinstance(result, int):
                assert await node.get(SHARD, f"key-{number}") == b"v"
