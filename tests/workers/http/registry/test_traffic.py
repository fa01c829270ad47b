"""The traffic of services over HTTP: set, read, and told in the watch of the service."""

from pathlib import Path
from typing import Any

from tests.workers.http.conftest import Api, controller

TRAFFIC = "/v1/traffic/orders"


def settings(row: dict[str, Any]) -> dict[str, Any]:
    about = ("service", "since", "actor", "reason", "version")
    return {name: value for name, value in row.items() if name not in about and value is not None}


async def test_what_is_set_is_read_with_its_actor_and_reason(api: Api) -> None:
    assert (await api.get(TRAFFIC)).problem == (404, "TrafficNotFound")
    body = {"policy": "round_robin", "eject_after": 3, "reason": "all hosts are alike"}
    written = await api.put(TRAFFIC, body, Muster_Actor="ann")
    assert (written.status, written.body["status"], written.body["version"]) == (200, "accepted", 1)

    row = (await api.get(TRAFFIC)).body
    assert settings(row) == {"policy": "round_robin", "eject_after": 3}
    assert (row["service"], row["actor"], row["reason"], row["version"]) == ("orders", "ann", "all hosts are alike", 2)
    assert (await api.get("/v1/traffic")).body["items"] == [row]
    again = await api.put(TRAFFIC, {"policy": "round_robin"})
    assert again.body["status"] == "unchanged"


async def test_a_setting_is_taken_back_by_its_name(api: Api) -> None:
    await api.put(TRAFFIC, {"policy": "round_robin", "limit": False})
    await api.put(TRAFFIC, {"default": ["policy"]})
    assert settings((await api.get(TRAFFIC)).body) == {"limit": False}


async def test_two_operators_do_not_overwrite_each_other_unseen(api: Api) -> None:
    first = await api.put(TRAFFIC, {"policy": "round_robin"})
    seen = {"If_Match": str(first.body["version"])}
    assert (await api.put(TRAFFIC, {"policy": "random"}, **seen)).status == 200
    assert (await api.put(TRAFFIC, {"policy": "least_cost"}, **seen)).problem == (412, "VersionConflict")


async def test_who_has_read_it_writes_behind_what_was_read_and_nothing_else(api: Api) -> None:
    written = await api.put(TRAFFIC, {"policy": "round_robin", "limit": False})
    read = await api.get(TRAFFIC)
    assert read.headers["ETag"] == written.headers["ETag"] == f'"{read.body["version"] - 1}"'
    seen = {"If_Match": read.headers["ETag"]}
    assert (await api.put(TRAFFIC, {"policy": "random"}, **seen)).status == 200
    assert (await api.put(TRAFFIC, {"policy": "least_cost"}, **seen)).problem == (412, "VersionConflict")


async def test_what_is_wrong_is_refused_by_its_field(api: Api) -> None:
    refused = await api.put(TRAFFIC, {"policy": "fastest"})
    assert (*refused.problem, refused.body["field"]) == (422, "InvalidCommand", "policy")
    assert (await api.put("/v1/traffic/no%20name", {"limit": True})).problem == (422, "InvalidCommand")


async def test_its_events_are_read_by_its_stream(api: Api) -> None:
    assert (await api.get("/v1/events?stream=traffic/orders")).problem == (404, "TrafficNotFound")
    await api.register()
    await api.put(TRAFFIC, {"policy": "random", "limit": False})
    found = (await api.get("/v1/events?stream=traffic/orders")).body["items"]
    assert [event["type"] for event in found] == ["muster.traffic.policy_set.v1", "muster.traffic.limit_set.v1"]
    assert {event["stream"] for event in found} == {"traffic/orders"}
    refused = await api.get("/v1/events?stream=traffic/orders/x/1")
    assert refused.problem == (422, "InvalidCommand")


class TestTheWatchOfTheService:
    """A frame behind the snapshot, and one at each change. There may be traffic before there is a service."""

    async def test_it_tells_behind_the_snapshot_what_was_set_before(self, api: Api) -> None:
        await api.put(TRAFFIC, {"policy": "random"})
        await api.register()
        async with api.watch("?service=orders") as stream:
            _, at, _ = await stream.next()
            event, token, row = await stream.next()
        assert (event, settings(row)) == ("traffic", {"policy": "random"})
        # Behind the same position: who resumes there has heard of both.
        assert token == at
        assert row == (await api.get(TRAFFIC)).body

    async def test_it_tells_each_change(self, api: Api) -> None:
        async with api.watch("?service=orders") as stream:
            await stream.next()
            await api.put("/v1/traffic/users", {"policy": "random"})
            written = await api.put(TRAFFIC, {"limit": False})
            event, token, row = await stream.next()
            assert (event, token) == ("traffic", written.headers["Muster-Token"])
            assert settings(row) == {"limit": False}
            await api.put(TRAFFIC, {"default": ["limit"], "retry_share": 0.5})
            assert settings((await stream.next())[2]) == {"retry_share": 0.5}

    async def test_who_resumes_is_told_again(self, api: Api) -> None:
        token = (await api.register()).headers["Muster-Token"]
        await api.put(TRAFFIC, {"limit": False})
        async with api.watch(f"?service=orders&after={token}") as stream:
            event, _, row = await stream.next()
        assert (event, settings(row)) == ("traffic", {"limit": False})

    async def test_the_watch_of_all_services_does_not_tell_it(self, api: Api) -> None:
        await api.put(TRAFFIC, {"limit": False})
        async with api.watch() as stream:
            assert (await stream.next())[0] == "snapshot"
            await api.put(TRAFFIC, {"limit": True})
            await api.register()
            assert (await stream.next())[0] == "delta"

    async def test_its_rows_can_be_watched_alone(self, api: Api) -> None:
        await api.put(TRAFFIC, {"limit": False})
        async with api.watch("/traffic?service=orders") as stream:
            assert settings((await stream.next())[2]["items"][0]) == {"limit": False}
            await api.put("/v1/traffic/users", {"policy": "random"})
            await api.put(TRAFFIC, {"limit": True})
            assert settings((await stream.next())[2]["items"][0]) == {"limit": True}


async def test_it_is_still_so_after_a_restart(tmp_path: Path) -> None:
    async with controller(tmp_path) as api:
        await api.put(TRAFFIC, {"policy": "random"}, Muster_Actor="ann")
        before = (await api.get(TRAFFIC)).body
    async with controller(tmp_path) as api:
        assert (await api.get(TRAFFIC)).body == before
        await api.put(TRAFFIC, {"limit": False})
        assert (await api.get(TRAFFIC)).body["version"] == 2
