"""Asking for the primary at controllers that are behind, away, or answer what is over: what a good one cannot be made to do."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from muster import Group, NoPrimary, Primary
from tests.muster.client.scripted import Handler, answer, events, problem, wire


def row(epoch: int, version: int, primary: str | None = "db1", **fields: Any) -> dict[str, Any]:
    """The row of a group as it stands on the wire."""
    return {
        "group": "db",
        "primary": primary,
        "address": None if primary is None else f"{primary}:5432",
        "epoch": epoch,
        "serving": primary is not None,
        "fenced": False,
        "since": "2026-01-01T00:00:00Z",
        "ended": None,
        "degraded": None,
        "paused": False,
        "failover": None,
        "members": [],
        "in_sync": [],
        "in_sync_version": epoch,
        "threshold": 3,
        "heartbeat_seconds": 0.5,
        "lease_seconds": 2.0,
        "fencing": "lease",
        "max_lag": None,
        "synchronous": False,
        "preempt": False,
        "hold_down_seconds": 30.0,
        "service": None,
        "version": version,
        **fields,
    }


def picture(*rows: dict[str, Any], stay: bool = False) -> Handler:
    """A watch that shows these rows as all there are."""
    return events(("0:1", "snapshot", {"items": list(rows), "token": "0:1"}), stay=stay)


async def test_a_controller_that_is_behind_brings_back_no_epoch_and_no_state_that_is_over() -> None:
    newest, ended = row(8, 20, "db2"), row(8, 19, None)
    behind = events(
        ("0:1", "snapshot", {"items": [row(7, 18)], "token": "0:1"}),
        ("0:2", "delta", {"items": [ended]}),
        ("0:3", "delta", {"items": [], "gone": ["db"]}),
        stay=True,
    )
    known: list[Primary | None] = []
    asked = asyncio.Event()

    async def ask_again(request: web.Request) -> web.StreamResponse:
        # The client asks because the group is gone, and so after all that came before.
        known.append(db.current)
        asked.set()
        return await answer(newest)(request)

    async with wire(answer(newest), behind, ask_again) as server, Group("db", server.url) as db:
        await asyncio.wait_for(asked.wait(), 60)
        assert known == [Primary("db2", "db2:5432", 8)]


async def test_the_rows_of_other_groups_are_none_of_this_one() -> None:
    rows = picture(row(9, 99, "db9", group="cache"), row(8, 20, "db2"), stay=True)
    async with wire(answer(row(7, 18)), rows) as server, Group("db", server.url) as db:
        assert await db.primary(timeout_seconds=60, epoch=8) == Primary("db2", "db2:5432", 8)


async def test_a_group_that_is_missing_at_a_controller_that_is_behind_is_asked_for_once_more() -> None:
    script = [answer(row(7, 18)), picture(stay=False), answer(row(7, 18)), picture(row(8, 20, "db2"), stay=True)]
    async with wire(*script) as server, Group("db", server.url) as db:
        assert await db.primary(timeout_seconds=60, epoch=8) == Primary("db2", "db2:5432", 8)
        assert [seen.path for seen in server.seen] == ["/v1/groups/db", "/v1/watch/groups"] * 2


async def test_while_no_controller_answers_what_was_known_stays_and_who_waits_is_told() -> None:
    script = [answer(row(7, 18)), problem("NotReady", 503, "it starts")]
    async with wire(*script) as server, Group("db", server.url, timeout_seconds=0.2) as db:
        assert (await db.primary()).epoch == 7
        ends_at = asyncio.get_running_loop().time() + 60
        while True:
            with pytest.raises(NoPrimary) as nobody:
                await db.primary(timeout_seconds=0.05, epoch=8)
            if "the group cannot be watched: it starts" in nobody.value.detail:
                break
            assert asyncio.get_running_loop().time() < ends_at


async def test_a_row_that_cannot_be_read_is_an_error_of_each_call_and_no_primary_for_ever() -> None:
    script = [answer(row(7, 18)), picture(row(8, 20, "db2", in_sync_version="new"), stay=True)]
    async with wire(*script) as server, Group("db", server.url) as db:
        with pytest.raises(ValidationError):
            await db.primary(timeout_seconds=60, epoch=8)
        with pytest.raises(ValidationError):
            await anext(db.changes())
