"""A balancer's reports, on a real controller: what it saw is told, whoever does not listen costs no call."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from muster import Balancer, Client, InvalidCommand
from muster.wire.telemetry.observations import Observations
from tests.muster.balance.service import register, until
from tests.muster.client.scripted import events, item, problem, wire
from tests.muster.controller import controller


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with controller(tmp_path / "data") as url, Client(url, actor="test") as opened:
        yield opened


def calls(users: Balancer, *failed: bool) -> None:
    for one in failed:
        with users.attempt() as attempt:
            attempt.answered(failed=one)


async def heard(users: Balancer, report_seconds: float) -> None:
    """It has heard that it is to report so often, and goes by it."""
    await until(lambda: users.settings.report_seconds == report_seconds)
    await asyncio.sleep(0)


async def test_what_it_saw_stands_beside_what_instances_say(client: Client) -> None:
    await register(client, "a")
    async with Balancer("users", client, report_seconds=0.1) as users, asyncio.timeout(20):
        while not (loads := await client.loads("users")):
            calls(users, False, False, False, True)
            await asyncio.sleep(0.02)
    (load,) = loads
    assert (load.instances, load.heard, load.observers) == (0, 0, 1)
    assert load.attempts_per_second is not None
    assert load.attempts_per_second > 4
    assert load.failure_share == pytest.approx(0.25, abs=0.1)
    assert load.latency_seconds is not None
    assert load.latency_seconds < 0.1


async def test_without_calls_there_is_nothing_to_tell(client: Client) -> None:
    await register(client, "a")
    told: list[list[Observations]] = []

    async def take(messages: list[Observations]) -> None:
        told.append(messages)

    async with Balancer("users", client, report_seconds=0.1, report_to=take) as users:
        await asyncio.sleep(0.35)
        assert told == []
        calls(users, False)
        async with asyncio.timeout(10):
            while not told:  # noqa: ASYNC110 what is asked sets no event
                await asyncio.sleep(0.02)
    ((message,),) = told
    # Elsewhere than at a controller nobody sees where it comes from.
    assert message.host
    assert message.service == "users"
    assert [(one.instance, one.attempts) for one in message.observed] == [("a", 1)]


async def test_it_must_not_be_too_rare_nor_too_frequent(client: Client) -> None:
    for seconds in (-1.0, 0.05, 11.0, float("nan")):
        with pytest.raises(InvalidCommand, match="report_seconds"):
            Balancer("users", client, report_seconds=seconds)
    assert Balancer("users", client).settings.report_seconds == 5


async def test_an_operator_begins_changes_and_ends_the_reports_of_balancers_that_run(client: Client) -> None:
    await register(client, "a")
    await client.traffic.set("users", report_seconds=0)
    told: list[Observations] = []

    async def take(messages: list[Observations]) -> None:
        told.extend(messages)

    async with Balancer("users", client, report_to=take) as users, asyncio.timeout(20):
        await heard(users, 0)
        calls(users, *[False] * 100)
        await client.traffic.set("users", report_seconds=0.1, reason="how is the new version?")
        await heard(users, 0.1)
        calls(users, False, True)
        await until(lambda: bool(told))
        # What was counted while nobody was told is not told late.
        assert [(one.attempts, one.failures) for one in told[0].observed] == [(2, 1)]
        assert told[0].seconds < 1
        await client.traffic.set("users", report_seconds=0)
        await heard(users, 0)
        before = len(told)
        calls(users, False)
        await asyncio.sleep(0.35)
        assert len(told) == before


async def test_a_balancer_that_says_itself_how_often_it_reports_goes_on_with_it(client: Client) -> None:
    await register(client, "a")
    await client.traffic.set("users", report_seconds=0)
    async with (
        Balancer("users", client, report_seconds=0.1) as loud,
        Balancer("users", client, report_seconds=0) as silent,
        asyncio.timeout(20),
    ):
        await until(lambda: len(loud.statistics.instances) == len(silent.statistics.instances) == 1)
        calls(silent, *[True] * 100)
        while not (loads := await client.loads("users")):
            calls(loud, False)
            await asyncio.sleep(0.02)
    assert (loads[0].observers, loads[0].failure_share) == (1, 0)


async def test_a_listener_that_fails_or_hangs_costs_no_call(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    await register(client, "a")
    asked = 0

    async def take(_messages: list[Observations]) -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            await asyncio.sleep(3600)
        raise ValueError("the broker is away")

    async with Balancer("users", client, report_seconds=0.1, report_to=take) as users, asyncio.timeout(20):
        while asked < 4:
            calls(users, False)
            await asyncio.sleep(0.02)
        assert users.statistics.in_flight == 0
    lost = [record for record in caplog.records if "is lost" in record.getMessage()]
    # Of an outage once for people, however long it lasts.
    assert [record.levelno for record in lost].count(logging.WARNING) == 1


async def test_a_controller_of_before_is_told_nothing_more() -> None:
    asked = 0

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        if request.path != "/v1/observations":
            return await events(("0:1", "snapshot", {"items": [item("a", 1)], "token": "0:1"}), stay=True)(request)
        asked += 1
        return await problem("RouteNotFound", 404)(request)

    async with (
        wire(handle) as server,
        Client(server.url) as client,
        Balancer("orders", client, report_seconds=0.1) as orders,
        asyncio.timeout(20),
    ):
        while not orders._tasks[1].done():
            calls(orders, False)
            await asyncio.sleep(0.02)
        # The calls go on without it.
        calls(orders, False)
    assert asked == 1
