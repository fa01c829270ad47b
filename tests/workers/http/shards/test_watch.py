"""Watching shards, tasks and migrations over HTTP: snapshot, deltas, resuming, and one encoding for all."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.workers.http.cluster import EXTENT, ID, USERS, at, ended, join, move, report, served, tasks, until, work
from tests.workers.http.conftest import Api, Stream, controller
from tests.workers.http.groups.test_groups import created, led, runs
from workers.http.shards import watch as shard_watch
from workers.http.shards.model import MigrationItem, ShardItem, TaskItem


async def follow(stream: Stream, rows: dict[str, Any], token: str) -> None:
    """Take in what the watch tells of, up to this token; a task by its id, as its node does."""
    now = ""
    while now != token:
        event, now, data = await stream.next()
        if event == "snapshot":
            rows.clear()
        rows |= {item["id"]: item for item in data["items"]}
        for id_ in data.get("gone", ()):
            del rows[id_]


async def test_the_map_of_shards_is_followed_through_a_whole_move(api: Api) -> None:
    await served(api, 2)
    async with api.watch("/shards?keyspace=users") as stream:
        event, token, data = await stream.next()
        assert (event, data["shards"], data["token"]) == ("snapshot", 2, token)
        assert [ShardItem.model_validate(item).shard for item in data["items"]] == [0, 1]
        await move(api, soak_seconds=0, cleanup_seconds=0)
        await until(api, ended, working=True)
        told = []
        while not told or told[-1]["migration"] is not None:
            event, _, data = await stream.next()
            assert event == "delta"
            told += data["items"]
    states = [(item["owner"], item["epoch"], item["status"], item["fenced"]) for item in told]
    assert list(dict.fromkeys(states)) == [
        ("n1", 1, "migrating", False),
        ("n1", 1, "migrating", True),
        ("n2", 2, "migrating", False),
        ("n2", 2, "active", False),
    ]
    assert {item["shard"] for item in told} == {0}
    assert told[-1] == (await api.get(f"{USERS}/shards")).body["items"][0]


async def test_a_node_with_another_address_is_told_to_who_watches_its_shards(api: Api) -> None:
    await served(api, 3, "n1", "n2")
    async with api.watch("/shards?keyspace=users") as stream:
        await stream.next()
        written = await join(api, "n1", process="p2", address="127.0.0.1:9")
        event, token, data = await stream.next()

    assert (event, token) == ("delta", written.headers["Muster-Token"])
    assert [(item["shard"], item["address"]) for item in data["items"]] == [(0, "127.0.0.1:9"), (2, "127.0.0.1:9")]


async def test_only_the_keyspace_that_is_watched_is_told(api: Api) -> None:
    await join(api, "n1")
    await api.put(USERS, {"shards": 1})
    async with api.watch("/shards?keyspace=users") as one, api.watch("/shards") as every:
        await one.next()
        assert (await every.next())[2]["shards"] == 1
        await api.put("/v1/keyspaces/orders", {"shards": 2, "nodes": []})
        last = await api.put(f"{USERS}/shards/0/pin")
        event, token, data = await one.next()
        assert (event, token) == ("delta", last.headers["Muster-Token"])
        assert [item["pinned"] for item in data["items"]] == [True]
        assert [(item["keyspace"], item["shard"]) for item in (await every.next())[2]["items"]] == [
            ("orders", 0),
            ("orders", 1),
        ]
        assert [item["keyspace"] for item in (await every.next())[2]["items"]] == ["users"]
    assert (await api.get("/v1/watch/shards?keyspace=nope")).problem == (404, "KeyspaceNotFound")


async def test_a_node_sees_its_tasks_come_and_go(api: Api) -> None:
    await served(api, 2)
    rows: dict[str, Any] = {}
    async with api.watch("/tasks?node=n2") as stream:
        event, token, data = await stream.next()
        assert (event, data) == ("snapshot", {"items": [], "token": token})
        await move(api)
        await until(api, at("prepare"))
        event, _, data = await stream.next()
        assert event == "delta"
        assert data["gone"] == []
        assert TaskItem.model_validate(data["items"][0]).id == f"{ID}/prepare/1"
        done = {"id": f"{ID}/prepare/1", "outcome": "done"}
        written = await report(api, "n2", done)
        event, token, data = await stream.next()
        assert token == written.headers["Muster-Token"]
        assert ([item["id"] for item in data["items"]], data["gone"]) == ([f"{ID}/copy/1"], [f"{ID}/prepare/1"])
        rows |= {item["id"]: item for item in data["items"]}
        last = await api.post("/v1/migrations/users/1/abort")
        await follow(stream, rows, last.headers["Muster-Token"])
    assert list(rows) == [f"{ID}/discard/1"]
    assert rows == {task["id"]: task for task in await tasks(api, "?node=n2")}


async def test_who_watches_all_tasks_follows_them_over_all_nodes(api: Api) -> None:
    rows: dict[str, Any] = {}
    async with api.watch("/tasks") as stream:
        await served(api, 3, "n1", "n2", "n3")
        await move(api)
        await until(api, at("fence"), working=True)
        last = await report(api, "n1", {"id": f"{ID}/fence/1", "outcome": "done", "result": {"extent": EXTENT}})
        await follow(stream, rows, last.headers["Muster-Token"])

    assert list(rows) == [f"{ID}/drain/1"]
    assert list(rows.values()) == await tasks(api)


async def test_a_task_is_told_again_when_a_node_that_it_names_has_moved(api: Api) -> None:
    await served(api)
    await move(api)
    await until(api, at("prepare"))
    await work(api)
    async with api.watch("/tasks?node=n2") as stream:
        await stream.next()
        await join(api, "n1", process="p2", address="127.0.0.1:9")
        _, _, data = await stream.next()

    assert data["items"][0]["params"]["source"] == {"node": "n1", "address": "127.0.0.1:9"}


async def test_a_migration_is_followed_to_its_end(api: Api) -> None:
    await served(api)
    await move(api, soak_seconds=0, cleanup_seconds=0)
    query = f"/migrations?migration={ID}"
    async with api.watch(query) as stream, api.watch("/migrations?keyspace=users") as beside:
        event, _, data = await stream.next()
        assert (event, [MigrationItem.model_validate(item).id for item in data["items"]]) == ("snapshot", [ID])
        await beside.next()
        await move(api, 1, "n3")
        others: set[str] = set()
        while "keyspace/users/migration/2" not in others:  # with the first, in any order, if one batch holds both
            others = {item["id"] for item in (await beside.next())[2]["items"]}
        await until(api, ended, working=True)
        steps = []
        while not steps or steps[-1] is not None:
            event, _, data = await stream.next()
            assert event == "delta"
            steps += [MigrationItem.model_validate(item).step for item in data["items"]]
    assert steps.index("copy") < steps.index("fence") < steps.index("activate")
    assert (await api.get("/v1/watch/migrations?migration=keyspace/users/migration/9")).problem == (
        404,
        "MigrationNotFound",
    )


async def test_what_is_no_id_of_a_migration_is_none_that_is_there(api: Api) -> None:
    await created(api)
    await runs(api, "db1")
    await runs(api, "db2")
    await led(api, 1)
    assert (await api.get("/v1/sagas/group/db/failover/1")).status == 200
    for named in ("17", "%ff", "users/17", "keyspace/users/migration/x", "group/db/failover/1"):
        told = await asyncio.wait_for(api.get(f"/v1/watch/migrations?migration={named}"), 30)
        assert told.problem == (404, "MigrationNotFound"), named


async def test_progress_is_told_now_and_then(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_watch, "refresh_seconds", 0.3)
    await served(api)
    await move(api)
    await until(api, at("prepare"))
    await work(api)
    async with api.watch("/migrations") as stream:
        await stream.next()
        for bytes_ in range(1, 6):
            facts = {"bytes": bytes_, "bytes_total": 10}
            await report(api, "n2", {"id": f"{ID}/copy/1", "outcome": "progress", "result": facts})
        _, _, data = await stream.next()
        assert [item["progress"]["bytes"] for item in data["items"]] == [5]
        last = await report(api, "n2", {"id": f"{ID}/copy/1", "outcome": "done"})
        _, token, data = await stream.next()
        assert (token, data["items"][0]["progress"]) == (last.headers["Muster-Token"], None)


async def test_who_waits_for_slots_is_told_how_the_queue_shrinks(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_watch, "refresh_seconds", 0.05)
    await served(api)
    for shard, target in ((0, "n2"), (1, "n2"), (2, "n2")):
        await move(api, shard, target)
    await until(api, at("prepare"))
    third = "keyspace/users/migration/3"
    async with asyncio.timeout(20), api.watch(f"/migrations?migration={third}") as stream:
        waits_for = (await stream.next())[2]["items"][0]["waits_for"]
        while "1 before it" not in waits_for:
            waits_for = (await stream.next())[2]["items"][0]["waits_for"]
        await api.post("/v1/migrations/users/2/abort")
        while "0 before it" not in waits_for:
            waits_for = (await stream.next())[2]["items"][0]["waits_for"]
        assert waits_for == f"a slot of n1: 1 of 1 is taken, by {ID}, 0 before it"


async def test_who_has_missed_nothing_resumes_and_who_has_gets_it_anew(api: Api) -> None:
    await served(api)
    for kind in ("shards", "tasks", "migrations"):
        async with api.watch(f"/{kind}") as stream:
            _, token, _ = await stream.next()
        async with api.watch(f"/{kind}?after={token}") as stream:
            written = await api.put(f"{USERS}/shards/0/pin", {"reason": kind})
            if kind == "shards":
                event, now, _ = await stream.next()
                assert (event, now) == ("delta", written.headers["Muster-Token"])
        await api.delete(f"{USERS}/shards/0/pin")
        async with api.watch(f"/{kind}", Last_Event_ID=token) as stream:
            assert (await stream.next())[:2] == ("reset", "")
            assert (await stream.next())[0] == "snapshot"


async def test_watches_begin_anew_after_a_restart(tmp_path: Path) -> None:
    async with controller(tmp_path) as api:
        await served(api)
        async with api.watch("/shards") as stream:
            _, token, before = await stream.next()
    async with controller(tmp_path) as api:
        await api.put(f"{USERS}/shards/0/pin")
        async with api.watch(f"/shards?after={token}") as stream:
            assert (await stream.next())[0] == "reset"
            assert (await stream.next())[2]["items"] == [{**before["items"][0], "pinned": True}, *before["items"][1:]]


async def test_one_change_is_encoded_once_however_many_watch(api: Api) -> None:
    await served(api)

    async def frames() -> float:
        text = (await api.get("/metrics")).body.decode()
        return float(text.partition("\nmuster_watch_frames_total ")[2].partition("\n")[0])

    async with api.watch("/shards?keyspace=users") as one, api.watch("/shards?keyspace=users") as other:
        first, second = await one.next(), await other.next()
        assert first == second
        before = await frames()
        await api.put(f"{USERS}/shards/0/pin")
        assert await one.next() == await other.next()
        assert await frames() == before + 1


async def test_a_long_map_comes_whole_with_all_that_changed_meanwhile(api: Api) -> None:
    await join(api, "n1")
    await api.put(USERS, {"shards": 3_000})
    async with api.watch("/shards?keyspace=users") as stream:
        await api.put(f"{USERS}/shards/2999/pin")
        _, _, data = await stream.next()
        assert [item["shard"] for item in data["items"]] == list(range(3_000))
        if not data["items"][-1]["pinned"]:
            assert (await stream.next())[2]["items"][0]["pinned"] is True


async def test_streams_end_cleanly_when_the_controller_stops(tmp_path: Path) -> None:
    async with asyncio.timeout(30):
        async with controller(tmp_path) as api:
            await served(api)
            responses = [await api.session.get(f"{api.url}/v1/watch/{kind}") for kind in ("shards", "tasks")]
            streams = [Stream(response.content) for response in responses]
            for stream in streams:
                await stream.next()


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("shards?after=x", "token"),
        ("shards?after=4:1", "after"),
        ("shards?keyspace=-", "keyspace"),
        ("tasks?nodes=n1", "nodes"),
        ("tasks?node=-", "node"),
        ("migrations?state=running", "state"),
    ],
)
async def test_a_watch_that_makes_no_sense_is_refused(api: Api, query: str, field: str) -> None:
    told = await api.get(f"/v1/watch/{query}")

    assert told.problem == (422, "InvalidCommand")
    assert told.body["field"] == field
