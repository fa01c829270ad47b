"""Group commit: who waits together is written together, and nothing is acknowledged that must not be."""

import asyncio
import time
from contextlib import asynccontextmanager
from math import inf
from threading import Event

import pytest

from infra.shards.commits import Commits, group_writes_max, queue_writes_max
from infra.shards.record import ShardWrite, StoredWrite
from infra.shards.store import ShardStore
from muster.wire.error import DataUnavailable, NotOwner, ShardNotFound, Timeout, WriteFailed
from muster.wire.shards.driver import ShardId, ShardLimits

SHARD, OTHER = ShardId("users", 3), ShardId("users", 4)


class Watched(ShardStore):
    """A store that waits at a gate before it writes, and says how large the groups were."""

    def __init__(self, path):
        super().__init__(path)
        self.gate = Event()
        self.gate.set()
        self.came = Event()
        self.groups = []
        self.open(SHARD, 1, ShardLimits())

    def write(self, batch):
        self.came.set()
        self.gate.wait()
        self.groups.append(len(batch))
        return super().write(batch)


@pytest.fixture
def store(tmp_path):
    store = Watched(tmp_path)
    yield store
    store.close()


def write(key="a", *, value=b"v", write_id="", shard=SHARD, epoch=1):
    return ShardWrite(shard, epoch, key, value, write_id)


@asynccontextmanager
async def held(store, commits):
    """The writer thread is busy with a first group; behind the block it goes on."""
    store.gate.clear()
    store.came.clear()
    first = asyncio.create_task(commits.write(write("first")))
    await asyncio.to_thread(store.came.wait)
    try:
        yield
    finally:
        store.gate.set()
        await first


async def test_a_write_is_durable_when_it_is_answered(store):
    async with Commits(store) as commits:
        assert await commits.write(write()) == StoredWrite(1, 1)
        assert store.get(SHARD, 1, "a").value == b"v"


async def test_what_waits_together_is_written_together(store):
    async with Commits(store) as commits:
        async with held(store, commits):
            writes = [asyncio.create_task(commits.write(write(f"k{number}"))) for number in range(50)]
            batch = asyncio.create_task(commits.batch([write("x"), write("y")]))
            await asyncio.sleep(0)
        positions = [written.position for written in await asyncio.gather(*writes)]
        assert [written.position for written in await batch] == [52, 53]
    assert positions == list(range(2, 52))
    assert store.groups == [1, 52]


async def test_a_group_has_a_limit_and_a_batch_stays_whole(store):
    async with Commits(store) as commits:
        async with held(store, commits):
            batches = [asyncio.create_task(commits.batch([write()] * 400)) for _ in range(4)]
            large = asyncio.create_task(commits.batch([write()] * (group_writes_max + 1)))
            await asyncio.sleep(0)
        await asyncio.gather(*batches, large)
    assert store.groups == [1, 800, 800, group_writes_max + 1]


async def test_a_refusal_reaches_who_asked_and_nobody_else(store):
    async with Commits(store) as commits:
        async with held(store, commits):
            wrong = asyncio.create_task(commits.write(write(shard=OTHER)))
            right = asyncio.create_task(commits.write(write()))
            mixed = asyncio.create_task(commits.batch([write(shard=OTHER), write()]))
            await asyncio.sleep(0)
        with pytest.raises(ShardNotFound):
            await wrong
        assert (await right).position == 2
        refusal, written = await mixed
        assert (type(refusal), written.position) == (ShardNotFound, 3)


async def test_who_leaves_early_does_not_shift_the_answers_of_others(store):
    async with Commits(store) as commits:
        async with held(store, commits):
            leaving = asyncio.create_task(commits.batch([write("b"), write("c")]))
            staying = asyncio.create_task(commits.write(write("d")))
            await asyncio.sleep(0)
            leaving.cancel()
        assert (await staying).position == 4


async def test_a_lease_that_ends_during_the_fsync_withholds_the_acknowledgement(store):
    def until():
        return 0.0 if store.record(SHARD).position else inf

    async with Commits(store, acknowledge_until=until) as commits:
        with pytest.raises(Timeout, match="outcome is unknown"):
            await commits.write(write(write_id="w"))
    async with Commits(store) as commits:
        assert await commits.write(write(write_id="w")) == StoredWrite(1, 1, duplicate=True)


async def test_of_a_batch_only_what_was_written_is_unknown_when_the_lease_ends(store):
    def until():
        return 0.0 if store.record(SHARD).position else inf

    async with Commits(store, acknowledge_until=until) as commits:
        results = await commits.batch([write(), write(shard=OTHER)])
    assert [type(result) for result in results] == [Timeout, ShardNotFound]


async def test_without_a_lease_nothing_is_written(store):
    async with Commits(store, acknowledge_until=lambda: time.monotonic() - 1) as commits:
        with pytest.raises(DataUnavailable, match="nothing was written"):
            await commits.write(write())
    assert store.record(SHARD).position == 0


async def test_too_many_waiting_writes_are_turned_away(store):
    async with Commits(store) as commits:
        async with held(store, commits):
            waiting = asyncio.create_task(commits.batch([write()] * queue_writes_max))
            await asyncio.sleep(0)
            with pytest.raises(DataUnavailable, match="slow down"):
                await commits.write(write())
        assert len(await waiting) == queue_writes_max
        await commits.write(write())


async def test_too_many_waiting_bytes_are_turned_away(store):
    megabyte = bytes(1 << 20)
    async with Commits(store) as commits:
        async with held(store, commits):
            waiting = [asyncio.create_task(commits.write(write(value=megabyte))) for _ in range(64)]
            await asyncio.sleep(0)
            with pytest.raises(DataUnavailable, match="slow down"):
                await commits.write(write(value=megabyte))
        await asyncio.gather(*waiting)
    assert max(store.groups) == 16


async def test_a_store_that_fails_is_told_to_all_that_waited(store):
    async with Commits(store) as commits:
        async with held(store, commits):
            waiting = [asyncio.create_task(commits.write(write())) for _ in range(3)]
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
        store.close()
        failed = await asyncio.gather(*(commits.write(write()) for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in failed] == [WriteFailed] * 3


async def test_what_waits_at_the_end_is_still_answered(store):
    commits = Commits(store)
    async with commits, held(store, commits):
        waiting = asyncio.create_task(commits.write(write()))
        await asyncio.sleep(0)
    assert (await waiting).position == 2
    with pytest.raises(DataUnavailable, match="stopping"):
        await commits.write(write())


async def test_a_defect_fails_its_own_group_and_no_other(store, caplog):
    async with Commits(store) as commits:
        async with held(store, commits):
            broken = asyncio.create_task(commits.write(write(value="text")))
            await asyncio.sleep(0)
        with pytest.raises(WriteFailed):
            await broken
        assert (await commits.write(write())).position == 2
    assert "TypeError" in caplog.text


async def test_writers_behind_a_fence_are_refused_and_those_before_it_are_in_the_final_extent(store):
    async with Commits(store) as commits:

        async def client(name):
            positions = []
            for number in range(1_000):
                try:
                    positions.append((await commits.write(write(f"{name}-{number}"))).position)
                except (DataUnavailable, NotOwner):
                    break
            return positions

        clients = [asyncio.create_task(client(name)) for name in range(16)]
        while store.record(SHARD).position < 100:  # noqa: ASYNC110 a store does not tell
            await asyncio.sleep(0.001)
        final = await asyncio.to_thread(store.fence, SHARD, 1)
        positions = sorted(position for found in await asyncio.gather(*clients) for position in found)
    assert positions == list(range(1, final.position + 1))
