"""Keyspaces over HTTP: what is created, assigned, pinned and moved, and how it is read."""

import json
from collections.abc import Coroutine
from typing import Any, cast

import pytest

from muster.wire.shards.key import key_hash, shard_of
from tests.workers.http.cluster import ID, USERS, at, join, move, served, tasks, until, work
from tests.workers.http.conftest import Api
from workers.http.exchange import Reply, Request
from workers.http.model import Written
from workers.http.reading import Reader
from workers.http.shards.keyspaces import Keyspaces
from workers.http.shards.model import KeyspaceItem, KeyspaceList, MoveWritten, RouteItem, ShardList


async def owners(api: Api, query: str = "") -> list[str | None]:
    told = ShardList.model_validate((await api.get(f"{USERS}/shards{query}")).body)
    return [item.owner for item in told.items]


async def test_a_keyspace_without_nodes_is_spread_over_all_that_can_take_shards(api: Api) -> None:
    for name in ("n1", "n2", "n3"):
        await join(api, name)
    await api.put("/v1/nodes/n3/cordon")
    told = await api.put(USERS, {"shards": 4, "value_bytes_max": 100})

    assert Written.model_validate(told.body).status == "accepted"
    assert await owners(api) == ["n1", "n2", "n1", "n2"]
    assert told.headers["Muster-Token"] == (await api.get(USERS)).headers["Muster-Token"]
    again = await api.put(USERS, {"shards": 4, "value_bytes_max": 100})
    assert again.body["status"] == "unchanged"


async def test_a_repeat_is_known_although_other_nodes_are_there_by_then(api: Api) -> None:
    await join(api, "n1")
    first = await api.put(USERS, {"shards": 2}, Idempotency_Key="k")
    await join(api, "n2")
    again = await api.put(USERS, {"shards": 2, "nodes": None}, Idempotency_Key="k")

    assert (again.status, again.headers["Muster-Duplicate"]) == (200, "true")
    assert again.body["version"] == first.body["version"]
    assert await owners(api) == ["n1", "n1"]


async def test_a_keyspace_can_wait_for_its_nodes(api: Api) -> None:
    assert (await api.put(USERS, {"shards": 2})).status == 200
    assert await owners(api) == [None, None]
    assert (await api.post(f"{USERS}/assign")).problem == (404, "NodeNotFound")
    await join(api, "n1")
    await join(api, "n2")
    assert (await api.post(f"{USERS}/assign")).body["status"] == "accepted"
    assert await owners(api) == ["n1", "n2"]
    assert (await api.post(f"{USERS}/assign", {"nodes": ["n1"]})).body["status"] == "unchanged"


async def test_the_named_nodes_and_no_others_get_the_shards(api: Api) -> None:
    await join(api, "n1")
    await api.put(USERS, {"shards": 2, "nodes": ["n7"]})
    assert await owners(api) == ["n7", "n7"]
    await api.put("/v1/keyspaces/empty", {"shards": 2, "nodes": []})
    assert (await api.get("/v1/keyspaces/empty")).body["inactive"] == 2
    assert (await api.get("/v1/keyspaces/empty/shards")).body["items"][0]["address"] is None


async def test_neither_shards_nor_limits_can_be_changed(api: Api) -> None:
    await api.put(USERS, {"shards": 2})

    assert (await api.put(USERS, {"shards": 3})).problem == (412, "VersionConflict")
    assert (await api.put(USERS, {"shards": 2, "shard_bytes_max": 5})).problem == (412, "VersionConflict")


async def test_keyspaces_are_counted_by_the_status_of_their_shards(api: Api) -> None:
    await served(api)
    await api.put("/v1/keyspaces/orders", {"shards": 3, "nodes": []})
    await move(api)
    told = KeyspaceList.model_validate((await api.get("/v1/keyspaces")).body)

    assert [item.keyspace for item in told.items] == ["orders", "users"]
    orders, users = told.items
    assert (orders.active, orders.migrating, orders.inactive, orders.moves) == (0, 0, 3, 0)
    assert (users.shards, users.active, users.migrating, users.inactive, users.moves) == (4, 3, 1, 0, 1)
    one = await api.get(USERS)
    assert KeyspaceItem.model_validate(one.body).keyspace == "users"
    assert one.headers["ETag"]
    await until(api, at("prepare"))
    assert (await api.get(USERS)).body["cleanups"] == 1


async def test_shards_are_filtered(api: Api) -> None:
    await served(api, 4, "n1", "n2")
    await move(api)

    async def numbers(query: str) -> list[int]:
        return [item["shard"] for item in (await api.get(f"{USERS}/shards{query}")).body["items"]]

    assert await numbers("?owner=n2") == [1, 3]
    assert await numbers("?status=migrating") == [0]
    assert await numbers("?owner=n2&status=migrating") == []
    assert (await api.get(f"{USERS}/shards?state=active")).body["field"] == "state"
    assert (await api.get(f"{USERS}/shards?status=dead")).body["field"] == "status"


async def test_the_token_of_a_long_list_is_of_its_first_row(api: Api) -> None:
    await join(api, "n1")
    await api.put(USERS, {"shards": 3_000})
    before = (await api.get(USERS)).headers["Muster-Token"]
    keyspaces = Keyspaces(api.gateway, Reader(api.gateway, lambda: None, 1.0))
    scope = {"query_string": b"", "headers": [], "path": f"{USERS}/shards"}
    listing = keyspaces.shards(Request(scope, None, None, ["", "v1", "keyspaces", "users"], {"keyspace": 3}))
    listing.send(None)  # The first piece has been read.

    await api.put(f"{USERS}/shards/0/pin")
    reply = await rest_of(listing)

    assert json.loads(reply.body)["items"][0]["pinned"] is False
    assert dict(reply.headers)[b"muster-token"].decode() == before
    assert (await api.get(USERS)).headers["Muster-Token"] != before


async def rest_of(begun: Coroutine[Any, Any, Reply]) -> Reply:
    """The end of a coroutine that gives way to others by `sleep(0)` alone."""
    try:
        while True:
            begun.send(None)
    except StopIteration as ended:
        return cast(Reply, ended.value)


async def test_a_shard_says_who_serves_it_and_which_hashes_are_its_own(api: Api) -> None:
    await served(api)
    await move(api, 3)
    shards = ShardList.model_validate((await api.get(f"{USERS}/shards?consistency=strong")).body).items

    assert [(shard.first_hash, shard.last_hash) for shard in shards][1] == ("4000000000000000", "7fffffffffffffff")
    assert shards[-1].last_hash == "f" * 16
    moving = shards[3]
    assert (moving.owner, moving.address, moving.epoch) == ("n1", "127.0.0.1:7401", 1)
    assert (moving.status, moving.migration, moving.target, moving.fenced) == ("migrating", ID, "n2", False)


async def test_a_key_is_found(api: Api) -> None:
    await served(api)
    told = await api.get(f"{USERS}/route?key=k%C3%A4se%20a&consistency=strong")

    route = RouteItem.model_validate(told.body)
    assert route.key == "käse a"
    assert route.hash == f"{key_hash('käse a'):016x}"
    assert (route.shard, route.owner, route.status) == (shard_of("käse a", 4), "n1", "active")
    assert (await api.get(f"{USERS}/route?key=")).problem == (422, "InvalidShardKey")
    assert (await api.get(f"{USERS}/route")).body["field"] == "key"
    assert (await api.get("/v1/keyspaces/nope/route?key=a")).problem == (404, "KeyspaceNotFound")


async def test_a_pinned_shard_does_not_move(api: Api) -> None:
    await served(api)

    assert (await api.put(f"{USERS}/shards/0/pin", {"reason": "audit"}, Muster_Actor="ann")).status == 200
    assert (await api.get(f"{USERS}/shards")).body["items"][0]["pinned"] is True
    event = (await api.get("/v1/events?type=muster.shard.pin_set.v1")).body["items"][0]
    assert (event["actor"], event["reason"]) == ("ann", "audit")
    assert (await move(api)).problem == (409, "ShardPinned")
    assert (await api.delete(f"{USERS}/shards/0/pin")).body["status"] == "accepted"
    assert (await api.delete(f"{USERS}/shards/0/pin")).body["status"] == "unchanged"
    assert (await move(api)).status == 200
    assert (await api.put(f"{USERS}/shards/9/pin")).problem == (404, "ShardNotFound")


async def test_a_move_names_its_migration_also_when_it_is_asked_for_again(api: Api) -> None:
    await served(api)
    first = await api.post(f"{USERS}/moves", {"shard": 0, "to": "n2", "hold": True}, Idempotency_Key="k")
    repeat = await api.post(f"{USERS}/moves", {"shard": 0, "to": "n2", "hold": True}, Idempotency_Key="k")
    again = await move(api)

    assert MoveWritten.model_validate(first.body).migration == ID
    assert (repeat.body["migration"], repeat.headers["Muster-Duplicate"]) == (ID, "true")
    assert (again.body["status"], again.body["migration"]) == ("unchanged", ID)
    assert (await move(api, 1, "n1")).body["migration"] is None
    assert (await move(api, 0, "n3")).problem == (409, "MoveInProgress")


async def test_a_target_that_cannot_take_shards_is_refused_at_once(api: Api) -> None:
    await served(api)
    await api.put("/v1/nodes/n2/cordon")
    await api.put("/v1/nodes/n3/drain")

    for target in ("n2", "n3"):
        told = await move(api, 0, target)
        assert told.problem == (409, "NodeCordoned")
        assert told.body["node"] == target
    assert (await move(api, 0, "n9")).problem == (404, "NodeNotFound")
    assert await tasks(api) == []


async def test_a_node_may_be_cordoned_while_a_shard_comes(api: Api) -> None:
    await served(api)
    await move(api)
    await api.put("/v1/nodes/n2/cordon")

    assert (await move(api)).body["migration"] == ID


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("PUT", USERS, {}, "shards"),
        ("PUT", USERS, {"shards": 0}, "shards"),
        ("PUT", USERS, {"shards": 4, "replicas": 3}, "replicas"),
        ("PUT", USERS, {"shards": 4, "nodes": ["-"]}, "nodes.0"),
        ("PUT", USERS, {"shards": 4, "reason": "x"}, "reason"),
        ("PUT", f"{USERS}?timeout=3", {"shards": 4}, "timeout"),
        ("PUT", "/v1/keyspaces/us%20ers", {"shards": 4}, "keyspace"),
        ("POST", f"{USERS}/assign", {"nodes": []}, "nodes"),
        ("POST", f"{USERS}/assign", {"zone": "a"}, "zone"),
        ("POST", f"{USERS}/moves", {"shard": 0}, "target"),
        ("POST", f"{USERS}/moves", {"target": "n2"}, "shard"),
        ("POST", f"{USERS}/moves", {"shard": 0, "target": "n2", "to": "n2"}, "to"),
        ("POST", f"{USERS}/moves", {"shard": 0, "target": "n2", "speed": 1}, "speed"),
        ("POST", f"{USERS}/moves", {"shard": 0, "target": "n2", "bytes_per_second": 1}, "bytes_per_second"),
        ("PUT", f"{USERS}/shards/x/pin", None, "shard"),
        ("PUT", f"{USERS}/shards/0/pin", {"shard": 1}, "shard"),
        ("PUT", f"{USERS}/shards/0/pin", {"colour": "red"}, "colour"),
        ("GET", f"{USERS}?shard=1", None, "shard"),
        ("GET", "/v1/keyspaces?limit=1", None, "limit"),
    ],
)
async def test_what_cannot_be_read_names_the_field(api: Api, method: str, path: str, body: Any, field: str) -> None:
    told = await api.ask(method, path, body)

    assert told.problem == (422, "InvalidCommand")
    assert told.body["field"] == field
    assert (await api.get("/v1/keyspaces")).body["items"] == []


@pytest.mark.parametrize("name", ["Idempotency-Key", "If-Match", "Muster-Actor", "Muster-Token"])
async def test_a_header_that_cannot_be_read_is_refused(api: Api, name: str) -> None:
    told = await api.put(USERS, {"shards": 4}, **{name: "x" * 201})
    assert told.problem == (422, "InvalidCommand")


@pytest.mark.parametrize("path", ["", "/shards", "/route?key=a"])
async def test_a_keyspace_that_is_not_there_is_told(api: Api, path: str) -> None:
    assert (await api.get(f"{USERS}{path}")).problem == (404, "KeyspaceNotFound")


async def test_an_expected_version_is_compared(api: Api) -> None:
    first = await api.put(USERS, {"shards": 4, "nodes": []})
    stale = await api.post(f"{USERS}/assign", {"nodes": ["n1"]}, If_Match='"17"')
    fresh = await api.post(f"{USERS}/assign", {"nodes": ["n1"]}, If_Match=first.headers["ETag"])

    assert stale.problem == (412, "VersionConflict")
    assert fresh.body["status"] == "accepted"


async def test_a_token_is_handed_on_and_waited_for(api: Api) -> None:
    told = await api.put(USERS, {"shards": 4}, Muster_Token="3:17")
    assert told.headers["Muster-Token"].endswith(",3:17")
    late = await api.get(f"{USERS}?consistency=session&timeout_seconds=0.01", Muster_Token="0:9999")
    assert late.problem == (504, "Timeout")


async def test_many_shards_are_listed_in_order(api: Api) -> None:
    await api.put(USERS, {"shards": 3_000, "nodes": ["n1"]})
    told = await api.get(f"{USERS}/shards")
    assert [item["shard"] for item in told.body["items"]] == list(range(3_000))
    await work(api)
