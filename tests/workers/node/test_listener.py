"""How large a message a data node takes: what its keyspaces allow, also one that comes while it runs."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from muster.wire.error import ReadFailed, ShardOverflow
from muster.wire.rpc import node_pb2
from muster.wire.rpc.problem import error_from
from muster.wire.shards.driver import ShardId, ShardLimits
from tests.drivers.driver_stage import LIMITS, OTHER, QUICKLY, SHARD, copied, eventually, restart, unheard
from tests.workers.node.lmdb_node import LmdbNode, wire
from workers.node.listener import beside_value_bytes_max, least_value_bytes
from workers.node.service import short_value_bytes

Started = Callable[[str], Awaitable[LmdbNode]]
LARGE = ShardLimits(value_bytes_max=8 << 20)
TINY = ShardLimits(value_bytes_max=short_value_bytes)
LARGE_VALUE = b"x" * LARGE.value_bytes_max
too_long = least_value_bytes + beside_value_bytes_max


@pytest.fixture
async def started(tmp_path: Path) -> AsyncIterator[Started]:
    """Starts nodes by name."""
    async with AsyncExitStack() as stack:

        async def start(name: str) -> LmdbNode:
            node = LmdbNode(tmp_path / name, name)
            await node.start()
            stack.push_async_callback(node.kill)
            return node

        yield start


async def refused(node: LmdbNode, size: int) -> bool:
    """Whether gRPC itself refuses a value of this size."""
    write = node_pb2.PutRequest(shard=wire(SHARD), key="a", value=bytes(size))
    try:
        await node.stub.Put(write, timeout=10)
    except grpc.aio.AioRpcError as error:
        return "larger than max" in (error.details() or "")
    return False


async def put(node: LmdbNode, shard: ShardId, key: str, value: bytes) -> None:
    """Put it as clients do: a call that met the server which is being replaced is made once more, with its write id."""

    async def stored() -> bool:
        try:
            await node.put(shard, key, value, f"{key} {len(value)}")
        except ReadFailed as error:
            if not any(word in error.detail for word in ("larger than max", "CANCELLED", "UNAVAILABLE")):
                raise
            return False
        return True

    await eventually(stored)


async def takes(node: LmdbNode, value: bytes) -> None:
    await put(node, SHARD, "a", value)
    assert await node.get(SHARD, "a") == value


async def test_a_node_takes_no_larger_message_than_its_keyspaces_need(started: Started) -> None:
    node = await started("n1")
    assert await refused(node, too_long)
    assert not await refused(node, least_value_bytes)


async def test_a_keyspace_of_larger_values_works_on_a_node_that_began_with_less(started: Started) -> None:
    node = await started("n1")
    await node.driver.open(OTHER, 1, LIMITS)
    await node.put(OTHER, "a", b"1")
    assert await refused(node, len(LARGE_VALUE))

    await node.driver.open(SHARD, 1, LARGE)

    await takes(node, LARGE_VALUE)
    assert await node.get(OTHER, "a") == b"1"
    assert await refused(node, len(LARGE_VALUE) + beside_value_bytes_max), "it takes 1 MiB beside the value, no more"


async def test_a_node_that_was_restarted_takes_what_its_shards_allow_at_once(started: Started) -> None:
    node = await started("n1")
    await node.driver.open(SHARD, 1, LARGE)
    await restart(node)
    await node.put(SHARD, "a", LARGE_VALUE)
    assert await node.get(SHARD, "a") == LARGE_VALUE


async def test_a_shard_of_larger_values_can_be_moved_to_a_node_that_began_with_less(started: Started) -> None:
    source, target = await started("n1"), await started("n2")
    await source.driver.open(SHARD, 1, LARGE)
    await takes(source, LARGE_VALUE)
    await copied(source, target)
    final = await source.driver.fence(SHARD, 1)
    await target.driver.drain(SHARD, source.location, final)

    await target.driver.activate(SHARD, 2, LARGE)

    assert await target.get(SHARD, "a") == LARGE_VALUE
    await takes(target, LARGE_VALUE[:-1])


async def test_a_copy_follows_its_source_while_the_bound_grows(started: Started) -> None:
    node, target = await started("n1"), await started("n2")
    await node.driver.open(OTHER, 1, LIMITS)
    await target.driver.prepare(OTHER, 2)
    await target.driver.copy(OTHER, node.location, QUICKLY, unheard)
    await target.driver.catch_up(OTHER, node.location, QUICKLY, unheard)

    for number, value_bytes_max in enumerate((2 << 20, 4 << 20, 8 << 20)):
        await node.driver.open(SHARD._replace(shard=10 + number), 1, ShardLimits(value_bytes_max=value_bytes_max))
        await put(node, OTHER, f"key-{number}", b"1")

    async def followed() -> bool:
        return (await target.extent(OTHER)).records == 3

    await eventually(followed)


async def test_writes_are_acknowledged_all_while_the_bound_grows(started: Started) -> None:
    node = await started("n1")
    await node.driver.open(OTHER, 1, LIMITS)
    written: list[str] = []
    grown = asyncio.Event()

    async def write(client: int) -> None:
        number = 0
        while not grown.is_set() or number < 20:
            key = f"{client}-{number}"
            await put(node, OTHER, key, b"1")
            written.append(key)
            number += 1

    async with asyncio.TaskGroup() as writers:
        for client in range(4):
            writers.create_task(write(client))
        for number in range(1, 6):
            limits = ShardLimits(value_bytes_max=(number + 1) << 20)
            await node.driver.open(SHARD._replace(shard=10 + number), 1, limits)
        grown.set()

    assert (await node.extent(OTHER)).records == len(written)


async def test_a_value_over_the_limit_does_not_wait_for_the_disk(started: Started) -> None:
    node = await started("n1")
    await node.driver.open(SHARD, 1, TINY)
    held, over = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        held.set()
        assert over.wait(60)

    disk = asyncio.create_task(asyncio.to_thread(node.node.store._env.write, hold))
    try:
        assert await asyncio.to_thread(held.wait, 10)
        waiting = asyncio.create_task(node.put(SHARD, "a", b"1"))
        with pytest.raises(ShardOverflow):
            await asyncio.wait_for(node.put(SHARD, "b", bytes(short_value_bytes + 1)), 10)
        call, write = (
            node.stub.Batch(),
            node_pb2.PutRequest(shard=wire(SHARD), key="b", value=bytes(short_value_bytes + 1)),
        )
        await call.write(node_pb2.Operations(operations=[node_pb2.Operation(put=write)]))
        answer = await asyncio.wait_for(call.read(), 10)
        assert [error_from(result.problem).name for result in answer.results] == ["ShardOverflow"]
        assert not waiting.done(), "the disk was held all the time"
        call.cancel()
    finally:
        over.set()
        await disk
    assert await waiting == 1
