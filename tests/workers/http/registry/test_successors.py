"""Who comes after whom under one instance id, and marks that outlive an instance, over HTTP."""

from typing import Any

import pytest

from tests.workers.http.conftest import INSTANCE, SPEC, Api, Told


async def registered(api: Api, holder: str | None = None, incarnation: int | None = None, **spec: Any) -> Told:
    asked = [
        f"{name}={value}" for name, value in (("holder", holder), ("incarnation", incarnation)) if value is not None
    ]
    return await api.put(f"{INSTANCE}?{'&'.join(asked)}", {**SPEC, **spec})


@pytest.mark.parametrize(("before", "after"), [("h1", "h2"), ("h1", None), (None, "h2")])
async def test_a_successor_survives_whatever_its_predecessor_says_late(
    api: Api, before: str | None, after: str | None
) -> None:
    first = await registered(api, before, lease_seconds=60)
    second = await registered(api, after, port=81, lease_seconds=60)
    said = {"incarnation": first.body["incarnation"]}
    for late in (
        await api.post(f"{INSTANCE}/heartbeat", said),
        await api.put(f"{INSTANCE}/health", {"status": "unhealthy", **said}),
        await api.delete(INSTANCE, said),
        await registered(api, before, **said),
    ):
        assert late.problem == (409, "StaleIncarnation")
        assert late.body["incarnation"] == second.body["incarnation"]
    found = await api.get(f"{INSTANCE}?consistency=strong")
    assert (found.body["port"], found.body["health"]) == (81, "healthy")
    assert found.body["incarnation"] == second.body["incarnation"]


async def test_a_holder_needs_to_know_no_number(api: Api) -> None:
    await registered(api, "h1")
    assert (await registered(api, "h1")).body["status"] == "unchanged"
    assert (await api.post(f"{INSTANCE}/heartbeat", {"holder": "h1"})).body["status"] == "unchanged"
    assert (await api.post(f"{INSTANCE}/heartbeat", {"holder": "h2"})).problem == (409, "StaleIncarnation")
    assert (await api.put(f"{INSTANCE}/health", {"status": "healthy", "holder": "h1"})).status == 200
    assert (await api.delete(INSTANCE, {"holder": "h2"})).problem == (409, "StaleIncarnation")
    assert (await api.delete(INSTANCE, {"holder": "h1"})).body["status"] == "accepted"


@pytest.mark.parametrize("query", ["holder=a/b", "holder=", "incarnation=-1", "incarnation=x", "holders=h1"])
async def test_what_is_no_holder_is_refused(api: Api, query: str) -> None:
    assert (await api.put(f"{INSTANCE}?{query}", SPEC)).problem == (422, "InvalidCommand")


async def test_who_watches_sees_one_leave_and_the_other_come(api: Api) -> None:
    await registered(api, "h1")
    async with api.watch("?service=orders") as stream:
        await stream.next()
        await registered(api, "h2", port=81)
        _, _, told = await stream.next()
    assert [change["op"] for change in told["changes"]] == ["remove", "put"]
    assert told["changes"][0]["cause"] == "succeeded"


async def test_maintenance_outlives_a_leave_and_is_told_to_who_comes_next(api: Api) -> None:
    await registered(api, "h1")
    await api.put(f"{INSTANCE}/maintenance", {"reason": "disk swap"}, Muster_Actor="ann")
    await api.put(f"{INSTANCE}/drain", {"reason": "restart"}, Muster_Actor="ann")
    since = (await api.get(INSTANCE)).body["maintenance"]["since"]
    await api.delete(INSTANCE, {"holder": "h1"})

    await registered(api, "h2")
    found = (await api.get(INSTANCE)).body
    assert found["maintenance"] == {"actor": "ann", "reason": "disk swap", "since": since}
    assert (found["draining"], found["discoverable"]) == (None, False)
    history = (await api.get(INSTANCE.replace("services", "history").replace("/instances", ""))).body["items"]
    assert history[-2]["data"]["keeps_maintenance"] is True
    assert history[-1]["data"]["maintenance"]["reason"] == "disk swap"


async def test_a_mark_can_be_taken_off_while_nobody_is_registered(api: Api) -> None:
    await registered(api)
    await api.put(f"{INSTANCE}/maintenance")
    await api.delete(INSTANCE)
    async with api.watch() as stream:
        await stream.next()
        assert (await api.delete(f"{INSTANCE}/maintenance")).body["status"] == "accepted"
        assert (await api.delete(f"{INSTANCE}/maintenance")).problem == (404, "ServiceNotFound")
        await registered(api)
        _, _, told = await stream.next()
    [change] = told["changes"]
    assert (change["op"], change["item"]["maintenance"], change["item"]["discoverable"]) == ("put", None, True)
