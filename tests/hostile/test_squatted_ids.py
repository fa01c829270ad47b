"""Nobody keeps a data node's report from being decided by giving it, or something like it, first."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.workers.http.cluster import ID, at, join, move, report, served, tasks, until
from tests.workers.http.conftest import Api, controller

OPEN = "keyspace/users/shard/0/open/1"
PREPARE = f"{ID}/prepare/1"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with controller(tmp_path) as found:
        yield found


async def test_a_report_that_was_given_before_its_task_was_there_is_decided_once_it_is(api: Api) -> None:
    done = {"id": OPEN, "outcome": "done"}
    early = (await report(api, "n1", done)).body["items"][0]
    assert early["status"] == "refused"
    await join(api, "n1")
    await api.put("/v1/keyspaces/users", {"shards": 1})
    assert (await report(api, "n1", done)).body["items"][0]["status"] == "accepted"
    assert await tasks(api) == []


async def test_a_step_that_was_reported_before_it_was_wanted_is_reported_again(api: Api) -> None:
    done = {"id": PREPARE, "outcome": "done", "result": {}}
    await served(api)
    early = (await report(api, "n2", done)).body["items"][0]
    assert early["error"]["name"] == "MigrationNotFound"
    await move(api)
    await until(api, at("prepare"))
    assert (await report(api, "n2", done)).body["items"][0]["status"] == "accepted"


async def test_a_report_that_says_something_else_is_no_conflict(api: Api) -> None:
    await served(api)
    await move(api)
    await until(api, at("prepare"))
    first = await report(api, "n2", {"id": PREPARE, "outcome": "done", "result": {}})
    other = await report(api, "n2", {"id": PREPARE, "outcome": "done", "result": {"records": 3}})
    told = [answer.body["items"][0] for answer in (first, other)]
    assert [one["status"] for one in told] == ["accepted", "unchanged"]


async def test_what_another_node_reports_takes_no_nodes_place(api: Api) -> None:
    done = {"id": OPEN, "outcome": "done"}
    await join(api, "n1")
    await join(api, "n2")
    await api.put("/v1/keyspaces/users", {"shards": 1, "nodes": ["n1"]})
    assert (await report(api, "n2", done)).body["items"][0]["error"]["name"] == "NotOwner"
    assert (await report(api, "n1", done)).body["items"][0]["status"] == "accepted"
