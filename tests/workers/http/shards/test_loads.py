"""Loads of shards over HTTP: a node tells them, and who asks gets them."""

from typing import Any

import pytest

from muster.client.client import Client
from muster.wire.telemetry.shard_loads import NodeLoad, ShardLoad
from tests.workers.http.cluster import join, served
from tests.workers.http.conftest import Api, Told
from workers.http.model import LoadList


async def tell(api: Api, incarnation: int, node: str = "n1", **keyspaces: Any) -> Told:
    return await api.post(f"/v1/nodes/{node}/loads", {"incarnation": incarnation, "keyspaces": keyspaces})


async def joined(api: Api, node: str = "n1", **fields: Any) -> int:
    incarnation: int = (await join(api, node, **fields)).body["incarnation"]
    return incarnation


async def test_a_node_tells_and_who_asks_gets_the_loads_of_the_keyspace(api: Api) -> None:
    first, second = await joined(api, "n1"), await joined(api, "n2")
    assert (await api.get("/v1/loads")).body == {"items": [], "instances": [], "nodes": [], "shards": []}
    told = await tell(api, first, users=[[1, 3.5, 0.5, 100], [0, 1, 0, 10]], orders=[[4, None, None, 7]])
    assert (told.status, told.body) == (200, {"shards": 3})
    await tell(api, second, "n2", users=[[2, 2, 2, 20]])
    found = (await api.get("/v1/loads?keyspace=users")).body
    LoadList.model_validate(found)
    assert found["items"] == []
    assert [(row["shard"], row["node"], row["reads_per_second"], row["bytes"]) for row in found["shards"]] == [
        (0, "n1", 1.0, 10),
        (1, "n1", 3.5, 100),
        (2, "n2", 2.0, 20),
    ]
    assert [(row["node"], row["shards"], row["writes_per_second"]) for row in found["nodes"]] == [
        ("n1", 2, 0.5),
        ("n2", 1, 2.0),
    ]
    one = (await api.get("/v1/loads?node=n1")).body
    assert [(row["keyspace"], row["shard"]) for row in one["shards"]] == [("orders", 4), ("users", 0), ("users", 1)]


async def test_without_a_keyspace_or_a_node_there_are_the_nodes_and_no_shards(api: Api) -> None:
    await tell(api, await joined(api), users=[[0, 1, 1, 1]])
    found = (await api.get("/v1/loads")).body
    assert ([row["node"] for row in found["nodes"]], found["shards"]) == (["n1"], [])
    assert (await api.get("/v1/loads?service=orders")).body == {"items": [], "instances": [], "nodes": [], "shards": []}


async def test_a_node_that_is_not_there_and_a_process_that_was_succeeded_are_refused(api: Api) -> None:
    assert (await tell(api, 0)).problem == (404, "NodeNotFound")
    before, now = await joined(api), await joined(api, process="p2")
    assert (await tell(api, before, users=[[0, 9, 9, 9]])).problem == (409, "StaleIncarnation")
    assert (await tell(api, now)).status == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"incarnation": True, "keyspaces": {}},
        {"incarnation": 0},
        {"incarnation": 0, "keyspaces": {"users": [[0, "1"]]}},
        {"incarnation": 0, "keyspaces": {}, "more": 1},
    ],
)
async def test_what_is_no_load_is_refused(api: Api, body: dict[str, Any]) -> None:
    await joined(api)
    told = await api.post("/v1/nodes/n1/loads", body)
    assert told.problem == (422, "InvalidCommand")
    assert told.body["field"]


async def test_the_most_that_a_node_can_tell_is_told_and_more_is_refused(api: Api) -> None:
    incarnation = await joined(api)
    told = await tell(api, incarnation, users=[[shard, 1, 1, (1 << 63) - 1] for shard in range(4)])
    assert (told.problem, told.body["field"]) == ((422, "InvalidCommand"), "keyspaces.users.0.3")
    assert (await tell(api, incarnation, users=[[shard, 1, 1, 1 << 46] for shard in range(4)])).status == 200
    assert [row["bytes"] for row in (await api.get("/v1/loads")).body["nodes"]] == [1 << 48]


async def test_a_telling_is_no_event(api: Api) -> None:
    incarnation = await joined(api)
    before = (await api.get("/v1/nodes/n1")).body["version"]
    await tell(api, incarnation, users=[[0, 1, 1, 1]])
    assert (await api.get("/v1/nodes/n1?consistency=strong")).body["version"] == before


async def test_the_client_reads_them(api: Api) -> None:
    await tell(api, await joined(api), users=[[0, 1.5, 0.5, 10]])
    async with Client(api.url) as client:
        found = await client.shard_loads("users")
        assert await client.shard_loads("orders") == type(found)()
        assert await client.loads() == ()
        assert [load.node for load in (await client.shard_loads()).nodes] == ["n1"]
    [shard], [node] = found.shards, found.nodes
    assert shard == ShardLoad(
        keyspace="users", shard=0, node="n1", reads_per_second=1.5, writes_per_second=0.5, bytes=10, at=shard.at
    )
    assert node == NodeLoad(node="n1", shards=1, reads_per_second=1.5, writes_per_second=0.5, bytes=10, at=shard.at)


async def test_shards_that_are_dealt_out_begin_with_the_node_that_has_the_least_to_do(api: Api) -> None:
    await served(api, 3, "n1", "n2", "n3")
    owned = {row["owner"]: row["shard"] for row in (await api.get("/v1/keyspaces/users/shards")).body["items"]}
    for item, reads in zip((await api.get("/v1/nodes")).body["items"], (10, 500, 3), strict=True):
        node = item["node"]
        assert (await tell(api, item["incarnation"], node, users=[[owned[node], reads, 0, 1]])).status == 200
    await api.put("/v1/keyspaces/orders", {"shards": 4})
    rows = (await api.get("/v1/keyspaces/orders/shards")).body["items"]
    assert [row["owner"] for row in rows] == ["n3", "n1", "n2", "n3"]
