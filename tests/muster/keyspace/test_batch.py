"""Batches: in order on each key, one stream to each node, and nothing is done twice."""

import asyncio

import pytest

from muster import Applied, Delete, Get, Put
from muster.keyspace.batch import Pending, waves
from muster.wire.error import DataUnavailable, InvalidShardKey, ShardOverflow, Timeout
from muster.wire.shards.key import shard_of
from tests.muster.keyspace.map_server import shard_item
from tests.muster.keyspace.sharded import KEY, KEYS, SHARDS, move, until, users

FREE = next(key for key in KEYS if shard_of(key, SHARDS) == 1)


async def test_results_come_in_the_order_of_the_operations():
    async with users() as (client, one, other, server):
        move(1, one, other)
        server.tell(shard_item(1, other, epoch=2))
        puts = await client.batch(Put(key, key.encode()) for key in KEYS)
        assert [put.shard for put in puts if isinstance(put, Applied)] == [shard_of(key, SHARDS) for key in KEYS]
        assert await client.batch([Get(key) for key in KEYS]) == [key.encode() for key in KEYS]
        removed, missing = await client.batch([Delete(KEY), Get("nobody")])
        assert isinstance(removed, Applied)
        assert missing is None
        assert (await client.batch([])) == []


async def test_each_node_gets_one_stream_however_many_messages_it_takes():
    async with users() as (client, one, other, server):
        for shard in (1, 2):
            move(shard, one, other)
            server.tell(shard_item(shard, other, epoch=2))
        await until(lambda: {client.route(key).owner for key in KEYS if client.route(key).shard in (1, 2)} == {"n2"})
        results = await client.batch([Put(f"key-{number}", b"x" * 100) for number in range(3_000)])
        assert all(isinstance(result, Applied) for result in results)
        assert (one.streams, other.streams) == (1, 1)
        assert client.statistics.held_operations == 0


async def test_operations_on_one_key_are_applied_in_their_order_even_when_one_is_refused():
    async with users() as (client, one, _, _):
        one.broken = [DataUnavailable("lease")]
        results = await client.batch(
            [Put(KEY, b"1"), Get(KEY), Put(KEY, b"2"), Get(KEY), Get(KEY), Delete(KEY), Get(KEY)]
        )
        assert results[1] == b"1"
        assert results[3:5] == [b"2", b"2"]
        assert results[6] is None
        assert [result.position for result in results if isinstance(result, Applied)] == [1, 2, 3]


def test_a_wave_writes_each_key_once_or_only_reads_it():
    operations = [Put("a", b"1"), Get("b"), Get("b"), Put("a", b"2"), Put("b", b"1"), Get("a"), Get("a"), Get("c")]
    told = waves([Pending(operation, None, 0, 0, None) for operation in operations])
    assert [[operations.index(pending.operation) for pending in wave] for wave in told] == [
        [0, 1, 1, 7],
        [3, 4],
        [5, 5],
    ]


async def test_only_what_was_refused_is_tried_again_with_its_write_id():
    async with users() as (client, one, other, _):
        one.fence(0)
        held = [key for key in KEYS if shard_of(key, SHARDS) == 0]
        batch = asyncio.create_task(client.batch([Put(key, b"1") for key in KEYS]))
        await until(lambda: client.statistics.held_operations == len(held))
        one.hand_over(0, other)
        results = await batch
        assert all(isinstance(result, Applied) and not result.duplicate for result in results)
        free = [asked for asked in one.asked if asked[1] not in held]
        assert len(free) == len(KEYS) - len(held)
        ids = {asked[3] for asked in one.asked + other.asked if asked[1] == held[0]}
        assert len(ids) == 1
        assert client.statistics.held_operations == 0


async def test_a_stream_that_breaks_is_taken_up_and_nothing_is_applied_twice():
    async with users() as (client, one, _, _):
        one.replies_to_lose = 1
        results = await client.batch([Put(f"key-{number}", b"1") for number in range(1_200)])
        assert all(isinstance(result, Applied) for result in results)
        assert any(result.duplicate for result in results if isinstance(result, Applied))
        assert sum(copy.position for copy in one.copies.values()) == 1_200


async def test_a_moved_shard_is_followed_within_a_batch():
    async with users() as (client, one, other, _):
        move(0, one, other)
        (applied,) = await client.batch([Put(KEY, b"1")])
        assert isinstance(applied, Applied)
        assert applied.epoch == 2
        assert client.statistics.retries == {"NotOwner": 1}


async def test_a_refusal_stands_beside_the_results():
    async with users() as (client, one, _, _):
        one.broken = [ShardOverflow("full")]
        refused, applied = await client.batch([Put(KEY, b"1"), Put(FREE, b"1")])
        assert isinstance(refused, ShardOverflow)
        assert isinstance(applied, Applied)


async def test_what_nobody_serves_for_too_long_says_so_beside_the_results():
    async with users(hold_seconds=0.5) as (client, one, _, _):
        one.fence(0)
        late, applied = await client.batch([Put(KEY, b"1"), Put(FREE, b"1")])
        assert isinstance(late, DataUnavailable)
        assert isinstance(applied, Applied)
        assert client.statistics.held_operations == 0


async def test_a_silent_node_ends_a_batch_with_outcomes_that_are_unknown():
    async with users(hold_seconds=0.5, attempt_seconds=0.1) as (client, one, _, _):
        one.speaks.clear()
        write, read = await client.batch([Put(KEY, b"1"), Get(FREE)])
        assert isinstance(write, Timeout)
        assert isinstance(read, DataUnavailable)
        one.speaks.set()
        again = await client.put(KEY, b"1", write_id=str(write.context["write_id"]))
        assert again.position == 1


async def test_what_finds_no_room_to_be_held_is_refused_at_once():
    async with users(held_operations_max=1) as (client, one, _, _):
        one.fence(0)
        held = [key for key in KEYS if shard_of(key, SHARDS) == 0][:3]
        batch = asyncio.create_task(client.batch([Put(key, b"1") for key in [*held, FREE]]))
        await until(lambda: client.statistics.held_operations == 1)
        one.reclaim(0)
        first, second, third, free = await batch
        assert isinstance(first, Applied)
        assert isinstance(second, DataUnavailable)
        assert "held_operations_max" in second.detail
        assert isinstance(third, DataUnavailable)
        assert isinstance(free, Applied)


async def test_a_batch_that_cannot_be_sent_whole_is_not_sent():
    async with users() as (client, one, _, _):
        with pytest.raises(InvalidShardKey):
            await client.batch([Put(KEY, b"1"), Get("")])
        with pytest.raises(ShardOverflow):
            await client.batch([Put(KEY, b"1"), Put(KEY, b"x" * 1_001)])
        assert one.asked == []


async def test_a_cancelled_batch_leaves_nothing_behind():
    async with users() as (client, one, _, _):
        one.fence(0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.batch([Put(key, b"1") for key in KEYS]), 0.05)
        assert client.statistics.held_operations == 0
