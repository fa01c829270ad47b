"""A move to a node whose disk is full: each attempt says so and is counted, then the move turns back, and nothing is stuck."""

import asyncio
from pathlib import Path

import pytest

from muster import Client, Keyspace
from tests.muster.controller import controller
from tests.muster.data_node import data_node
from tests.workers.node.lmdb_node import leave_no_space


@pytest.mark.timeout(60)
async def test_a_move_to_a_full_disk_is_counted_told_and_turned_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        controller(tmp_path / "log") as url,
        Client(url) as client,
        data_node("n1", tmp_path / "n1", url),
        data_node("n2", tmp_path / "n2", url) as target,
    ):
        async with asyncio.timeout(20):
            while len((await client.shards.nodes(consistency="strong")).items) < 2:  # noqa: ASYNC110 — a node joins when it does
                await asyncio.sleep(0.05)
        await client.shards.create_keyspace("ks", 1, nodes=["n1"])
        async with Keyspace("ks", url) as values:
            for number in range(10):
                await values.put(f"k{number}", b"x" * 10_000)
            leave_no_space(monkeypatch, target.store)
            started = await client.shards.move("ks", 0, "n2")
            async with asyncio.timeout(30):
                async for migration in client.shards.follow(started.migration):
                    if migration.ended:
                        break
            found = await client.shards.migration(started.migration)
            copied = next(step for step in found.steps if step.name == "copy")
            assert (found.phase, copied.attempts) == ("compensated", 5)
            assert "WriteFailed: the store cannot write: No space left on device" in str(found.cause)
            assert await values.get("k3") == b"x" * 10_000
    assert sum("(copy) failed: WriteFailed" in record.getMessage() for record in caplog.records) == 5
