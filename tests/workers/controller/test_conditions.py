"""What is not as it should be is told when it begins and when it ends, and shown meanwhile."""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
from click.testing import CliRunner

from infra.sqlite.folder import LOG_FILE, SNAPSHOT_FILE
from infra.telemetry.rows import LoadRecord
from muster.cli import main
from muster.wire.telemetry.loads import encode_row, key_of
from tests.workers.http.cluster import join
from tests.workers.http.conftest import Api, controller
from tests.workers.views.test_loads import worker
from workers.controller.conditions import Conditions, told_at_once_max
from workers.views.loads import Loads, without_seconds
from workers.views.table import Parked
from workers.views.views import Views

NOW = datetime(2026, 1, 31, 3, 0, tzinfo=UTC)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "muster.controller"]


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await holds():  # noqa: ASYNC110 what is asked is elsewhere, and sets no event
            await asyncio.sleep(0.05)


async def kinds(api: Api) -> list[str]:
    return [each["kind"] for each in (await api.get("/v1/status")).body["conditions"]]


def test_each_is_told_once_when_it_begins_and_once_when_it_ends(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "muster.controller")
    views = Views([0])
    conditions = Conditions(views, {})
    views.parked["services", ("a",)] = Parked(7, "it does not fold")
    for seconds in range(3):
        conditions.look(NOW + timedelta(seconds=seconds))
    assert told(caplog) == ["parked begins"]
    [record] = caplog.records
    assert vars(record)["subject"] == "services a"
    assert (vars(record)["position"], vars(record)["reason"]) == (7, "it does not fold")
    [parked] = conditions.now()
    assert (parked.kind, parked.since) == ("parked", NOW)
    views.parked.clear()
    conditions.look(NOW + timedelta(seconds=9))
    assert (told(caplog), conditions.now()) == (["parked begins", "parked is over"], ())
    assert vars(caplog.records[-1])["after_seconds"] == 9.0


def test_many_that_begin_together_are_counted(caplog: pytest.LogCaptureFixture):
    views = Views([0])
    for number in range(told_at_once_max + 7):
        views.parked["services", (f"s{number}",)] = Parked(number, "no")
    Conditions(views, {}).look(NOW)
    assert len(told(caplog)) == told_at_once_max + 1
    assert vars(caplog.records[-1])["more"] == 7


def test_instances_that_no_telemetry_worker_watches_are_told_also_where_none_ever_ran_or_all_left_in_order():
    now = [1_000.0]
    views, loads = Views([0]), Loads(lambda: now[0])
    conditions = Conditions(views, {}, loads=loads)

    def reasons() -> list[object]:
        conditions.look(NOW)
        return [each.facts["reason"] for each in conditions.now()]

    def hears(state: Literal["running", "leaving"]) -> None:
        row = worker(state=state)
        loads.take(LoadRecord(key_of(row).encode(), encode_row(row), 0.0))

    now[0] += without_seconds + 1
    assert reasons() == []
    views.registry.by_topic["orders"] = 2
    unwatched = "nobody finds who is silent of 2 instances whose heartbeats come by the topic: start `muster telemetry`"
    assert reasons() == [unwatched]
    hears("running")
    assert reasons() == []
    # Another one may be on its way.
    now[0] += without_seconds - 1
    hears("leaving")
    assert reasons() == []
    now[0] += 2
    assert reasons() == [unwatched]


async def test_a_data_node_that_is_lost_is_told_and_so_is_its_return(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "muster.controller")
    async with controller(tmp_path) as api:
        assert await kinds(api) == []
        await join(api, "n1", lease_seconds=0.5)

        async def lost() -> bool:
            return await kinds(api) == ["lost"]

        async def back() -> bool:
            return await kinds(api) == []

        await until(lost)
        [condition] = (await api.get("/v1/status")).body["conditions"]
        assert (condition["subject"], condition["lease_seconds"]) == ("node n1", 0.5)
        assert b'muster_conditions{kind="lost"} 1.0' in (await api.get("/metrics")).body
        await join(api, "n1", lease_seconds=600)
        await until(back)
        assert b'muster_conditions{kind="lost"} 0.0' in (await api.get("/metrics")).body
    assert [line for line in told(caplog) if line.startswith("lost")] == ["lost begins", "lost is over"]


async def test_a_corrupt_partition_is_told_by_log_status_metric_and_every_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    async with controller(tmp_path) as api:
        await api.register()
    with sqlite3.connect(tmp_path / LOG_FILE) as database:
        database.execute(
            "UPDATE stored_events SET state = replace(state, '10.0.0.7', '10.0.0.8') WHERE originator_version = 1"
        )
    database.close()
    (tmp_path / SNAPSHOT_FILE).unlink()
    async with controller(tmp_path) as api:

        async def corrupt() -> bool:
            return await kinds(api) == ["corrupt", "stale"]

        await until(corrupt)
        metrics = (await api.get("/metrics")).body
        assert b'muster_partition_state{partition="0",state="corrupt"} 1.0' in metrics
        assert b'muster_conditions{kind="corrupt"} 1.0' in metrics
        for more in ((), ("--json",)):
            words = ["services", "--url", api.url, *more]
            read = await asyncio.to_thread(CliRunner().invoke, main, words)
            assert read.exit_code == 0
            assert read.stderr.startswith("stale: this is ")
            assert "partition 0 is corrupt: " in read.stderr
        refused = await asyncio.to_thread(CliRunner().invoke, main, ["discover", "orders", "--url", api.url])
        assert refused.exit_code == 1
        stale, why = refused.stderr.splitlines()
        assert (stale.startswith("stale: this is "), why.split(":")[0]) == (True, "ServiceNotFound")
    [record] = [record for record in caplog.records if record.getMessage() == "corrupt begins"]
    assert record.levelname == "ERROR"
    assert (vars(record)["subject"], vars(record)["position"]) == ("partition 0", 0)
    assert "damaged at position 1" in vars(record)["reason"]
