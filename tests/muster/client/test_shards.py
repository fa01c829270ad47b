"""The client of keyspaces, data nodes and migrations, against a real controller and real data nodes in this process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from muster import Client, Keyspace
from muster.client.control.shards import parts_of
from muster.wire.error import (
    InvalidCommand,
    KeyspaceNotFound,
    MigrationNotFound,
    NodeNotFound,
    ShardPinned,
    VerbNotAllowed,
    VersionConflict,
)
from muster.wire.shards.answers import Migration
from muster.wire.shards.key import shard_of
from tests.muster.client.scripted import wire, written
from tests.muster.controller import controller, free_port
from tests.muster.data_node import data_node
from workers.node.node import NodeServer

AT_ONCE = {"soak_seconds": 0.0, "cleanup_seconds": 0.0}


@asynccontextmanager
async def cluster(folder: Path, *names: str) -> AsyncIterator[tuple[Client, dict[str, NodeServer]]]:
    """A client, and data nodes that have joined; the first has all four shards of `users`."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(controller(folder / "controller"))
        client = await stack.enter_async_context(Client(url, actor="test"))
        nodes = {name: await stack.enter_async_context(data_node(name, folder / name, url)) for name in names}
        await until(client, lambda: _alive(client, len(names)))
        await client.shards.create_keyspace("users", 4, nodes=names[:1])
        await until(client, lambda: _active(client, 4))
        yield client, nodes


async def _alive(client: Client, count: int) -> bool:
    return sum(node.alive for node in (await client.shards.nodes()).items) == count


async def _active(client: Client, count: int) -> bool:
    return (await client.shards.keyspace("users")).active == count


async def until(_client: Client, condition: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not await condition():  # type: ignore[misc]  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def ended(client: Client, id_: str) -> Migration:
    async with asyncio.timeout(15), aclosing(client.shards.follow(id_)) as states:
        return [found async for found in states][-1]


async def reached(client: Client, id_: str, step: str) -> Migration:
    async with asyncio.timeout(15), aclosing(client.shards.follow(id_)) as states:
        async for found in states:
            if found.step == step:
                return found
    raise AssertionError(f"{id_} ended without {step}: {found}")


async def test_a_keyspace_is_created_once_and_read(tmp_path: Path):
    async with cluster(tmp_path, "n1") as (client, nodes):
        again = await client.shards.create_keyspace("users", 4, nodes=["n1"])
        assert again.status == "unchanged"
        with pytest.raises(VersionConflict):
            await client.shards.create_keyspace("users", 5)
        (found,) = (await client.shards.keyspaces()).items
        assert (found.keyspace, found.shards, found.value_bytes_max) == ("users", 4, 1 << 20)
        shards = (await client.shards.shard_map("users", owner="n1", consistency="strong")).items
        assert [(row.shard, row.epoch, row.address) for row in shards] == [
            (number, 1, nodes["n1"].address) for number in range(4)
        ]
        route = await client.shards.route("users", "alice")
        assert (route.shard, route.owner) == (shard_of("alice", 4), "n1")
        with pytest.raises(KeyspaceNotFound):
            await client.shards.shard_map("nothing")


async def test_a_shard_that_was_never_moved_is_not_moved_to_where_it_is(tmp_path: Path):
    async with cluster(tmp_path, "n1") as (client, _):
        answer = await client.shards.move("users", 0, "n1")
        assert (answer.status, answer.migration) == ("unchanged", None)


async def test_a_shard_moves_under_writes_and_keeps_all_of_them(tmp_path: Path):
    async with cluster(tmp_path, "n1", "n2") as (client, _), Keyspace("users", client.url) as users:
        acknowledged: dict[str, bytes] = {}

        async def write() -> None:
            for number in range(10_000):
                key, value = f"user-{number % 50}", b"%d" % number
                await users.put(key, value)
                acknowledged[key] = value

        writing = asyncio.create_task(write())
        for shard in range(4):
            started = await client.shards.move("users", shard, "n2", reason="test", **AT_ONCE)
            found = await ended(client, started.migration)
            assert (found.phase, found.actor, found.reason) == ("completed", "test", "test")
            assert {step.outcome for step in found.steps} == {"done"}
        writing.cancel()
        await asyncio.wait([writing])
        assert acknowledged
        told = {key: value async for key, value in users.scan()}
        # The last write was cancelled: it may have been applied.
        differs = {key for key in told.keys() | acknowledged if told.get(key) != acknowledged.get(key)}
        assert len(differs) <= 1
        assert {row.owner for row in (await client.shards.shard_map("users")).items} == {"n2"}


async def test_a_held_move_lists_what_it_allows_and_goes_on_when_it_is_told_to(tmp_path: Path):
    async with cluster(tmp_path, "n1", "n2") as (client, _):
        started = await client.shards.move("users", 0, "n2", hold=True, **AT_ONCE)
        found = await reached(client, started.migration, "gate")
        assert set(found.allowed) == {"pause", "resume", "skip", "abort"}
        assert "operator" in (found.waits_for or "")
        with pytest.raises(VerbNotAllowed) as refused:
            await client.shards.tell(started.migration, "force-complete")
        assert "abort" in str(refused.value.context["allowed"])
        await client.shards.tell("users/1", "resume", reason="now")
        assert (await ended(client, "users/1")).phase == "completed"
        (listed,) = (await client.shards.migrations(keyspace="users", state="ended", limit=1)).items
        assert listed.id == started.migration


async def test_a_move_waits_for_its_window_and_can_be_aborted_there(tmp_path: Path):
    async with cluster(tmp_path, "n1", "n2") as (client, nodes):
        window = datetime.now(UTC) + timedelta(hours=1)
        started = await client.shards.move("users", 1, "n2", not_before=window)
        await reached(client, started.migration, "gate")
        await client.shards.tell(started.migration, "abort")
        found = await ended(client, started.migration)
        assert (found.phase, found.cause) == ("compensated", "aborted")
        assert any(step.undoes == "prepare" for step in found.steps)
        assert all(record.copy == 0 for _, record in nodes["n2"].store.records())


async def test_migrations_are_watched_from_where_they_are_to_their_end(tmp_path: Path):
    async with cluster(tmp_path, "n1", "n2") as (client, _):
        seen: list[str | None] = []
        async with asyncio.timeout(15), aclosing(client.shards.watch_migrations(keyspace="users")) as changes:
            assert await anext(changes) == ()
            await client.shards.move("users", 2, "n2", **AT_ONCE)
            async for (row,) in changes:
                seen.append(row.step)
                if row.ended:
                    break
        assert seen[-1] is None
        assert "copy" in seen


async def test_nodes_are_marked_pinned_limited_and_removed(tmp_path: Path):
    async with cluster(tmp_path, "n1") as (client, _):
        shards = client.shards
        await shards.pin("users", 3, reason="hot")
        with pytest.raises(NodeNotFound):
            await shards.move("users", 3, "n9")
        await shards.set_mark("n1", "cordon", reason="disk")
        (node,) = (await shards.nodes()).items
        assert (node.node, node.cordoned, node.draining, node.shards) == ("n1", True, False, 4)
        await shards.clear_mark("n1", "cordon")
        assert (await shards.clear_mark("n1", "cordon")).status == "unchanged"
        await shards.set_move_limits(node_moves_max=3, cluster_moves_max=9)
        limits = await shards.cluster()
        assert (limits.node_moves_max, limits.cluster_moves_max) == (3, 9)
        with pytest.raises(VerbNotAllowed):
            await shards.remove("n1")


async def test_a_pinned_shard_is_refused_until_it_is_unpinned(tmp_path: Path):
    async with cluster(tmp_path, "n1", "n2") as (client, _):
        await client.shards.pin("users", 3)
        with pytest.raises(ShardPinned):
            await client.shards.move("users", 3, "n2")
        await client.shards.unpin("users", 3)
        started = await client.shards.move("users", 3, "n2", **AT_ONCE)
        assert (await ended(client, started.migration)).phase == "completed"


async def test_what_is_no_migration_is_found_out_here(tmp_path: Path):
    assert parts_of("keyspace/users/migration/17") == parts_of("users/17") == ("users", "17")
    for text in ("17", "users/x", "/17", "service/users/migration/1", ""):
        with pytest.raises(InvalidCommand):
            parts_of(text)
    async with cluster(tmp_path, "n1") as (client, _):
        with pytest.raises(MigrationNotFound):
            await client.shards.migration("users/17")


async def test_a_removal_by_force_says_so():
    async with wire(written()) as server, Client(server.url) as client:
        await client.shards.remove("n1", force=True, reason="burnt")
        await client.shards.remove("n1")
    forced, plain = server.seen
    assert (forced.method, forced.path, forced.query) == ("DELETE", "/v1/nodes/n1", {"force": "true"})
    assert (forced.headers["muster-reason"], plain.query) == ("burnt", {})


async def test_nodes_serve_on_while_the_controller_restarts_within_their_lease(tmp_path: Path):
    port = free_port()
    async with AsyncExitStack() as stack:
        async with controller(tmp_path / "controller", port) as url:
            await stack.enter_async_context(data_node("n1", tmp_path / "n1", url, lease_seconds=10))
            client = await stack.enter_async_context(Client(url))
            await until(client, lambda: _alive(client, 1))
            await client.shards.create_keyspace("users", 4)
            await until(client, lambda: _active(client, 4))
            users = await stack.enter_async_context(Keyspace("users", url))
        await users.put("alice", b"while nobody controls")
        async with controller(tmp_path / "controller", port):
            await client.shards.assign("users")
            assert await users.get("alice") == b"while nobody controls"
            assert users.statistics.retries == {}
            await users.put("bob", b"and after")
