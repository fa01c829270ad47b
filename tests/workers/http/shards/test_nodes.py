"""Data nodes over HTTP: joining, leases, marks, removal, and the limits of moves."""

from typing import Any

import pytest

from tests.workers.http.cluster import ID, at, join, move, node, served, until
from tests.workers.http.conftest import Api
from workers.http.model import Written
from workers.http.shards.model import ClusterItem, Joined, MigrationItem, NodeItem, NodeList

N1 = "/v1/nodes/n1"


async def test_a_node_joins_and_renews_its_lease(api: Api) -> None:
    told = await join(api, "n1", zone="a", capacity=2.5)
    joined = Joined.model_validate(told.body)

    assert (joined.status, joined.lease_seconds) == ("accepted", 60.0)
    renewed = await api.post(f"{N1}/renew", {"incarnation": joined.incarnation})
    assert Written.model_validate(renewed.body).incarnation == joined.incarnation
    item = NodeItem.model_validate((await api.get(N1)).body)
    assert (item.zone, item.capacity, item.alive, item.cordoned, item.draining) == ("a", 2.5, True, False, False)
    assert item.incarnation == joined.incarnation


async def test_a_process_that_joins_again_keeps_the_lease_that_it_has(api: Api) -> None:
    first = await join(api, "n1")
    again = await join(api, "n1", lease_seconds=5)

    assert (again.body["status"], again.body["lease_seconds"]) == ("unchanged", 60.0)
    assert again.body["incarnation"] == first.body["incarnation"]


async def test_a_new_process_on_the_same_store_ends_the_reign_of_the_old_one(api: Api) -> None:
    first = await join(api, "n1")
    second = await join(api, "n1", process="p2", address="127.0.0.1:9")

    assert second.body["incarnation"] > first.body["incarnation"]
    stale = await api.post(f"{N1}/renew", {"incarnation": first.body["incarnation"]})
    assert stale.problem == (409, "StaleIncarnation")
    assert stale.body["incarnation"] == second.body["incarnation"]
    assert (await join(api, "n1", store="another")).problem == (409, "NodeTaken")


async def test_a_node_that_is_not_there_is_told(api: Api) -> None:
    assert (await api.post(f"{N1}/renew", {"incarnation": 0})).problem == (404, "NodeNotFound")
    assert (await api.get(N1)).problem == (404, "NodeNotFound")
    assert (await api.put(f"{N1}/cordon")).problem == (404, "NodeNotFound")
    assert (await api.delete(N1)).body["status"] == "unchanged"


async def test_marks_are_set_and_cleared_with_a_reason(api: Api) -> None:
    await join(api, "n1")
    for mark, field, event in (
        ("cordon", "cordoned", "muster.node.cordon_set.v1"),
        ("drain", "draining", "muster.node.drain_started.v1"),
    ):
        assert (await api.put(f"{N1}/{mark}", {"reason": "disk"}, Muster_Actor="ann")).body["status"] == "accepted"
        assert (await api.put(f"{N1}/{mark}")).body["status"] == "unchanged"
        assert (await api.get(N1)).body[field] is True
        [told] = (await api.get("/v1/events?stream=cluster&limit=9")).body["items"][-1:]
        assert (told["type"], told["actor"], told["reason"]) == (event, "ann", "disk")
        assert (await api.delete(f"{N1}/{mark}")).body["status"] == "accepted"
        assert (await api.get(N1)).body[field] is False


async def test_a_node_that_owns_shards_is_removed_by_force_only(api: Api) -> None:
    await served(api)
    told = await api.delete(N1)

    assert told.problem == (409, "VerbNotAllowed")
    assert "4 shards" in told.body["detail"]
    assert (await api.delete(f"{N1}?force=true")).body["status"] == "accepted"
    assert (await api.delete(N1)).body["status"] == "unchanged"
    assert [item["node"] for item in (await api.get("/v1/nodes")).body["items"]] == ["n2", "n3"]


async def test_a_node_that_is_alive_is_removed_by_force_only(api: Api) -> None:
    await served(api)
    told = await api.delete("/v1/nodes/n3", {"reason": "broken"})

    assert told.problem == (409, "VerbNotAllowed")
    assert "alive" in told.body["detail"]
    assert (await api.delete("/v1/nodes/n3?force=true", {"reason": "broken"})).body["status"] == "accepted"


async def test_nodes_are_listed_with_what_they_own_and_take_part_in(api: Api) -> None:
    await served(api, 5, "n1", "n2")
    await move(api)
    await until(api, at("prepare"))
    told = NodeList.model_validate((await api.get("/v1/nodes?consistency=strong")).body)

    assert [(item.node, item.shards, item.moves) for item in told.items] == [("n1", 3, 1), ("n2", 2, 1), ("n3", 0, 0)]
    assert (await api.get(N1)).body["moves"] == 1


def waits_for_a_slot(migration: dict[str, Any]) -> bool:
    return str(migration["waits_for"]).startswith("a slot")


async def test_moves_are_limited_and_who_waits_is_told(api: Api) -> None:
    await served(api)
    assert (await api.put("/v1/cluster/limits", {"node_moves_max": 1, "cluster_moves_max": 1})).status == 200
    await move(api)
    await move(api, 1, "n3")
    await until(api, at("prepare"))
    # The second move asks for its slots in a step of its own.
    second = await until(api, waits_for_a_slot, "/v1/migrations/users/2")
    told = ClusterItem.model_validate((await api.get("/v1/cluster")).body)

    assert (told.node_moves_max, told.cluster_moves_max) == (1, 1)
    assert [(slots.migration, slots.source, slots.target) for slots in told.held] == [(ID, "n1", "n2")]
    assert [slots.migration for slots in told.waiting] == ["keyspace/users/migration/2"]
    assert second["waits_for"] == f"a slot: 1 of 1 is taken, by {ID}, 0 before it"


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("PUT", N1, {**node("n1"), "address": "nowhere"}, "address"),
        ("PUT", N1, {**node("n1"), "colour": "red"}, "colour"),
        ("PUT", N1, {**node("n1"), "node": "n1"}, "node"),
        ("PUT", N1, {"address": "a:1", "store": "s"}, "process"),
        ("PUT", "/v1/nodes/-", node("n1"), "node"),
        ("POST", f"{N1}/renew", {}, "incarnation"),
        ("POST", f"{N1}/renew", {"incarnation": 0, "reason": "x"}, "reason"),
        ("PUT", f"{N1}/cordon", {"until": "noon"}, "until"),
        ("DELETE", f"{N1}?forced=true", None, "forced"),
        ("PUT", "/v1/cluster/limits", {"node_moves_max": 1}, "cluster_moves_max"),
        ("PUT", "/v1/cluster/limits", {"node_moves_max": 0, "cluster_moves_max": 1}, "node_moves_max"),
        ("GET", "/v1/nodes?zone=a", None, "zone"),
        ("GET", "/v1/cluster?full=1", None, "full"),
    ],
)
async def test_what_cannot_be_read_names_the_field(api: Api, method: str, path: str, body: Any, field: str) -> None:
    told = await api.ask(method, path, body)

    assert told.problem == (422, "InvalidCommand")
    assert told.body["field"] == field


async def test_the_gauges_tell_of_shards_migrations_and_nodes(api: Api) -> None:
    await served(api)
    await api.put("/v1/keyspaces/orders", {"shards": 2, "nodes": []})
    await move(api)
    text = (await api.get("/metrics")).body.decode()

    for line in (
        'muster_shards{status="active"} 3.0',
        'muster_shards{status="migrating"} 1.0',
        'muster_shards{status="inactive"} 2.0',
        'muster_migrations{standing="running"} 1.0',
        'muster_migrations{standing="ended"} 0.0',
        'muster_nodes{alive="true"} 3.0',
        'muster_nodes{alive="false"} 0.0',
    ):
        assert line in text
    assert 'route="/v1/keyspaces/{keyspace}/moves"' in text


async def test_a_drain_with_nowhere_to_go_says_so(api: Api) -> None:
    await served(api, 2)
    await api.put("/v1/nodes/n2/cordon")
    await api.put("/v1/nodes/n3/cordon")
    assert NodeItem.model_validate((await api.get(N1)).body).drain_waits_for is None
    await api.put(f"{N1}/drain")
    why = "2 shards: no eligible node: n2 is cordoned, n3 is cordoned"
    assert NodeItem.model_validate((await api.get(N1)).body).drain_waits_for == why
    listed = NodeList.model_validate((await api.get("/v1/nodes")).body)
    assert [item.drain_waits_for for item in listed.items] == [why, None, None]


async def test_a_drain_says_by_what_it_places_and_its_moves_say_what_was_weighed(api: Api) -> None:
    await served(api, 3, "n1", "n2", "n3")
    nodes = (await api.get("/v1/nodes")).body["items"]
    owned = {row["owner"]: row["shard"] for row in (await api.get("/v1/keyspaces/users/shards")).body["items"]}
    for item, reads in zip(nodes, (10, 500, 3), strict=True):
        told = {"incarnation": item["incarnation"], "keyspaces": {"users": [[owned[item["node"]], reads, 0, 100]]}}
        assert (await api.post(f"/v1/nodes/{item['node']}/loads", told)).status == 200
    assert NodeItem.model_validate((await api.get(N1)).body).drain_places is None
    await api.put(f"{N1}/drain")
    [item] = [item for item in (await api.get("/v1/nodes")).body["items"] if item["draining"]]
    assert NodeItem.model_validate(item).drain_places is not None
    assert item["drain_places"].startswith("by load (requests per second, and 1 for each shard): n3 ")
    found = await until(api, lambda migration: "source" in migration)
    assert (found["source"], found["target"]) == ("n1", "n3")
    assert found["weighed"] == {"shard": 11.0, "source": 11.0, "target": 4.0}
    MigrationItem.model_validate((await api.get("/v1/migrations")).body["items"][0])
