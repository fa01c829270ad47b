"""Asking for the primary of a group, at a real controller; its members' runners are played by their commands."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from muster import Client, Group, GroupNotFound, NoPrimary, Primary
from tests.muster.controller import controller
from tests.muster.group.players import Players

DB1 = Primary("db1", "db1:5432", 1)
DB2 = Primary("db2", "db2:5432", 2)


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with controller(tmp_path / "data") as url:
        yield url


@pytest.fixture
async def players(url: str) -> AsyncIterator[Players]:
    async with Client(url, timeout_seconds=60) as client:
        yield Players(client)


@pytest.fixture
async def led(players: Players) -> Players:
    """A group of two, which db1 leads."""
    await players.create("db1", "db2")
    await players.ready("db1", "db2")
    await players.serve("db1", 1)
    return players


async def until_nobody_serves(db: Group) -> None:
    """Until this client has heard that there is no primary, or none that may serve."""
    async with asyncio.timeout(60):
        while db.current is not None:  # noqa: ASYNC110 a row that was heard of sets no event of a test
            await asyncio.sleep(0.01)


async def until_it_is_there(db: Group) -> None:
    """Until this client has heard of a group that was deleted and made again, and of its primary."""
    async with asyncio.timeout(60):
        while db.current is None:  # noqa: ASYNC110 as above
            await asyncio.sleep(0.01)


async def test_the_primary_is_given_with_its_epoch(led: Players, url: str) -> None:
    async with Group("db", url) as db:
        primary = await db.primary()
        assert primary == db.current == DB1
        assert db.headers(primary) == {"Muster-Epoch": "1"}


async def test_a_call_before_the_first_primary_serves_waits_for_it(players: Players, url: str) -> None:
    await players.create("db1", "db2")
    async with Group("db", url) as db:
        waiting = asyncio.create_task(db.primary(timeout_seconds=60))
        await players.ready("db1", "db2")
        await players.until(primary="db1", epoch=1)
        # It leads and does not serve yet: it was not given to anybody.
        assert (db.current, waiting.done()) == (None, False)
        await players.serve("db1", 1)
        assert await waiting == DB1


async def test_calls_are_held_through_a_failover(led: Players, url: str) -> None:
    async with Group("db", url) as db:
        await led.speak("report_ended", "db1", epoch=1, how="seen", detail="exit code 137")
        held = [asyncio.create_task(db.primary(timeout_seconds=60, epoch=2)) for _ in range(20)]
        await led.serve("db2", 2)
        assert await asyncio.gather(*held) == [DB2] * 20
        assert await db.primary(timeout_seconds=0) == DB2


async def test_a_planned_switch_is_held_from_the_fence_on_and_told_as_a_change(led: Players, url: str) -> None:
    async with Group("db", url) as db, aclosing(db.changes()) as changes:
        assert await anext(changes) == DB1
        await led.say("failover", to="db2")
        await led.until(primary="db1", fenced=True)
        await until_nobody_serves(db)
        with pytest.raises(NoPrimary, match=r"db1 is to stop, and group/db/failover/2 waits for that"):
            await db.primary(timeout_seconds=0)
        following = asyncio.create_task(anext(changes))
        await led.speak("report_ended", "db1", epoch=1, how="said")
        await led.serve("db2", 2)
        assert await following == await db.primary() == DB2


async def test_without_a_primary_the_error_says_since_when_and_why(players: Players, url: str) -> None:
    await players.create("db1", "db2")
    async with Group("db", url) as db:
        with pytest.raises(NoPrimary) as nobody:
            await db.primary(timeout_seconds=0.05)
        since = nobody.value.context["since"]
        assert nobody.value.context == {"group": "db", "epoch": 0, "since": since}
        assert nobody.value.detail == (
            "db had no primary that serves within 0.05 s: nobody leads; nobody can take over: db1: inactive: its runner has "
            f"not joined; db2: inactive: its runner has not joined (since {since})"
        )


async def test_an_epoch_that_the_caller_has_heard_of_is_waited_for(led: Players, url: str) -> None:
    async with Group("db", url) as db:
        assert await db.primary() == DB1
        with pytest.raises(NoPrimary, match="epoch 2 was heard of, and the controllers know epoch 1"):
            await db.primary(timeout_seconds=0.05, epoch=2)
        # From then on nobody is given the old one, whoever asks.
        with pytest.raises(NoPrimary):
            await db.primary(timeout_seconds=0.05)
        assert db.current is None
        waiting = asyncio.create_task(db.primary(timeout_seconds=60))
        await led.speak("report_ended", "db1", epoch=1, how="said")
        await led.serve("db2", 2)
        assert await waiting == DB2


async def test_a_group_that_is_not_there_is_not_opened_and_one_that_is_deleted_is_told(led: Players, url: str) -> None:
    with pytest.raises(GroupNotFound):
        async with Group("cache", url):
            pass
    async with Group("db", url) as db, aclosing(db.changes()) as changes:
        assert await anext(changes) == DB1
        following = asyncio.create_task(anext(changes))
        await led.say("pause")
        await led.speak("report_ended", "db1", epoch=1, how="said")
        await led.say("delete", force=True)
        with pytest.raises(GroupNotFound):
            await following
        with pytest.raises(GroupNotFound):
            await db.primary(timeout_seconds=60)
        # One of the same name goes on where the epochs were.
        await led.create("db2")
        await led.ready("db2")
        await led.serve("db2", 2)
        await until_it_is_there(db)
        assert await db.primary() == DB2


async def test_who_waits_is_told_that_the_client_was_closed(players: Players, url: str) -> None:
    await players.create("db1")
    db = Group("db", url)
    with pytest.raises(RuntimeError, match="not open"):
        await db.primary()
    async with db:
        waiting = asyncio.create_task(db.primary(timeout_seconds=60))
        await asyncio.sleep(0)
    with pytest.raises(NoPrimary, match="the client was closed"):
        await waiting
