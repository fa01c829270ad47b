"""The keyspace's client, against nodes that are honest and a map that is told late, or not at all."""

import asyncio
import subprocess
import sys

import pytest

from muster import Keyspace
from muster.wire.error import (
    DataUnavailable,
    InvalidCommand,
    InvalidShardKey,
    KeyspaceNotFound,
    NoShardsAvailable,
    ShardOverflow,
    Timeout,
    WriteFailed,
)
from muster.wire.shards.key import shard_of
from tests.muster.keyspace.map_server import map_server, shard_item
from tests.muster.keyspace.shard_node import nodes
from tests.muster.keyspace.sharded import KEY, KEYS, SHARDS, move, until, users


async def test_what_is_put_is_got_until_it_is_deleted():
    async with users() as (client, *_):
        assert await client.get("alice") is None
        first = await client.put("alice", b"one")
        assert (first.shard, first.position, first.epoch, first.duplicate) == (client.route("alice").shard, 1, 1, False)
        assert await client.get("alice") == b"one"
        assert (await client.delete("alice")).position == 2
        assert await client.get("alice") is None
        await client.put("empty", b"")
        assert await client.get("empty") == b""


async def test_keys_are_routed_by_their_hash():
    async with users() as (client, one, other, server):
        for shard in (1, 3):
            move(shard, one, other)
            server.tell(shard_item(shard, other, epoch=2))
        for key in KEYS:
            await client.put(key, key.encode())
        for node, shards in ((one, (0, 2)), (other, (1, 3))):
            for shard in shards:
                assert set(node.copies[shard].pairs) == {key for key in KEYS if shard_of(key, SHARDS) == shard}


async def test_a_moved_shard_is_followed_at_once_and_for_good_without_the_map():
    async with users() as (client, one, other, _):
        move(0, one, other)
        await client.put(KEY, b"1")
        await client.put(KEY, b"2")
        assert [asked[:3] for asked in one.asked] == [("put", KEY, 1)]
        assert [asked[:3] for asked in other.asked] == [("put", KEY, 2)] * 2
        assert client.statistics.retries == {"NotOwner": 1}


async def test_a_stale_epoch_is_mended_at_once():
    async with users() as (client, one, _, _):
        one.fence(0)
        one.reclaim(0)
        await client.put(KEY, b"1")
        assert [asked[2] for asked in one.asked] == [1, 2]
        assert client.statistics.retries == {"StaleEpoch": 1}


async def test_late_news_of_a_lower_epoch_do_not_lead_back():
    async with users() as (client, one, other, server):
        move(0, one, other)
        await client.put(KEY, b"1")
        server.tell(shard_item(0, one, epoch=1), shard_item(1, one, fenced=True))
        await until(lambda: any(client.route(key).fenced for key in KEYS))
        await client.put(KEY, b"2")
        assert len(one.asked) == 1


async def test_a_fenced_shard_delays_writes_and_reads_and_fails_none():
    async with users() as (client, one, other, _):
        one.fence(0)
        writing = [asyncio.create_task(client.put(KEY, b"%d" % number)) for number in range(5)]
        reading = asyncio.create_task(client.get(KEY))
        await until(lambda: client.statistics.held_operations == 6)
        assert client.statistics.held_bytes == 6 * len(KEY) + 5
        await asyncio.sleep(0.03)
        one.hand_over(0, other)
        applied = await asyncio.gather(*writing)
        await reading
        assert sorted(write.position for write in applied) == [1, 2, 3, 4, 5]
        statistics = client.statistics
        assert (statistics.held_operations, statistics.held_bytes, statistics.held_operations_most) == (0, 0, 6)
        assert statistics.longest_write_seconds >= 0.03


async def test_held_calls_wake_when_the_map_tells_of_a_new_owner():
    async with users() as (client, one, other, server):
        one.fence(0)
        writing = asyncio.create_task(client.put(KEY, b"1"))
        await until(lambda: client.statistics.held_operations == 1)
        one.hand_over(0, other)
        del one.copies[0]  # it cannot say where the shard is
        server.tell(shard_item(0, other, epoch=2))
        assert (await writing).epoch == 2


async def test_held_calls_wake_even_while_one_of_them_hangs_at_the_old_owner():
    async with users(attempt_seconds=30, hold_seconds=30) as (client, one, other, server):
        one.fence(0)
        writing = [asyncio.create_task(client.put(KEY, b"1")) for _ in range(3)]
        await until(lambda: client.statistics.held_operations == 3)
        one.speaks.clear()
        await until(lambda: one.waiting == 1)
        one.hand_over(0, other)
        del one.copies[0]
        server.tell(shard_item(0, other, epoch=2))
        await until(lambda: sum(write.done() for write in writing) == 2)
        one.speaks.set()
        assert {write.epoch for write in await asyncio.gather(*writing)} == {2}


async def test_many_held_calls_ask_no_oftener_than_one():
    async with users() as (client, one, _, _):
        one.fence(0)
        writing = [asyncio.create_task(client.put(KEY, b"1")) for _ in range(100)]
        await until(lambda: client.statistics.held_operations == 100)
        asked = len(one.asked)
        await asyncio.sleep(0.3)
        assert 3 <= len(one.asked) - asked <= 30
        one.reclaim(0)
        applied = await asyncio.gather(*writing)
        assert {write.epoch for write in applied} == {2}


async def test_as_soon_as_one_held_call_is_answered_all_go_on():
    async with users() as (client, one, _, _):
        one.leased = False
        writing = [asyncio.create_task(client.put(KEY, b"1")) for _ in range(100)]
        await until(lambda: client.statistics.held_operations == 100)
        one.leased = True
        async with asyncio.timeout(2):  # one by one, with a pause before each, they would need 4 s
            await asyncio.gather(*writing)


async def test_a_call_on_a_shard_that_others_wait_for_waits_with_them():
    async with users() as (client, one, _, _):
        one.fence(0)
        first = asyncio.create_task(client.put(KEY, b"1"))
        await until(lambda: client.statistics.held_operations == 1)
        writing = [asyncio.create_task(client.put(KEY, b"2")) for _ in range(50)]
        await until(lambda: client.statistics.held_operations == 51)
        assert len({asked[3] for asked in one.asked}) <= 10
        one.reclaim(0)
        await asyncio.gather(first, *writing)


async def test_a_lost_reply_is_asked_for_with_the_same_write_id_and_the_write_is_applied_once():
    async with users() as (client, one, _, _):
        one.replies_to_lose = 2
        applied = await client.put(KEY, b"1")
        assert (applied.position, applied.duplicate) == (1, True)
        assert [asked[3] for asked in one.asked] == [applied.write_id] * 3
        assert one.copies[0].position == 1
        assert client.statistics.retries == {"Timeout": 2}


async def test_a_write_id_goes_along_when_the_shard_moves_between_two_tries():
    async with users() as (client, one, other, _):
        one.replies_to_lose = 1
        one.speaks.clear()
        writing = asyncio.create_task(client.put(KEY, b"1"))
        await asyncio.sleep(0.05)
        one.speaks.set()
        await until(lambda: one.replies_to_lose == 0)
        move(0, one, other)
        assert (await writing).duplicate
        assert other.copies[0].position == 1


async def test_every_write_has_an_id_of_its_own_and_a_given_one_is_used():
    async with users() as (client, one, _, _):
        await client.put(KEY, b"1")
        await client.delete(KEY)
        assert not (await client.put(KEY, b"2", write_id="mine")).duplicate
        assert (await client.put(KEY, b"2", write_id="mine")).duplicate
        ids = [asked[3] for asked in one.asked]
        assert len(set(ids)) == 3
        assert ids[2:] == ["mine", "mine"]
        with pytest.raises(InvalidCommand):
            await client.put(KEY, b"2", write_id="x" * 65)


async def test_two_awaited_puts_are_applied_in_their_order_through_a_handover():
    async with users() as (client, one, other, _):
        one.fence(0)

        async def write() -> None:
            for number in range(20):
                await client.put(KEY, b"%d" % number)

        writing = asyncio.create_task(write())
        await until(lambda: client.statistics.held_operations == 1)
        one.hand_over(0, other)
        await writing
        assert other.copies[0].pairs[KEY] == b"19"
        assert other.copies[0].position == 20


async def test_when_nobody_serves_for_too_long_it_is_unavailable_and_nothing_is_held():
    async with users(hold_seconds=0.5) as (client, one, _, _):
        one.fence(0)
        with pytest.raises(
            DataUnavailable, match=r"users/0: nobody served it within 0.5 s; last: shard 0 is fenced"
        ) as caught:
            await client.put(KEY, b"1")
        assert caught.value.context["shard"] == 0
        with pytest.raises(DataUnavailable):
            await client.get(KEY)
        assert client.statistics.held_operations == 0
        assert KEY not in one.copies[0].pairs


async def test_a_write_whose_outcome_is_unknown_ends_in_timeout_with_its_write_id():
    async with users(hold_seconds=1.5, attempt_seconds=0.1) as (client, one, _, _):
        one.speaks.clear()
        with pytest.raises(Timeout, match="the outcome is unknown") as caught:
            await client.put(KEY, b"1")
        with pytest.raises(DataUnavailable):
            await client.get(KEY)
        one.speaks.set()
        again = await client.put(KEY, b"1", write_id=str(caught.value.context["write_id"]))
        assert again.position == 1


async def test_what_was_unknown_once_stays_unknown_when_the_node_is_fenced_afterwards():
    async with users(hold_seconds=0.6) as (client, one, _, _):
        one.replies_to_lose = 1
        writing = asyncio.create_task(client.put(KEY, b"1"))
        await until(lambda: one.replies_to_lose == 0)
        one.fence(0)
        with pytest.raises(Timeout):
            await writing


async def test_a_write_that_the_store_failed_to_do_is_tried_again():
    async with users() as (client, one, _, _):
        one.broken = [WriteFailed("disk"), DataUnavailable("lease")]
        assert (await client.put(KEY, b"1")).position == 1
        assert client.statistics.retries == {"WriteFailed": 1, "DataUnavailable": 1}


async def test_a_refusal_that_no_retry_can_mend_is_raised_at_once():
    async with users() as (client, one, _, _):
        one.broken = [ShardOverflow("the shard is full", shard_bytes_max=7)]
        with pytest.raises(ShardOverflow, match="full") as caught:
            await client.put(KEY, b"1")
        assert caught.value.context == {"shard_bytes_max": 7}
        assert len(one.asked) == 1


@pytest.mark.parametrize(
    ("options", "limit"),
    [({"held_operations_max": 2}, "held_operations_max"), ({"held_bytes_max": 40}, "held_bytes_max")],
)
async def test_beyond_what_may_be_held_calls_are_refused_at_once(options: dict[str, int], limit: str):
    async with users(**options) as (client, one, _, _):
        one.fence(0)
        held = [asyncio.create_task(client.put(KEY, b"x" * 10)) for _ in range(2)]
        await until(lambda: client.statistics.held_operations == 2)
        with pytest.raises(DataUnavailable, match=limit):
            await client.put(KEY, b"x" * 10)
        one.reclaim(0)
        await asyncio.gather(*held)
        await client.put(KEY, b"1")


async def test_bad_keys_and_values_over_the_limit_are_refused_here():
    async with users() as (client, one, _, _):
        for key in ("", "a\0b", "x" * 501, "\ud800"):
            with pytest.raises(InvalidShardKey):
                await client.get(key)
        with pytest.raises(ShardOverflow, match="1001 bytes; users takes 1000"):
            await client.put(KEY, b"x" * 1001)
        await client.put(KEY, b"x" * 1000)
        assert len(one.asked) == 1


async def test_a_node_that_is_started_again_is_found_again():
    async with users() as (client, one, _, _):
        await client.put(KEY, b"1")
        await one.stop()
        writing = asyncio.create_task(client.put(KEY, b"2"))
        await until(lambda: client.statistics.held_operations == 1)
        await one.start(one.address)
        assert (await writing).position == 2


async def test_a_caller_that_gives_up_leaves_nothing_behind():
    async with users() as (client, one, _, _):
        one.fence(0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.put(KEY, b"1"), 0.05)
        one.speaks.clear()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.put(KEY, b"1"), 0.05)
        assert client.statistics.held_operations == 0
        one.speaks.set()
        one.reclaim(0)
        await client.put(KEY, b"2")


async def test_a_watch_that_breaks_off_goes_on_behind_its_last_event():
    async with users() as (client, one, other, server):
        move(0, one, other)
        server.tell(shard_item(0, other, epoch=2))
        await client.put(KEY, b"1")
        server.break_off()
        move(1, one, other)
        server.tell(shard_item(1, other, epoch=2))
        await until(lambda: len(server.watches) == 2)
        assert server.watches[1].headers["last-event-id"] == "0:1"
        del one.copies[1]
        await client.put(next(key for key in KEYS if shard_of(key, SHARDS) == 1), b"1")


async def test_after_a_reset_the_snapshot_is_taken_in():
    async with users() as (client, one, other, server):
        server.forgets = True
        server.break_off()
        move(0, one, other)
        del one.copies[0]
        server.tell(shard_item(0, other, epoch=2))
        assert (await client.put(KEY, b"1")).epoch == 2


async def test_the_map_is_at_least_as_new_as_the_keyspace():
    async with users() as (_, _, _, server):
        assert server.seen[0].query == {"consistency": "strong"}
        assert server.watches[0].headers["muster-token"] == "0:0"
        assert server.watches[0].query == {"keyspace": "users", "consistency": "session"}


async def test_a_keyspace_that_is_not_there_cannot_be_opened():
    async with map_server() as server:
        with pytest.raises(KeyspaceNotFound):
            async with Keyspace("nobody", server.url):
                pass


async def test_without_any_owner_there_are_no_shards():
    async with map_server(shard_item(0, None, 0)) as server, Keyspace("users", server.url) as client:
        with pytest.raises(NoShardsAvailable):
            await client.put("alice", b"1")


async def test_a_shard_without_an_owner_is_waited_for():
    async with (
        nodes(1, 2) as (one,),
        map_server(shard_item(0, None, 0), shard_item(1, one)) as server,
        Keyspace("users", server.url) as client,
    ):
        writing = asyncio.create_task(client.put(next(key for key in KEYS if shard_of(key, 2) == 0), b"1"))
        await until(lambda: client.statistics.held_operations == 1)
        server.tell(shard_item(0, one))
        assert (await writing).position == 1


async def test_a_client_that_is_closed_ends_what_it_holds():
    async with users() as (client, one, _, _):
        one.fence(0)
        writing = asyncio.create_task(client.put(KEY, b"1"))
        await until(lambda: client.statistics.held_operations == 1)
        await client.__aexit__()
        with pytest.raises((DataUnavailable, Timeout), match="the client was closed"):
            await writing


async def test_writers_notice_nothing_of_a_shard_that_goes_to_and_fro():
    async with users() as (client, one, other, server):
        journal: dict[str, int] = {}
        done = asyncio.Event()

        async def write(key: str) -> None:
            while not done.is_set():
                count = journal.get(key, 0) + 1
                applied = await client.put(key, b"%d" % count)
                assert not applied.duplicate
                journal[key] = count

        writers = [asyncio.create_task(write(key)) for key in KEYS]
        source, target = one, other
        for _ in range(6):
            for shard in range(SHARDS):
                source.fence(shard)
                await asyncio.sleep(0.01)
                source.hand_over(shard, target)
                server.tell(shard_item(shard, target, source.copies[shard].epoch))
            source, target = target, source
        done.set()
        await asyncio.gather(*writers)
        for key, count in journal.items():
            assert source.copies[client.route(key).shard].pairs[key] == b"%d" % count
        assert sum(source.copies[shard].position for shard in range(SHARDS)) == sum(journal.values())


async def test_a_scan_tells_every_pair_once_in_key_order_by_shard():
    async with users() as (client, *_):
        for key in KEYS:
            await client.put(key, key.encode())
        told = [pair async for pair in client.scan()]
        assert told == [(key, key.encode()) for key in sorted(KEYS, key=lambda key: (shard_of(key, SHARDS), key))]


async def test_a_scan_goes_on_behind_its_last_key_at_the_new_owner():
    async with users() as (client, one, other, _):
        for key in KEYS:
            await client.put(key, b"1")
        one.scan_breaks_after = 3
        move(1, one, other)
        told = [key async for key, _ in client.scan()]
        assert sorted(told) == sorted(KEYS)
        assert [asked[1] for asked in one.asked if asked[0] == "scan"][:2] == ["", told[2]]
        assert client.statistics.retries == {"Timeout": 1, "NotOwner": 1}


async def test_a_scan_that_nobody_serves_ends():
    async with users(hold_seconds=0.5) as (client, one, _, _):
        one.fence(2)
        with pytest.raises(DataUnavailable, match="users/2"):
            async for _ in client.scan():
                pass


def test_importing_the_keyspace_loads_nothing_of_the_server():
    code = (
        "import sys, muster; assert 'grpc' not in sys.modules; muster.Keyspace; "
        "server = ('fastapi', 'uvicorn', 'asyncpg', 'eventsourcing', 'aiokafka', 'lmdb', "
        "'workers', 'projections', 'sagas', 'infra'); "
        "print([name for name in server if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "[]\n"
