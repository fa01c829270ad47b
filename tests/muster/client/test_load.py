"""A registration that tells its load with each heartbeat."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web

from muster import Client, InvalidInstance, LoadReport
from tests.muster.client.scripted import problem, wire, written
from tests.muster.controller import controller


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with controller(tmp_path / "data") as url, Client(url) as found:
        yield found


async def told(client: Client) -> tuple[float | None, ...]:
    """The first load that is told of `orders`."""
    async with asyncio.timeout(20):
        while not (found := await client.loads("orders")):  # noqa: ASYNC110 the controller is asked
            await asyncio.sleep(0.05)
    load = found[0]
    return load.in_flight, load.per_second, load.failures_per_second, load.utilisation


@pytest.mark.parametrize(
    ("load", "known"),
    [
        (lambda: LoadReport(12, 310.5, 0.5, 0.61), (12, 310.5, 0.5, 0.61)),
        (lambda: LoadReport(utilisation=0.25), (None, None, None, 0.25)),
        (lambda: (3.0, 7.5), (3, 7.5, None, None)),
    ],
)
async def test_what_the_function_says_is_the_load(
    client: Client, load: Callable[[], LoadReport], known: tuple[float | None, ...]
) -> None:
    async with client.registered("orders", "a", "10.0.0.7", 80, lease_seconds=0.9, load=load):
        assert await told(client) == known


def _fails() -> LoadReport:
    raise ZeroDivisionError


@pytest.mark.parametrize("load", [_fails, lambda: (-1.0,), lambda: ("much",), lambda: (1.0,) * 5, lambda: 7])
async def test_a_load_that_is_none_costs_no_lease(client: Client, load: Callable[[], LoadReport]) -> None:
    async with client.registered("orders", "a", "10.0.0.7", 80, lease_seconds=0.9, load=load) as registration:
        await asyncio.sleep(2.0)  # Two leases: it could not be here without having been heard.
        [row] = (await client.instances("orders")).items
        assert (row.incarnation, registration.lost.is_set()) == (registration.incarnation, False)
        assert await client.loads() == ()


async def test_a_successor_is_noticed_as_without_a_load(client: Client) -> None:
    async with (
        client.registered("orders", "a", "10.0.0.7", 80, lease_seconds=0.9, load=LoadReport) as registration,
        Client(client.url) as other,
        other.registered("orders", "a", "10.0.0.9", 80),
    ):
        await asyncio.wait_for(registration.lost.wait(), 20)


async def test_a_controller_that_knows_no_loads_is_sent_plain_heartbeats() -> None:
    paths: list[str] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        paths.append(request.path)
        return await (problem("RouteNotFound", 404) if request.path == "/v1/heartbeats" else written())(request)

    async with (
        wire(handle) as served,
        Client(served.url) as client,
        client.registered("orders", "a", "h", 80, lease_seconds=0.3, load=LoadReport) as registration,
    ):
        async with asyncio.timeout(20):
            while paths.count("/v1/services/orders/instances/a/heartbeat") < 2:  # noqa: ASYNC110 the server is asked
                await asyncio.sleep(0.02)
        assert not registration.lost.is_set()


async def test_a_registration_whose_heartbeats_would_keep_no_lease_is_refused(client: Client) -> None:
    with pytest.raises(InvalidInstance, match="heartbeats: 'topic' is for who sends them to Kafka") as refused:
        async with client.registered("orders", "a", "10.0.0.7", 80, lease_seconds=30, heartbeats="topic"):
            pass
    assert refused.value.context["field"] == "heartbeats"
    assert not (await client.services()).items
