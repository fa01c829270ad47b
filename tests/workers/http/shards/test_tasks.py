"""Tasks over HTTP: what nodes are told, and what becomes of what they report."""

import asyncio
from typing import Any

import pytest

from tests.workers.http.cluster import EXTENT, ID, at, join, move, node, report, served, tasks, until, work
from tests.workers.http.conftest import Api
from workers.http.model import OutcomeList
from workers.http.shards.model import TaskList

OPEN = "keyspace/users/shard/0/open/1"
PREPARE = f"{ID}/prepare/1"


async def moving(api: Api, step: str = "prepare", **fields: Any) -> None:
    """A move of shard 0 from n1 to n2 that has come to this step."""
    await served(api)
    await move(api, **fields)
    await until(api, at("prepare"))
    await until(api, at(step), working=step != "prepare")


async def test_a_shard_that_was_assigned_is_to_be_opened(api: Api) -> None:
    await join(api, "n1")
    await api.put("/v1/keyspaces/users", {"shards": 2, "value_bytes_max": 10})
    told = TaskList.model_validate((await api.get("/v1/tasks?node=n1&consistency=strong")).body)

    first = told.items[0]
    assert (first.id, first.node, first.kind, first.keyspace, first.shard) == (OPEN, "n1", "open", "users", 0)
    assert (first.saga, first.step, first.attempt) == (None, None, 0)
    assert first.params == {"epoch": 1, "limits": {"value_bytes_max": 10, "shard_bytes_max": 4 << 30}}
    assert (await api.get("/v1/tasks?node=n2")).body["items"] == []
    outcome = await report(api, "n1", {"id": OPEN, "outcome": "done"})
    assert OutcomeList.model_validate(outcome.body).items[0].status == "accepted"
    assert outcome.headers["Muster-Token"] == f"0:{api.gateway.views.place(0, outcome.body['items'][0]['position'])}"
    assert [task["shard"] for task in await tasks(api)] == [1]
    assert (await api.get("/v1/keyspaces/users/shards")).body["items"][0]["status"] == "active"


async def test_nodes_that_a_task_names_come_with_their_addresses_of_now(api: Api) -> None:
    await moving(api, "copy", bytes_per_second=5_000)
    [task] = await tasks(api)
    assert task["id"] == f"{ID}/copy/1"
    assert (task["saga"], task["step"], task["attempt"], task["node"]) == (ID, "copy", 1, "n2")
    assert task["params"] == {
        "epoch": 2,
        "source": {"node": "n1", "address": "127.0.0.1:7401"},
        "bytes_per_second": 5_000.0,
    }
    await join(api, "n1", process="p2", address="127.0.0.1:9")
    assert (await tasks(api))[0]["params"]["source"]["address"] == "127.0.0.1:9"
    await api.delete("/v1/nodes/n1?force=true")
    await until(api, lambda migration: migration["phase"] != "forward")


async def test_a_done_step_brings_the_next_one_and_a_repeat_changes_nothing(api: Api) -> None:
    await moving(api)
    done = {"id": PREPARE, "outcome": "done", "result": {}}
    first = (await report(api, "n2", done)).body["items"][0]
    again = (await report(api, "n2", done)).body["items"][0]

    assert (first["id"], first["status"]) == (PREPARE, "accepted")
    assert again == {**first, "duplicate": True}
    assert [task["step"] for task in await tasks(api)] == ["copy"]


async def test_reports_of_somebody_else_or_of_another_attempt_change_nothing(api: Api) -> None:
    await moving(api)
    other = await report(api, "n1", {"id": PREPARE, "outcome": "done"})
    late = await report(api, "n2", {"id": f"{ID}/prepare/2", "outcome": "failed", "error": "x"})
    unknown = await report(api, "n2", {"id": "keyspace/users/migration/9/copy/1", "outcome": "done"})

    assert [told.body["items"][0]["status"] for told in (other, late)] == ["unchanged", "unchanged"]
    assert unknown.body["items"][0]["error"]["name"] == "MigrationNotFound"
    assert (await api.get("/v1/migrations/users/1")).body["step"] == "prepare"


async def test_a_failed_attempt_is_followed_by_another_one_and_a_final_one_by_none(api: Api) -> None:
    await moving(api)
    await report(api, "n2", {"id": PREPARE, "outcome": "failed", "error": "the disk is full"})
    migration = (await api.get("/v1/migrations/users/1")).body
    assert (migration["standing"], migration["error"]) == ("retrying", "the disk is full")
    await until(api, lambda migration: migration["attempt"] == 2)
    [task] = await tasks(api)
    assert task["id"] == f"{ID}/prepare/2"
    await report(api, "n2", {"id": task["id"], "outcome": "failed", "error": "it is broken", "final": True})
    migration = await until(api, lambda migration: migration["phase"] == "compensating")
    assert migration["cause"] == "prepare: it is broken"


async def test_all_reports_are_answered_in_their_order_and_a_bad_one_stops_no_other(api: Api) -> None:
    await join(api, "n1")
    await api.put("/v1/keyspaces/users", {"shards": 2})
    told = await report(
        api,
        "n1",
        {"id": "nonsense", "outcome": "done"},
        {"id": OPEN, "outcome": "done"},
        {"id": OPEN, "outcome": "perhaps"},
        {"id": OPEN, "outcome": "done", "colour": "red"},
        {"outcome": "done"},
        {"id": "keyspace/users/shard/9/open/1", "outcome": "done"},
        {"id": "keyspace/users/shard/1/open/7", "outcome": "done"},
        {"id": "keyspace/users/shard/1/open/1", "outcome": "done"},
    )
    items = OutcomeList.model_validate(told.body).items
    assert [item.error["name"] if item.error else item.status for item in items] == [
        "InvalidCommand",
        "accepted",
        "InvalidCommand",
        "InvalidCommand",
        "InvalidCommand",
        "ShardNotFound",
        "NotOwner",
        "accepted",
    ]
    assert [item.error["field"] for item in items if item.error and "field" in item.error] == [
        "id",
        "outcome",
        "colour",
        "id",
    ]
    assert [item.id for item in items[:2]] == ["nonsense", OPEN]


async def test_what_the_shard_map_wants_stays_wanted_when_it_fails(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    await join(api, "n1")
    await api.put("/v1/keyspaces/users", {"shards": 1})
    told = await report(api, "n1", {"id": OPEN, "outcome": "failed", "error": "no space"})

    assert OutcomeList.model_validate(told.body).items[0].status == "unchanged"
    assert "n1 failed at keyspace/users/shard/0/open/1" in caplog.text
    assert [task["id"] for task in await tasks(api)] == [OPEN]


async def test_what_an_aborted_move_has_left_is_cleaned_up(api: Api) -> None:
    await moving(api, "copy")
    await api.post("/v1/migrations/users/1/abort")
    await until(api, at("discard"))
    await api.post("/v1/migrations/users/1/skip", {"step": "discard"})
    await until(api, lambda migration: migration["ended_at"] is not None)
    id_ = f"{ID}/cleanup/n2"
    [task] = await tasks(api, "?node=n2")
    assert (task["id"], task["kind"], task["saga"]) == (id_, "drop", None)
    assert task["params"] == {"epoch": 2, "migration": ID}

    assert (await report(api, "n1", {"id": id_, "outcome": "done"})).body["items"][0]["error"]["field"] == "id"
    failed = await report(api, "n2", {"id": id_, "outcome": "failed", "error": "busy"})
    assert failed.body["items"][0]["status"] == "unchanged"
    assert len(await tasks(api)) == 1
    for status in ("accepted", "accepted"):
        assert (await report(api, "n2", {"id": id_, "outcome": "done"})).body["items"][0]["status"] == status
    assert await tasks(api) == []
    assert (await api.get("/v1/keyspaces/users")).body["cleanups"] == 0


async def test_progress_is_kept_with_its_rate_and_never_recorded(api: Api) -> None:
    await moving(api, "copy")
    head = (await api.get("/v1/events?limit=1000")).body["next_after"]
    for bytes_ in (1_000, 5_000, 9_000):
        facts = {"bytes": bytes_, "bytes_total": 10_000, "records": 3, "lag_records": None, "strange": "x"}
        told = await report(api, "n2", {"id": f"{ID}/copy/1", "outcome": "progress", "result": facts})
        assert told.body["items"][0]["status"] == "unchanged"
        await asyncio.sleep(0.25)
    progress = (await api.get("/v1/migrations/users/1")).body["progress"]

    assert (progress["bytes"], progress["bytes_total"], progress["records"]) == (9_000, 10_000, 3)
    assert 1_000 < progress["bytes_per_second"] < 16_000
    assert progress["seconds_left"] == pytest.approx(1_000 / progress["bytes_per_second"], abs=0.1)
    assert (await api.get("/v1/events?limit=1000")).body["next_after"] == head
    await report(api, "n2", {"id": f"{ID}/copy/7", "outcome": "progress", "result": {"bytes": 1}})
    assert (await api.get("/v1/migrations/users/1")).body["progress"]["bytes"] == 9_000
    await work(api)
    assert (await api.get("/v1/migrations/users/1")).body["progress"] is None


async def test_the_node_is_the_actor_unless_another_one_is_named(api: Api) -> None:
    await moving(api)
    await report(api, "n2", {"id": PREPARE, "outcome": "done"})
    await report(api, "n2", {"id": f"{ID}/copy/1", "outcome": "done"}, Muster_Actor="ann")
    events = (await api.get(f"/v1/events?stream={ID}&type=muster.saga.step_succeeded.v1")).body["items"]

    assert [event["actor"] for event in events[-2:]] == ["n2", "ann"]


async def test_long_names_are_no_hindrance(api: Api) -> None:
    keyspace, name = "k" * 128, "n" * 128
    await api.put(f"/v1/nodes/{name}", node("n1"))
    await api.put(f"/v1/keyspaces/{keyspace}", {"shards": 1, "nodes": [name]})
    told = await report(api, name, {"id": f"keyspace/{keyspace}/shard/0/open/1", "outcome": "done"})

    assert told.body["items"][0]["status"] == "accepted"
    assert await tasks(api) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"reports": []}, "node"),
        ({"node": "-", "reports": []}, "node"),
        ({"node": "n1"}, "reports"),
        ({"node": "n1", "reports": {}}, "reports"),
        ({"node": "n1", "reports": [], "more": 1}, "more"),
        ([], "body"),
    ],
)
async def test_a_body_that_cannot_be_read_names_the_field(api: Api, body: Any, field: str) -> None:
    told = await api.post("/v1/tasks", body)

    assert told.problem == (422, "InvalidCommand")
    assert told.body["field"] == field


async def test_too_many_reports_are_refused_whole(api: Api) -> None:
    assert (await report(api, "n1", *[{"id": OPEN, "outcome": "done"}] * 1_001)).problem == (413, "TooLarge")
    assert (await report(api, "n1")).body["items"] == []
    assert (await api.get("/v1/tasks?nodes=n1")).body["field"] == "nodes"


async def test_a_fence_and_a_drain_carry_what_the_source_ended_with(api: Api) -> None:
    await moving(api, "fence")
    [fence] = await tasks(api)
    assert (fence["node"], fence["kind"], fence["params"]) == ("n1", "fence", {"epoch": 1})
    await work(api)
    [drain] = await tasks(api)
    assert (drain["node"], drain["kind"], drain["params"]["final"]) == ("n2", "drain", EXTENT)
    await work(api)
    [activate] = await tasks(api)
    assert (activate["node"], activate["kind"], activate["params"]["epoch"]) == ("n2", "activate", 2)
    assert activate["params"]["limits"] == {"value_bytes_max": 1 << 20, "shard_bytes_max": 4 << 30}
    await work(api)
    [retire] = await tasks(api)
    assert retire["params"] == {"epoch": 2, "owner": {"node": "n2", "address": "127.0.0.1:7402"}}
