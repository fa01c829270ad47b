"""Shards whose owner serves nothing, over HTTP: said to be unavailable, with the cause, wherever a shard is shown."""

import asyncio
from typing import Any

from tests.workers.http.cluster import USERS, join, served, until, work
from tests.workers.http.conftest import Api
from workers.http.shards.model import KeyspaceItem, RouteItem, ShardList

LAPSED = "the lease of its owner n1 has run out"
GONE = "its owner n1 is not in the cluster"


async def lost(api: Api) -> None:
    """The lease of n1, which owns shard 0 of two, is over."""
    await join(api, "n1", lease_seconds=0.5)
    await served(api, 2, "n1", "n2")
    async with asyncio.timeout(30):
        await until(api, lambda node: not node["alive"], "/v1/nodes/n1")


async def shards(api: Api, query: str = "") -> list[Any]:
    found: list[Any] = ShardList.model_validate((await api.get(f"{USERS}/shards{query}")).body).items
    return found


def gauge(metrics: Any, status: str) -> float:
    [line] = [
        one for one in metrics.body.decode().splitlines() if one.startswith(f'muster_shards{{status="{status}"}}')
    ]
    return float(line.split()[1])


async def test_of_a_node_whose_lease_is_over_they_are_unavailable_in_every_answer(api: Api) -> None:
    await lost(api)
    first, second = await shards(api)

    assert (first.status, first.unavailable, first.cause) == ("active", True, LAPSED)
    assert (second.status, second.unavailable, second.cause) == ("active", False, None)
    assert [shard.shard for shard in await shards(api, "?unavailable=true")] == [0]
    assert [shard.shard for shard in await shards(api, "?unavailable=false&status=active")] == [1]
    for told in (await api.get(USERS)).body, (await api.get("/v1/keyspaces")).body["items"][0]:
        item = KeyspaceItem.model_validate(told)
        assert (item.active, item.migrating, item.inactive, item.unavailable) == (2, 0, 0, 1)
    routes = [RouteItem.model_validate((await api.get(f"{USERS}/route?key={key}")).body) for key in range(20)]
    assert {(route.shard, route.unavailable, route.cause) for route in routes} == {(0, True, LAPSED), (1, False, None)}
    metrics = await api.get("/metrics")
    assert (gauge(metrics, "active"), gauge(metrics, "unavailable")) == (1.0, 1.0)


async def test_of_a_node_that_was_removed_they_are_unavailable_without_an_address(api: Api) -> None:
    await served(api, 1)
    await api.delete("/v1/nodes/n1?force=true")
    [shard] = await shards(api)

    assert (shard.owner, shard.address, shard.unavailable, shard.cause) == ("n1", None, True, GONE)


async def test_one_that_was_never_opened_stays_inactive_and_says_what_it_waits_for(api: Api) -> None:
    await join(api, "n2")
    await api.put(USERS, {"shards": 1, "nodes": ["n1"]})
    [shard] = await shards(api)

    assert (shard.status, shard.unavailable, shard.cause) == ("inactive", False, GONE)
    await join(api, "n1")
    await work(api)
    [shard] = await shards(api)
    assert (shard.status, shard.cause) == ("active", None)


async def test_who_watches_the_map_is_told_when_a_lease_runs_out_and_when_the_node_returns(api: Api) -> None:
    joined = await join(api, "n1", lease_seconds=0.5)
    await served(api, 2, "n1", "n2")
    async with api.watch("/shards?keyspace=users") as stream, asyncio.timeout(30):
        await stream.next()
        told = []
        while not told or not told[-1]["unavailable"]:
            told += (await stream.next())[2]["items"]
        assert (told[-1]["shard"], told[-1]["cause"]) == (0, LAPSED)
        await api.post("/v1/nodes/n1/renew", {"incarnation": joined.body["incarnation"]})
        while told[-1]["unavailable"]:
            told += (await stream.next())[2]["items"]
        assert (told[-1]["shard"], told[-1]["cause"]) == (0, None)
