"""What a controller takes of checks, by its settings, and what it says of those that it runs."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests.workers.http.conftest import INSTANCE, SPEC, Api
from workers.health import job

HTTP = {"kind": "http", "url": "http://10.0.0.7:8080/health"}


async def test_a_check_that_asks_too_often_is_refused_by_every_way_in(api: Api):
    often = {**SPEC, "checks": [{"kind": "ttl", "ttl_seconds": 0.1}, {**HTTP, "interval_seconds": 0.9}]}
    told = await api.put(INSTANCE, often)
    assert told.problem == (422, "InvalidInstance")
    assert told.body["field"] == "checks.1.interval_seconds"
    command = {
        "type": "muster.instance.register.v1",
        "stream": "service/orders",
        "data": {"instance": "a", "spec": often},
    }
    told = await api.post("/v1/commands", {"commands": [{**command, "id": "1"}]})
    assert told.body["items"][0]["error"]["field"] == "checks.1.interval_seconds"
    assert (await api.register(checks=[{**HTTP, "interval_seconds": 1}])).status == 200


async def test_a_check_that_can_never_be_healthy_is_refused_with_its_field(api: Api):
    told = await api.register(checks=[{**HTTP, "headers": {"X-Bad": "a\r\nb"}}])
    assert told.problem == (422, "InvalidInstance")
    assert told.body["field"] == "checks.0.headers"


async def test_a_check_that_does_not_run_says_since_when(api: Api, monkeypatch: pytest.MonkeyPatch):
    await api.register(checks=[{**HTTP, "interval_seconds": 3600}])
    assert (await api.get(INSTANCE)).body["check_output"] == {}
    # As if the hour of its interval had passed, and it had not come to run.
    monkeypatch.setattr(job, "OVERDUE_GRACE_SECONDS", -4000.0)
    told = (await api.get(INSTANCE)).body["check_output"]
    assert abs(datetime.fromisoformat(told["http"]["not_checked_since"]) - datetime.now(UTC)) < timedelta(seconds=10)
    await until_counted(api)
    metrics = (await api.get("/metrics")).body.decode()
    assert "muster_checks_scheduled 1.0" in metrics
    assert "muster_checks_overdue 1.0" in metrics
    assert "muster_check_runs_total" in metrics


async def until_counted(api: Api) -> None:
    """The count of those that are overdue is at most a second old."""
    async with asyncio.timeout(5):
        while (await api.get("/v1/status")).body["checks"]["overdue"] == 0:  # noqa: ASYNC110 — a controller is asked, which sets no event
            await asyncio.sleep(0.02)
