"""What clients saw, on a controller that asks real sockets: told, weighed where checks fail together, and never a beat."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.workers.http.conftest import Api, controller
from tests.workers.http.registry.test_doubts import NAMES, Relay, all_ill, all_suspect, fleet, until

TTL = {"kind": "ttl", "name": "alive", "ttl_seconds": 1.0}
OBSERVATIONS = "/v1/observations"


def message(*seen: list[Any], service: str = "orders", observer: str = "web-1", seconds: float = 5.0) -> dict[str, Any]:
    return {"observer": observer, "service": service, "seconds": seconds, "observed": list(seen)}


async def tell(api: Api, *messages: dict[str, Any]) -> Any:
    told = await api.post(OBSERVATIONS, {"observations": list(messages)})
    assert told.status == 200, told.body
    return told.body


@asynccontextmanager
async def hosts(api: Api, how_many: int) -> AsyncIterator[list[Api]]:
    """The controller as so many hosts ask it, each from an address of its own."""
    async with AsyncExitStack() as stack:
        found = []
        for number in range(how_many):
            connector = aiohttp.TCPConnector(local_addr=(f"127.0.0.{number + 2}", 0))
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            found.append(Api(api.url, api.gateway, session))
        yield found


async def all_say(clients: Sequence[Api], rows: dict[str, Any], failing: int) -> None:
    """Each of the clients has called all instances; so many calls in a row have failed up to now."""
    seen = [[name, row["incarnation"], 10, min(failing, 10), failing, 0.02] for name, row in rows.items()]
    for number, client in enumerate(clients):
        # An observer's name is its own, also where several are on one host.
        told = message(*seen, observer=f"web-{id(client)}-{number}")
        assert await tell(client, told) == {"taken": len(rows)}


async def test_calls_in_next_to_no_time_are_refused_and_no_rate_that_is_told_is_no_number(api: Api) -> None:
    incarnation = (await api.register("a")).body["incarnation"]
    told = message(["a", incarnation, 1_000_000_000, 0, 0], seconds=1e-300)
    refused = await api.post(OBSERVATIONS, {"observations": [told]})
    assert (refused.problem, refused.body["field"]) == ((422, "InvalidCommand"), "observations.0.seconds")
    await tell(api, message(["a", incarnation, 1_000_000_000, 0, 0], seconds=0.1))
    [row] = (await api.get("/v1/loads?service=orders")).body["instances"]
    assert row["attempts_per_second"] == 1e10


async def history(api: Api, name: str) -> list[dict[str, Any]]:
    return list((await api.get(f"/v1/history/orders/{name}")).body["items"])


async def test_it_renews_no_lease_and_no_ttl(api: Api) -> None:
    leased = (await api.register("a", lease_seconds=1.0)).body["incarnation"]
    checked = (await api.register("b", checks=[TTL])).body["incarnation"]
    assert await api.post("/v1/heartbeats", {"beats": [{"agent": "h", "service": "orders", "items": [["b", checked]]}]})
    # Clients go on calling both, and being answered, and neither says anything of itself.
    async with asyncio.timeout(20):
        rows: dict[str, Any] = {"a": None}
        while "a" in rows or rows["b"]["health"] != "unhealthy":
            await tell(api, message(["a", leased, 50, 0, 0, 0.01], ["b", checked, 50, 0, 0, 0.01]))
            rows = {row["instance"]: row for row in (await api.get("/v1/services/orders/instances")).body["items"]}
            await asyncio.sleep(0.05)
    assert rows["b"]["cause"] == "no heartbeat within the ttl"


async def test_it_makes_no_ttl_check_healthy(api: Api) -> None:
    incarnation = (await api.register("a", checks=[TTL])).body["incarnation"]
    assert await tell(api, message(["a", incarnation, 50, 0, 0])) == {"taken": 1}
    assert (await api.get("/v1/services/orders/instances/a")).body["health"] == "unknown"
    assert (await api.get("/v1/history/orders/a")).body["count"] == 1


async def test_loads_say_what_clients_saw_beside_what_instances_say(api: Api) -> None:
    known = {name: (await api.register(name, lease_seconds=60)).body["incarnation"] for name in ("a", "b")}
    await api.post(
        "/v1/heartbeats", {"beats": [{"agent": "h", "service": "orders", "items": [["a", known["a"], 12, 310.5]]}]}
    )
    await tell(
        api,
        message(["a", known["a"], 50, 10, 2, 0.01], ["b", known["b"] + 1, 50, 0, 0], ["x", 1, 50, 0, 0]),
        message(["b", known["b"], 50, 0, 0, 0.03], observer="web-2"),
        message(["a", 1, 1, 0, 0], service="nobody"),
    )
    (load,) = (await api.get("/v1/loads")).body["items"]
    assert (load["instances"], load["in_flight"], load["per_second"]) == (1, 12, 310.5)
    assert (load["observers"], load["attempts_per_second"], load["failure_share"]) == (2, 20.0, 0.1)
    assert load["latency_seconds"] == pytest.approx((8 * 0.01 + 10 * 0.03) / 18, abs=1e-6)
    assert load["suspected"] == []
    assert (await api.get("/v1/loads")).body["instances"] == []


async def test_loads_of_a_service_say_how_calls_to_each_instance_fare(api: Api) -> None:
    known = {name: (await api.register(name, lease_seconds=60)).body["incarnation"] for name in ("a", "b")}
    beats = {"agent": "h", "service": "orders", "items": [["b", known["b"], 12, 310.5]]}
    await api.post("/v1/heartbeats", {"beats": [beats]})
    await tell(
        api,
        message(["a", known["a"], 50, 0, 0, 0.01], ["b", known["b"], 50, 10, 2, 0.03]),
        message(["b", known["b"], 50, 0, 0, 0.03], observer="web-2"),
    )
    about = (
        "instance",
        "incarnation",
        "observers",
        "attempts_per_second",
        "failure_share",
        "latency_seconds",
        "in_flight",
    )
    told = (await api.get("/v1/loads?service=orders")).body["instances"]
    assert [tuple(row[name] for name in about) for row in told] == [
        ("b", known["b"], 2, 20.0, 0.1, 0.03, 12),
        ("a", known["a"], 1, 10.0, 0.0, 0.01, None),
    ]
    assert {frozenset(row) for row in told} == {frozenset(about)}
    assert (await api.get("/v1/loads?service=users")).body["instances"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "observations"),
        ({"observations": 5}, "observations"),
        ({"observations": [], "more": 1}, "more"),
        ({"observations": [5]}, "observations.0"),
        # The host is seen, and not told.
        ({"observations": [{**message(["a", 1, 1, 0, 0]), "host": "h"}]}, "observations.0"),
        (
            {"observations": [message(["a", 1, 1, 0, 0]), message(["a", 1, 0, 0, 0])]},
            "observations.1.observed.0.attempts",
        ),
    ],
)
async def test_what_is_wrong_is_named(api: Api, body: dict[str, Any], field: str) -> None:
    told = await api.post(OBSERVATIONS, body)
    assert told.problem == (422, "InvalidCommand")
    assert told.body["field"] == field


async def test_a_request_has_a_limit(api: Api) -> None:
    many = message(*[["a", 1, 1, 0, 0]] * 1_000)
    assert (await api.post(OBSERVATIONS, {"observations": [many] * 5})).status == 200
    more = [many] * 5 + [message(["a", 1, 1, 0, 0])]
    assert (await api.post(OBSERVATIONS, {"observations": more})).problem == (413, "TooLarge")


@asynccontextmanager
async def cut(tmp_path: Path) -> AsyncIterator[tuple[Api, Relay, dict[str, Any]]]:
    """A controller whose way to all four instances is cut, so that it doubts its checks, for a minute."""
    async with controller(tmp_path, mass_flip_seconds=60.0) as api, fleet(api) as relay:
        relay.cut(*NAMES)
        yield api, relay, await until(api, all_suspect)


async def test_when_enough_hosts_see_them_fail_their_checks_are_believed_at_once(tmp_path: Path) -> None:
    async with cut(tmp_path) as (api, _, rows), hosts(api, 3) as clients:
        await all_say(clients, rows, failing=5)
        rows = await until(api, lambda rows: not any(row["discoverable"] for row in rows.values()))
        assert all_ill(rows)
        assert [row["suspect"] for row in rows.values()] == [None] * 4
        last = (await history(api, "a"))[-1]
        assert last["type"] == "muster.instance.checks_believed.v1"
        # Where two have told it and the third has not yet, both of two are enough.
        assert last["data"]["because"] == "observed"
        assert last["data"]["failing"] == last["data"]["clients"] >= 2


async def test_when_enough_hosts_see_them_answer_they_stay_and_the_text_says_so(tmp_path: Path) -> None:
    async with cut(tmp_path) as (api, _, rows), hosts(api, 4) as clients:
        # The one that sees them fail comes first, so that there are four when three see them answer.
        await all_say(clients[3:], rows, failing=9)
        await all_say(clients[:3], rows, failing=0)
        said = "checks fail together; clients on 3 of 4 hosts see it answer"
        rows = await until(api, lambda rows: all(row["suspect"] == said for row in rows.values()))
        assert all(row["discoverable"] for row in rows.values())
        assert (await history(api, "a"))[-1]["data"] == {"instance": "a", "clients": 4, "answering": 3}
        (load,) = (await api.get("/v1/loads?service=orders")).body["items"]
        assert load["suspected"][0] == {
            "instance": "a",
            "incarnation": rows["a"]["incarnation"],
            "clients": 4,
            "failing": 1,
            "answering": 3,
        }


async def test_however_many_see_them_answer_the_time_passes(tmp_path: Path) -> None:
    async with controller(tmp_path, mass_flip_seconds=3.0) as api, fleet(api) as relay, hosts(api, 5) as clients:
        relay.cut(*NAMES)
        rows = await until(api, all_suspect)
        async with asyncio.timeout(30):
            while any(row["discoverable"] for row in rows.values()):
                await all_say(clients, rows, failing=0)
                rows = await until(api, lambda _: True)
        said = [event["type"].split(".")[2] for event in await history(api, "a")]
        assert "seen_answering" in said
        assert (await history(api, "a"))[-1]["data"] == {"instance": "a", "because": "time"}


async def test_many_observers_of_one_host_take_nobody_out(tmp_path: Path) -> None:
    async with cut(tmp_path) as (api, _, rows), hosts(api, 2) as (one, other):
        await all_say([one] * 10, rows, failing=5)

        async def words() -> list[tuple[int, int]]:
            (load,) = (await api.get("/v1/loads?service=orders")).body["items"]
            return [(word["clients"], word["failing"]) for word in load["suspected"]]

        async with asyncio.timeout(20):
            while await words() != [(1, 1)] * 4:  # noqa: ASYNC110 what is asked sets no event
                await asyncio.sleep(0.05)
        # It was weighed, and came to nothing; a second host of two is another matter.
        assert all_suspect(await until(api, lambda _: True))
        await all_say([other], rows, failing=5)
        await until(api, lambda rows: not any(row["discoverable"] for row in rows.values()))
