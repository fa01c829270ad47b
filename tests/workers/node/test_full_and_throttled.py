"""Copies that do not get on: a disk that is full, a page that cannot be read, a rate under which one value takes long."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from muster.wire.error import ReadFailed, WriteFailed
from muster.wire.shards.driver import CopyLimits, Progress
from tests.drivers.driver_stage import LIMITS, QUICKLY, SHARD
from tests.workers.node.lmdb_node import LmdbNode, leave_no_space
from workers.node import throttle

Started = Callable[..., Any]


@pytest.fixture
async def started(tmp_path: Path) -> AsyncIterator[Started]:
    """Starts nodes by name, with options of `NodeServer`."""
    async with AsyncExitStack() as stack:

        async def start(name: str, **options: Any) -> LmdbNode:
            node = LmdbNode(tmp_path / name, name, **options)
            await node.start()
            stack.push_async_callback(node.kill)
            return node

        yield start


async def holding(node: LmdbNode, values: int, size: int) -> None:
    await node.driver.open(SHARD, 1, LIMITS)
    for number in range(values):
        await node.put(SHARD, f"key-{number:04}", bytes([number % 251]) * size)


async def copies(target: LmdbNode, source: LmdbNode, limits: CopyLimits = QUICKLY) -> list[Progress]:
    """What the copy told; in at most ten seconds."""
    told: list[Progress] = []
    await target.driver.prepare(SHARD, 2)
    async with asyncio.timeout(10):
        await target.driver.copy(SHARD, source.location, limits, told.append)
    return told


async def test_a_copy_onto_a_full_disk_fails_at_once_with_its_cause(started, monkeypatch) -> None:
    source, target = await started("n1", patience_seconds=60.0), await started("n2", patience_seconds=60.0)
    await holding(source, 20, 10_000)
    await target.driver.prepare(SHARD, 2)
    leave_no_space(monkeypatch, target.node.store)
    told: list[Progress] = []
    with pytest.raises(WriteFailed, match="No space left"):
        async with asyncio.timeout(10):
            await target.driver.copy(SHARD, source.location, QUICKLY, told.append)
    assert {progress.bytes for progress in told} <= {0}, "nothing has grown"
    monkeypatch.undo()
    async with asyncio.timeout(10):
        await target.driver.copy(SHARD, source.location, QUICKLY, told.append)
    assert (await target.extent(SHARD)).records == 20


async def test_a_copy_whose_source_cannot_read_a_page_ends_though_each_try_hears_a_first_message(
    started, monkeypatch
) -> None:
    source, target = await started("n1"), await started("n2", patience_seconds=0.5)
    await holding(source, 3, 1_000)

    def broken(*_: Any) -> Any:
        raise ReadFailed("the store cannot read: MDB_CORRUPTED")

    monkeypatch.setattr("infra.shards.snapshot.ShardReading.pairs", broken)
    with pytest.raises(ReadFailed, match="MDB_CORRUPTED"):
        await copies(target, source)


@pytest.mark.parametrize("limit", ["of the move", "of the source"])
async def test_waiting_in_a_throttle_is_progress(started, monkeypatch, limit: str) -> None:
    monkeypatch.setattr(throttle, "told_seconds", 0.1)
    rate = 100_000.0
    of_source = {"bytes_per_second": rate} if limit == "of the source" else {}
    source, target = await started("n1", **of_source), await started("n2")
    await holding(source, 1, 120_000)
    told = await copies(target, source, QUICKLY if of_source else CopyLimits(bytes_per_second=rate))
    assert len(told) >= 5, "about every tenth of a second, though the only value takes more than one"
    assert told[-1].records == 1
