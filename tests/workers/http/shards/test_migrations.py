"""Migrations over HTTP: what is told of them, and what may be said to them."""

from pathlib import Path
from typing import Any

import pytest

from tests.workers.http.cluster import ID, MOVE, at, ended, move, report, served, until
from tests.workers.http.conftest import Api, controller
from workers.http.model import Written
from workers.http.shards.model import MigrationItem, MigrationList, MigrationWhole


async def moving(api: Api, step: str = "prepare", **fields: Any) -> None:
    """A move of shard 0 from n1 to n2 that has come to this step."""
    await served(api)
    told = await api.post(
        "/v1/keyspaces/users/moves",
        {"shard": 0, "target": "n2", **fields},
        Muster_Actor="ann",
        Muster_Reason="n1 is full",
    )
    assert told.status == 200, told.body
    await until(api, at("prepare"))
    await until(api, at(step), working=step != "prepare")


async def test_a_migration_tells_its_whole_story(api: Api) -> None:
    await moving(api, soak_seconds=0, cleanup_seconds=0)
    await until(api, ended, working=True)
    told = MigrationWhole.model_validate((await api.get(f"{MOVE}?consistency=strong")).body)

    assert (told.id, told.keyspace, told.shard, told.source, told.target) == (ID, "users", 0, "n1", "n2")
    assert (told.phase, told.standing, told.step, told.allowed, told.waits_for) == (
        "completed",
        "ended",
        None,
        [],
        None,
    )
    assert (told.actor, told.reason, told.error, told.cause) == ("ann", "n1 is full", None, None)
    assert [step.name for step in told.steps][:4] == ["plan", "reserve", "intend", "prepare"]
    assert told.steps[-1].name == "complete"
    assert {step.outcome for step in told.steps} == {"done"}
    assert all(step.ended_at is not None and step.seconds >= 0 for step in told.steps)
    assert told.ended_at is not None
    assert told.seconds == pytest.approx((told.ended_at - told.started_at).total_seconds(), abs=0.001)
    assert told.events == len((await api.get(f"/v1/events?stream={ID}&limit=1000")).body["items"])
    shard = (await api.get("/v1/keyspaces/users/shards")).body["items"][0]
    assert (shard["owner"], shard["epoch"], shard["status"], shard["migration"]) == ("n2", 2, "active", None)


async def test_an_aborted_migration_says_which_step_took_back_what(api: Api) -> None:
    await moving(api, "copy")
    told = await api.post(f"{MOVE}/abort", {"reason": "wrong node"}, Muster_Actor="bob")
    assert Written.model_validate(told.body).status == "accepted"
    assert (await api.post(f"{MOVE}/abort")).body["status"] == "unchanged"
    found = MigrationWhole.model_validate(await until(api, ended, working=True))

    assert (found.phase, found.cause) == ("compensated", "aborted")
    undone = [(step.name, step.undoes) for step in found.steps if step.undoes]
    assert undone == [("discard", "prepare"), ("unreserve", "reserve"), ("abandon", "plan")]
    assert next(step for step in found.steps if step.name == "copy").outcome == "given up"
    events = (await api.get(f"/v1/events?stream={ID}&type=muster.saga.compensation_started.v1")).body["items"]
    assert (events[0]["actor"], events[0]["reason"]) == ("bob", "wrong node")


async def test_what_a_migration_waits_for_is_said_in_a_sentence(api: Api) -> None:
    await moving(api)
    assert (await api.get(MOVE)).body["waits_for"] == "n2 to prepare"
    await api.post(f"{MOVE}/pause", Muster_Actor="bob")
    paused = (await api.get(MOVE)).body
    assert (paused["paused"], paused["waits_for"]) == (True, "an operator: paused by bob")
    assert paused["allowed"] == ["resume", "abort"]
    await api.post(f"{MOVE}/resume")
    await report(api, "n2", {"id": f"{ID}/prepare/1", "outcome": "failed", "error": "the disk is full"})
    assert (await api.get(MOVE)).body["waits_for"].startswith("the next attempt, in about 0.")


async def test_a_held_migration_waits_for_an_operator(api: Api) -> None:
    await moving(api, "gate", hold=True)
    found = (await api.get(MOVE)).body

    assert found["waits_for"] == "an operator: it is held for an operator to resume"
    assert "resume" in found["allowed"]
    assert (await api.post(f"{MOVE}/resume")).body["status"] == "accepted"
    await until(api, at("fence"))


async def test_the_step_under_way_is_skipped_once_however_often_that_is_said(api: Api) -> None:
    await moving(api, "gate", hold=True)
    told = await api.post(f"{MOVE}/skip", {"reason": "now"}, Idempotency_Key="k")
    await until(api, at("fence"))
    again = await api.post(f"{MOVE}/skip", Idempotency_Key="k")

    assert told.body["status"] == "accepted"
    assert again.body == told.body
    assert again.headers["Muster-Duplicate"] == "true"
    assert (await api.get(MOVE)).body["step"] == "fence"
    assert (await api.post(f"{MOVE}/skip", {"step": "gate"})).body["status"] == "unchanged"
    refused = await api.post(f"{MOVE}/skip")
    assert refused.problem == (409, "VerbNotAllowed")
    assert "skip fence" in refused.body["detail"]


async def test_a_verb_that_the_state_does_not_allow_is_refused_with_those_that_it_does(api: Api) -> None:
    await moving(api)
    told = await api.post(f"{MOVE}/force-complete")

    assert told.problem == (409, "VerbNotAllowed")
    assert told.body["allowed"] == "pause, abort"
    assert (await api.post(f"{MOVE}/retry")).body["status"] == "unchanged"
    assert (await api.post(f"{MOVE}/upgrade", {"version": 1})).body["status"] == "unchanged"
    assert (await api.post(f"{MOVE}/upgrade", {"version": 9})).problem == (409, "VerbNotAllowed")


async def test_migrations_are_listed_newest_first_by_their_state(api: Api) -> None:
    await moving(api)
    await move(api, 1, "n3")
    await move(api, 2, "n2")
    await api.post("/v1/migrations/users/2/abort")
    await api.post("/v1/migrations/users/3/pause")
    await until(api, lambda _: True)

    async def numbers(query: str) -> list[str]:
        told = MigrationList.model_validate((await api.get(f"/v1/migrations{query}")).body)
        return [item.id.rpartition("/")[2] for item in told.items]

    assert await numbers("") == ["3", "2", "1"]
    assert await numbers("?limit=2") == ["3", "2"]
    assert await numbers("?state=paused") == ["3"]
    assert await numbers("?state=blocked") == []
    assert await numbers("?keyspace=orders") == []
    assert "3" in await numbers("?state=running&keyspace=users")
    assert await numbers("?state=ended") in ([], ["2"])
    assert (await api.get("/v1/migrations?state=odd")).body["field"] == "state"
    assert (await api.get("/v1/migrations?limit=0")).body["field"] == "limit"
    item = (await api.get("/v1/migrations")).body["items"][0]
    assert MigrationItem.model_validate(item).waits_for == "an operator: paused by anonymous"


async def test_a_migration_that_is_not_there_is_told(api: Api) -> None:
    await served(api)

    for method, path in (("GET", ""), ("POST", "/pause"), ("POST", "/skip")):
        assert (await api.ask(method, f"/v1/migrations/users/7{path}")).problem == (404, "MigrationNotFound")
    assert (await api.post("/v1/migrations/nope/1/abort")).problem == (404, "MigrationNotFound")
    assert (await api.post("/v1/migrations/users/1/undo")).problem == (404, "RouteNotFound")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/migrations/users/x/pause", None, "number"),
        ("/v1/migrations/us%20ers/1/pause", None, "keyspace"),
        (f"{MOVE}/pause", {"step": "copy"}, "step"),
        (f"{MOVE}/abort", {"reason": 7}, "reason"),
        (f"{MOVE}/skip", {"step": "-"}, "step"),
        (f"{MOVE}/skip", {"steps": ["gate"]}, "steps"),
        (f"{MOVE}/upgrade", {}, "version"),
    ],
)
async def test_what_cannot_be_read_names_the_field(api: Api, path: str, body: Any, field: str) -> None:
    await moving(api)
    told = await api.post(path, body)

    assert told.problem == (422, "InvalidCommand")
    assert told.body["field"] == field


async def test_a_migration_is_told_after_a_restart_as_before(tmp_path: Path) -> None:
    async with controller(tmp_path) as api:
        await moving(api, "copy")
        await api.post(f"{MOVE}/pause", Muster_Actor="bob")
        before = (await api.get(MOVE)).body
    async with controller(tmp_path) as api:
        after = (await api.get(MOVE)).body

    assert before["waits_for"] == "an operator: paused by bob"
    assert _lasting(after) == _lasting(before)


def _lasting(migration: dict[str, Any]) -> dict[str, Any]:
    """All but what grows with time."""
    steps = [{**step, "seconds": 0} for step in migration["steps"]]
    return {**migration, "seconds": 0, "steps": steps}
