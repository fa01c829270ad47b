"""What a controller takes of checks, by its settings, and what it says of those that it runs."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.workers.http.conftest import INSTANCE, SPEC, Api, controller
from workers.health import job


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[Api]:
    """A controller whose operator allows checks of an instance's own address alone, once a second."""
    async with controller(tmp_path, check_targets="own", check_interval_min=1.0) as found:
        yield found


HTTP = {"kind": "http", "url": "http://10.0.0.7:8080/health"}


async def test_a_check_that_asks_too_often_is_refused_by_every_way_in(strict: Api):
    often = {**SPEC, "checks": [{"kind": "ttl", "ttl_seconds": 0.1}, {**HTTP, "interval_seconds": 0.9}]}
    told = await strict.put(INSTANCE, often)
    assert told.problem == (422, "InvalidInstance")
    assert told.body["field"] == "checks.1.interval_seconds"
    command = {
        "type": "muster.instance.register.v1",
        "stream": "service/orders",
        "data": {"instance": "a", "spec": often},
    }
    told = await strict.post("/v1/commands", {"commands": [{**command, "id": "1"}]})
    assert told.body["items"][0]["error"]["field"] == "checks.1.interval_seconds"
    assert (await strict.register(checks=[{**HTTP, "interval_seconds": 1}])).status == 200


async def test_checks_may_ask_anyone_at_a_short_interval_unless_the_operator_says_otherwise(api: Api):
    often = {"kind": "http", "url": "http://10.0.0.8:80/", "interval_seconds": 0.1}
    assert (await api.register(checks=[often])).status == 200


async def test_a_check_that_can_never_be_healthy_is_refused_with_its_field(api: Api):
    told = await api.register(checks=[{**HTTP, "headers": {"X-Bad": "a\r\nb"}}])
    assert told.problem == (422, "InvalidInstance")
    assert told.body["field"] == "checks.0.headers"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"])
async def test_a_check_of_the_controller_itself_is_refused_with_its_field(api: Api, host: str):
    drain = f"http://{host}:{urlsplit(api.url).port}/v1/services/orders/instances/b/drain"
    told = await api.register(address="127.0.0.1", checks=[{**HTTP, "url": drain, "method": "PUT"}])
    assert told.problem == (422, "InvalidInstance")
    assert told.body["field"] == "checks.0.url"
    tcp = {"kind": "tcp", "host": host.strip("[]"), "port": urlsplit(api.url).port}
    told = await api.register(address="127.0.0.1", checks=[tcp])
    assert told.body["field"] == "checks.0.host"


async def test_a_check_that_comes_to_the_controller_by_another_name_is_not_asked(api: Api):
    await api.register("b")
    drain = f"http://127.1:{urlsplit(api.url).port}/v1/services/orders/instances/b/drain"
    told = await api.register(
        address="127.0.0.1", checks=[{**HTTP, "url": drain, "method": "PUT", "unhealthy_after": 1}]
    )
    assert told.status == 200
    async with asyncio.timeout(10):
        while (found := (await api.get(INSTANCE)).body)["health"] == "unknown":  # noqa: ASYNC110 — as above
            await asyncio.sleep(0.02)
    port = urlsplit(api.url).port
    assert found["cause"] == f"not allowed: 127.0.0.1:{port} belongs to this controller, its Kafka or its PostgreSQL"
    assert (await api.get("/v1/services/orders/instances/b")).body["draining"] is None


@pytest.mark.parametrize(
    ("check", "field"),
    [
        ({**HTTP, "url": "http://10.0.0.8:80/"}, "url"),
        ({**HTTP, "url": "http://169.254.169.254/latest/meta-data/"}, "url"),
        ({"kind": "tcp", "host": "127.0.0.1", "port": 22}, "host"),
        ({"kind": "https", "url": "https://10.0.0.7/", "ca_pem": "nonsense"}, "ca_pem"),
        ({"kind": "https", "url": "http://10.0.0.7/"}, "url"),
        ({"kind": "https", "url": "https://10.0.0.7/", "server_name": "two words"}, "server_name"),
    ],
)
async def test_a_check_that_can_never_be_allowed_is_refused_with_its_field(
    strict: Api, check: dict[str, Any], field: str
):
    told = await strict.register(checks=[check])
    assert told.problem == (422, "InvalidInstance")
    assert told.body["field"] == f"checks.0.{field}"


async def test_an_https_check_is_shown_as_it_was_registered_and_others_as_ever(api: Api):
    https = {"kind": "https", "url": "https://10.0.0.7/", "server_name": "app.internal"}
    assert (await api.register(checks=[https, HTTP])).status == 200
    shown, plain = (await api.get(INSTANCE)).body["checks"]
    assert {name: shown[name] for name in https} == https
    assert "server_name" not in plain


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
