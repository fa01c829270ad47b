"""Two processes under one instance id: whoever came last stays, and the other one notices."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from muster import Client
from muster.client.registration import Registration
from muster.wire.error import ServiceNotFound
from tests.muster.client.scripted import problem, wire, written
from tests.muster.controller import controller

LEASE_SECONDS = 0.6


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with controller(tmp_path / "data") as found:
        yield found


@asynccontextmanager
async def held(client: Client, port: int) -> AsyncIterator[Registration]:
    async with client.registered("shop", "shop-1", "10.0.0.1", port, lease_seconds=LEASE_SECONDS) as registration:
        yield registration


async def one(client: Client) -> tuple[int, int]:
    """Where the one that is discovered answers, and which incarnation it is."""
    (found,) = await client.discover("shop", consistency="strong")
    return found.port, found.incarnation


async def test_a_successor_survives_its_predecessors_leave(url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with Client(url, actor="old") as old, Client(url, actor="new") as new:
        predecessor = held(old, 81)
        await predecessor.__aenter__()
        async with held(new, 82) as registration:
            with caplog.at_level(logging.INFO):
                await predecessor.__aexit__(None, None, None)
            assert "shop/shop-1 was not deregistered" in caplog.text
            async with aclosing(new.watch("shop")) as watching:
                await anext(watching)
                with pytest.raises(TimeoutError):
                    # Twice as long as its lease: its own heartbeats are what keeps it.
                    async with asyncio.timeout(2 * LEASE_SECONDS):
                        await anext(watching)
            assert await one(new) == (82, registration.incarnation)
            assert not registration.lost.is_set()
        with pytest.raises(ServiceNotFound):
            await one(new)


async def test_who_has_a_successor_notices_says_so_and_stays_away(url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with Client(url, actor="old") as old, Client(url, actor="new") as new:
        async with asyncio.timeout(20), held(old, 81) as before, held(new, 82) as after:
            await before.lost.wait()
            assert "shop/shop-1 is lost: another process has registered under its name" in caplog.text
            assert await one(new) == (82, after.incarnation)
        types = [entry.type.split(".")[2] for entry in (await new.history("shop", "shop-1")).items]
        # Neither the loser's way out of the block nor its heartbeats have left a trace.
        assert types == ["registered", "deregistered", "registered", "deregistered"]


async def test_a_successor_by_plain_http_survives_too(url: str) -> None:
    async with Client(url, actor="old") as old, Client(url, actor="curl") as plain:
        async with asyncio.timeout(20), held(old, 81) as before:
            told = await plain.register("shop", "shop-1", "10.0.0.1", 82, lease_seconds=60)
            await before.lost.wait()
        assert await one(plain) == (82, told.incarnation)


async def test_who_changes_its_own_registration_has_no_successor(url: str) -> None:
    async with Client(url) as client, held(client, 81) as registration:
        told = await client.register("shop", "shop-1", "10.0.0.1", 81, lease_seconds=LEASE_SECONDS, tags=("blue",))
        assert told.incarnation == registration.incarnation
        await client.heartbeat("shop", "shop-1", holder=registration.holder)


async def test_who_missed_the_answer_to_its_own_return_is_not_lost() -> None:
    stale, again = problem("StaleIncarnation", 409), written(incarnation=5)
    async with wire(written(), stale, again, written()) as server, Client(server.url) as client:
        async with client.registered("shop", "shop-1", "10.0.0.1", 80, lease_seconds=0.9) as registration:
            async with asyncio.timeout(10):
                while registration.incarnation != 5:  # noqa: ASYNC110 the registration has no event for it
                    await asyncio.sleep(0.01)
        assert not registration.lost.is_set()
    returned, left = server.seen[2], server.seen[-1]
    assert returned.query == {"holder": registration.holder, "incarnation": "0"}
    assert (left.method, left.body) == ("DELETE", {"holder": registration.holder})
