"""A balancer on a real controller's watch: what it picks, what it learns, what it keeps, and that every call ends."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from muster import Balancer, Client, NoAvailableInstances, NotSent, Request, Unreachable
from tests.muster.balance.service import call_by, copies
from tests.muster.controller import controller, free_port


async def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 it is read, not told
            await asyncio.sleep(0.005)


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with controller(tmp_path / "data") as started:
        yield started


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url, actor="test") as opened:
        yield opened


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


async def register(client: Client, *names: str, **fields: object) -> None:
    for name in names:
        await client.register("users", name, "10.0.0.1", 80, **fields)  # type: ignore[arg-type]


async def test_calls_go_to_all_instances_and_end(client: Client, session: aiohttp.ClientSession) -> None:
    async with copies(client, "users", "a", "b", "c") as running, Balancer("users", client) as users:
        for _ in range(60):
            with users.attempt() as attempt:
                async with session.get(f"http://{attempt.instance.endpoint}/") as answer:
                    attempt.answered(failed=answer.status >= 500)
                    assert await answer.text() == attempt.instance.instance
        told = users.statistics
        assert all(copy.seen for copy in running.values())
        assert (told.picks, told.failures, told.in_flight) == (60, 0, 0)
        assert {one.instance: one.picks for one in told.instances} == {
            name: len(running[name].seen) for name in running
        }
        assert all(one.cost_seconds > 0 for one in told.instances)


async def test_a_balancer_of_its_own_client_opens_on_a_url_and_follows_the_registry(url: str, client: Client) -> None:
    async with Balancer("users", url) as users:
        with pytest.raises(NoAvailableInstances) as refused:
            users.pick()
        assert refused.value.context == {"service": "users", "registered": 0, "healthy": 0, "ejected": 0}
        await register(client, "a")
        await until(lambda: len(users.statistics.instances) == 1)
        users.record_request(users.pick(), "ok")
        await client.report_health("users", "a", "unhealthy")
        await until(lambda: not users.statistics.instances[0].able)
        with pytest.raises(NoAvailableInstances) as refused:
            users.pick()
        assert refused.value.context == {"service": "users", "registered": 1, "healthy": 0, "ejected": 0}


async def test_where_no_controller_answers_opening_ends_in_time_and_says_so() -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
        async with Balancer("users", f"http://127.0.0.1:{free_port()}", timeout_seconds=0.3):
            raise AssertionError("it has opened")


async def test_a_call_that_surely_was_not_sent_is_repeated_at_another_instance(
    client: Client, session: aiohttp.ClientSession
) -> None:
    async with copies(client, "users", "a", "b") as running, Balancer("users", client) as users:
        await running["a"].kill()
        for _ in range(10):
            assert await users.send(Request("users", b"one"), call_by(session)) == "b"
        told = users.statistics
        assert told.failures == told.retries > 0
        assert told.in_flight == 0
        assert len(set(running["b"].seen)) == 10


async def test_what_may_have_arrived_is_repeated_only_if_it_is_repeatable(client: Client) -> None:
    await register(client, "a", "b")
    tried: list[str] = []

    async def breaks_off(attempt: object, request: Request) -> None:
        tried.append(request.id)
        raise ConnectionResetError("broken off")

    async def not_sent(attempt: object, request: Request) -> None:
        tried.append(request.id)
        raise NotSent("no connection left")

    async with Balancer("users", client) as users:
        for call, repeatable, times in ((breaks_off, False, 1), (breaks_off, True, 2), (not_sent, False, 2)):
            tried.clear()
            with pytest.raises((ConnectionResetError, NotSent)):
                await users.send(Request("users"), call, repeatable=repeatable)
            assert len(tried) == times
            # Both attempts have the id of the request.
            assert len(set(tried)) == 1
        assert users.statistics.in_flight == 0
