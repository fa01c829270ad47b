"""Watching over HTTP: snapshot, deltas, resuming, and what a watcher's controller does to it."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.workers.http.conftest import INSTANCE, Api, Stream, controller
from workers.http.model import InstanceItem


async def test_a_watch_begins_with_the_current_state(api: Api) -> None:
    await api.register("a")
    written = await api.register("b", "users")
    async with api.watch("?service=orders") as stream:
        event, token, data = await stream.next()

        assert (event, token) == ("snapshot", written.headers["Muster-Token"])
        assert (data["service"], data["token"]) == ("orders", token)
        assert [InstanceItem.model_validate(item).instance for item in data["items"]] == ["a"]
    async with api.watch() as stream:
        _, _, data = await stream.next()
        assert data["service"] is None
        assert [item["instance"] for item in data["items"]] == ["a", "b"]


async def test_a_service_may_be_watched_before_it_is_there(api: Api) -> None:
    async with api.watch("?service=orders") as stream:
        assert (await stream.next())[2]["items"] == []
        await api.register()
        event, _, data = await stream.next()

    assert event == "delta"
    assert [(change["op"], change["item"]["instance"]) for change in data["changes"]] == [("put", "a")]


async def test_a_change_is_told_as_what_changed(api: Api) -> None:
    await api.register()
    async with api.watch("?service=orders") as stream:
        await stream.next()
        await api.register("x", "users")
        written = await api.put(f"{INSTANCE}/health", {"status": "unhealthy", "cause": "disk"})
        event, token, data = await stream.next()

        assert (event, token) == ("delta", written.headers["Muster-Token"])
        (change,) = data["changes"]
        assert {**change, "set": None} == {
            "op": "patch",
            "service": "orders",
            "instance": "a",
            "version": written.body["version"],
            "position": written.body["position"],
            "set": None,
        }
        assert set(change["set"]) == {"health", "cause", "health_since", "check_status", "discoverable"}
        removed = await api.delete(INSTANCE)
        assert (await stream.next())[2]["changes"] == [
            {
                "op": "remove",
                "service": "orders",
                "instance": "a",
                "position": removed.body["position"],
                "cause": "requested",
            }
        ]


def applied(items: dict[str, Any], data: dict[str, Any]) -> None:
    """What a watcher does with a delta."""
    for change in data["changes"]:
        match change["op"]:
            case "put":
                items[change["item"]["instance"]] = change["item"]
            case "remove":
                del items[change["instance"]]
            case "patch":
                patch = {**change["set"], "version": change["version"], "position": change["position"]}
                items[change["instance"]] |= patch


async def test_patches_lead_to_what_a_reader_sees(api: Api) -> None:
    async with api.watch("?service=orders") as stream:
        await stream.next()
        await api.register(checks=[{"kind": "ttl", "ttl_seconds": 600}])
        await api.put(f"{INSTANCE}/health", {"status": "healthy", "check": "ttl"})
        await api.put(f"{INSTANCE}/health", {"status": "unhealthy", "cause": "x"})
        await api.put(f"{INSTANCE}/maintenance", {"reason": "disk"})
        await api.register(port=9, tags=["blue"], lease_seconds=60)
        await api.register("b")
        last = await api.delete("/v1/services/orders/instances/b")
        items: dict[str, Any] = {}
        token = ""
        while token != last.headers["Muster-Token"]:
            _, token, data = await stream.next()
            applied(items, data)

    assert list(items.values()) == (await api.get("/v1/services/orders/instances")).body["items"]


async def test_a_watch_resumes_with_what_was_missed_and_nothing_else(api: Api) -> None:
    first = await api.register("a")
    await api.register("b")
    await api.register("x", "users")
    last = await api.delete(INSTANCE)
    token = first.headers["Muster-Token"]

    for query, headers in ((f"&after={token}", {}), ("", {"Last_Event_ID": token})):
        async with api.watch(f"?service=orders{query}", **headers) as stream:
            event, now, data = await stream.next()
            assert (event, now) == ("delta", last.headers["Muster-Token"])
            assert [change["op"] for change in data["changes"]] == ["put", "remove"]
    async with api.watch(f"?service=orders&after={last.headers['Muster-Token']}") as stream:
        await api.register("c")
        event, _, data = await stream.next()
        assert [change["item"]["instance"] for change in data["changes"]] == ["c"]


async def test_a_token_that_cannot_be_resumed_from_resets(api: Api) -> None:
    await api.register("a")
    async with api.watch("?service=orders&after=0:9999&timeout_seconds=0.01") as stream:
        event, token, data = await stream.next()
        assert (event, token, data) == ("reset", "", {"token": api.gateway.views.token(), "reason": "not_kept"})
        event, _, data = await stream.next()
        assert (event, len(data["items"])) == ("snapshot", 1)


@pytest.mark.parametrize(
    ("query", "field"),
    [("?after=x", "token"), ("?after=4:1", "after"), ("?service=-", "service"), ("?sevrice=a", "sevrice")],
)
async def test_a_watch_that_makes_no_sense_is_refused(api: Api, query: str, field: str) -> None:
    told = await api.get(f"/v1/watch{query}")

    assert told.problem == (422, "InvalidCommand")
    assert told.body["field"] == field


async def test_a_watch_begins_behind_the_token_that_it_brings(api: Api) -> None:
    written = await api.register("a")
    async with api.watch("?consistency=session", Muster_Token=written.headers["Muster-Token"]) as stream:
        assert len((await stream.next())[2]["items"]) == 1
    told = await api.get("/v1/watch?consistency=session&timeout_seconds=0.01", Muster_Token="0:999")
    assert told.problem == (504, "Timeout")


async def test_watchers_come_back_over_a_restart_without_a_gap_or_a_repeat(tmp_path: Path) -> None:
    async with controller(tmp_path) as api:
        await api.register("a")
        async with api.watch() as stream:
            _, token, _ = await stream.next()
        await api.register("b")
        await api.register("x", "users")
    (tmp_path / "snapshots.sqlite").unlink(missing_ok=True)  # as after a crash: the log is all there is
    async with controller(tmp_path) as api, api.watch(f"?after={token}") as stream:
        event, _, data = await stream.next()
        assert event == "delta"
        assert [change["item"]["instance"] for change in data["changes"]] == ["b", "x"]
        await api.register("c")
        event, _, data = await stream.next()
        assert [change["item"]["instance"] for change in data["changes"]] == ["c"]


async def test_streams_end_cleanly_when_the_controller_stops(tmp_path: Path) -> None:
    async with asyncio.timeout(30), aiohttp.ClientSession() as session:
        async with controller(tmp_path) as api:
            await api.register()
            response = await session.get(f"{api.url}/v1/watch")
            stream = Stream(response.content)
            await stream.next()
            # The controller stops at the end of this block, while the stream is open.
        assert await stream.rest() == b""


async def test_a_watcher_that_goes_is_forgotten(api: Api) -> None:
    async with api.watch() as stream:
        await stream.next()
        assert b"muster_watchers 1.0" in (await api.get("/metrics")).body
    async with asyncio.timeout(10):
        while b"muster_watchers 0.0" not in (await api.get("/metrics")).body:
            pass


async def test_a_long_snapshot_comes_whole_with_all_that_changed_meanwhile(api: Api) -> None:
    commands = [
        {
            "id": f"{number}",
            "type": "muster.instance.register.v1",
            "stream": f"service/s{number % 3}",
            "data": {"instance": f"i{number}", "spec": {"address": "x", "port": 1}},
        }
        for number in range(900)
    ]
    await api.post("/v1/commands", commands)
    async with api.watch() as stream:
        written = await api.register("late")
        _, _, data = await stream.next()
        assert len({item["instance"] for item in data["items"]}) in (900, 901)
        if len(data["items"]) == 900:
            assert (await stream.next())[1] == written.headers["Muster-Token"]
