"""Heartbeats of many instances in one request: each is heard by itself, and who is not is named."""

import asyncio
from typing import Any

import pytest

from muster.client.client import Client
from muster.wire.telemetry.heartbeats import Beat, Heartbeats
from tests.workers.http.conftest import Api

TTL = {"kind": "ttl", "name": "alive", "ttl_seconds": 0.5}


def message(*items: list[Any], service: str = "orders", agent: str = "host-7") -> dict[str, Any]:
    return {"agent": agent, "service": service, "items": list(items)}


async def beat(api: Api, *messages: dict[str, Any]) -> Any:
    told = await api.post("/v1/heartbeats", {"beats": list(messages)})
    assert told.status == 200, told.body
    return told.body


async def test_leases_are_renewed_and_who_is_refused_is_named(api: Api) -> None:
    known = {name: (await api.register(name, lease_seconds=60)).body["incarnation"] for name in ("a", "b")}
    told = await beat(
        api,
        message(["a", known["a"], 12, 310.5, 0.5, 0.61], ["b", known["b"] + 7], ["c", 1]),
        message(["a", 1], service="users"),
        message(["b", known["b"], None, 3]),
    )
    assert told["renewed"] == 2
    assert [(one["service"], one["instance"], one["error"]["name"]) for one in told["refused"]] == [
        ("orders", "b", "StaleIncarnation"),
        ("orders", "c", "InstanceNotFound"),
        ("users", "a", "ServiceNotFound"),
    ]
    # Who is refused for its incarnation is told the one that there is.
    assert told["refused"][0]["error"]["incarnation"] == known["b"]
    assert (await api.get("/v1/history/orders/a")).body["count"] == 1


async def test_an_instance_that_is_heard_outlives_its_lease_and_one_that_is_not_goes(api: Api) -> None:
    known = {name: (await api.register(name, lease_seconds=1.0)).body["incarnation"] for name in ("a", "b")}
    left = {"a", "b"}
    while left != {"a"}:
        assert (await beat(api, message(["a", known["a"]])))["renewed"] == 1
        await asyncio.sleep(0.1)
        listed = await api.get("/v1/services/orders/instances")
        left = {one["instance"] for one in listed.body["items"]}
        assert "a" in left


async def test_a_ttl_check_becomes_healthy(api: Api) -> None:
    incarnation = (await api.register("a", checks=[TTL])).body["incarnation"]
    assert (await beat(api, message(["a", incarnation])))["renewed"] == 1
    row = (await api.get("/v1/services/orders/instances/a")).body
    assert (row["health"], row["check_status"]["alive"]["cause"]) == ("healthy", "heartbeat")
    history = (await api.get("/v1/history/orders/a")).body["items"]
    assert history[-1]["actor"] == "host-7"


async def test_no_beats_are_answered_too(api: Api) -> None:
    assert await beat(api) == {"renewed": 0, "refused": []}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "beats"),
        ({"beats": 5}, "beats"),
        ({"beats": [], "more": 1}, "more"),
        ({"beats": [5]}, "beats.0"),
        ({"beats": [{"agent": "a", "service": "s"}]}, "beats.0"),
        ({"beats": [message(["a", 1]), message(["a", "1"])]}, "beats.1.items.0.incarnation"),
        ({"beats": [message(["a", 1], agent="no name")]}, "beats.0.agent"),
        ({"beats": [message(["a", 1, -1])]}, "beats.0.items.0.in_flight"),
        ({"beats": [message()]}, "beats.0.items"),
    ],
)
async def test_what_cannot_be_read_is_refused_whole_with_the_field(api: Api, body: Any, field: str) -> None:
    told = await api.post("/v1/heartbeats", body)
    assert told.problem == (422, "InvalidCommand")
    assert told.body["field"] == field


async def test_a_request_that_is_too_long_is_refused(api: Api) -> None:
    many = [message(*(["a", number] for number in range(1_000))) for _ in range(6)]
    assert (await api.post("/v1/heartbeats", {"beats": many})).problem == (413, "TooLarge")


async def test_of_a_partition_that_nobody_writes_each_instance_is_refused(api: Api) -> None:
    for executor in api.gateway.executors.values():
        executor.failing = "the disk is full"  # type: ignore[attr-defined]
    told = await beat(api, message(["a", 1], ["b", 2]))
    assert told["renewed"] == 0
    assert {one["error"]["name"] for one in told["refused"]} == {"NotReady"}


async def test_loads_are_those_of_who_was_heard(api: Api) -> None:
    assert (await api.get("/v1/loads")).body["items"] == []
    known = {name: (await api.register(name)).body["incarnation"] for name in ("a", "b")}
    await beat(
        api, message(["a", known["a"], 12, 310.5, 0.5, 0.6], ["b", known["b"], 3, None, 0.25, 0.2], ["none", 1, 1_000])
    )
    [load] = (await api.get("/v1/loads?service=orders")).body["items"]
    assert load.pop("at")
    assert load == {
        "service": "orders",
        "instances": 2,
        "heard": 2,
        "in_flight": 15,
        "per_second": 310.5,
        "failures_per_second": 0.75,
        "utilisation": 0.4,
        # Nobody has said that it called them.
        "observers": None,
        "attempts_per_second": None,
        "failure_share": None,
        "latency_seconds": None,
        "suspected": [],
    }
    assert (await api.get("/v1/loads?service=users")).body["items"] == []
    assert [row["service"] for row in (await api.get("/v1/loads")).body["items"]] == ["orders"]
    assert (await api.get("/v1/loads?consistency=strong")).problem == (422, "InvalidCommand")


async def test_a_client_beats_for_many_and_reads_the_load(api: Api) -> None:
    incarnation = (await api.register("a", lease_seconds=60)).body["incarnation"]
    async with Client(api.url) as client:
        heard = await client.heartbeats(
            [Heartbeats("host-7", "orders", [Beat("a", incarnation, utilisation=0.5), Beat("b", 1)])]
        )
        [load] = await client.loads("orders")
        assert await client.loads("users") == ()
    assert (heard.renewed, [one.instance for one in heard.refused]) == (1, ["b"])
    assert (load.heard, load.utilisation, load.in_flight) == (1, 0.5, None)
