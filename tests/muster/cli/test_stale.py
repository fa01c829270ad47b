"""Reads that rest on old or parked data say so on standard error, whoever reads and however."""

import asyncio
import json
import logging

import pytest
from click.testing import CliRunner, Result

from muster import Client
from muster.cli import main
from tests.muster.client.scripted import answer, wire

PAGE = {"items": [], "token": "0:1", "age_seconds": 2820.0}
STALE = answer(PAGE, Muster_Age="2820.000", Muster_Stale="true")
FRESH = answer({**PAGE, "age_seconds": 0.1}, Muster_Age="0.100")
STATUS = answer({"conditions": [{"kind": "corrupt", "subject": "partition 0", "reason": "damaged at position 6"}]})


async def muster(*words: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, words)


@pytest.mark.parametrize(
    "words", ["services", "events", "keyspaces", "nodes", "migrations", "sagas", "services --json"]
)
async def test_a_stale_read_says_how_old_it_is_and_why(words: str):
    stale = answer({**PAGE, "next_after": -1}, Muster_Age="2820.000", Muster_Stale="true")

    async def handle(request: object) -> object:
        return await (STATUS if str(request.path).endswith("/status") else stale)(request)  # type: ignore[attr-defined, arg-type]

    async with wire(handle) as served:  # type: ignore[arg-type]
        read = await muster(*words.split(), "--url", served.url)
    assert read.exit_code == 0, read.output
    assert read.stderr.startswith("stale: this is 47m behind; partition 0 is corrupt: damaged at position 6\n")
    if "--json" in words:
        assert json.loads(read.stdout)["items"] == []


@pytest.mark.parametrize("words", ["services", "keyspaces", "migrations", "sagas"])
async def test_rows_that_stand_still_are_named(words: str):
    async with wire(answer({**PAGE, "parked": ["web", "\x1b[2J"]}, Muster_Age="0.1")) as served:
        read = await muster(*words.split(), "--url", served.url)
    assert read.exit_code == 0
    assert read.stderr.startswith(r"parked: 2 rows stand still (web, \x1b[2J): ")


async def test_a_client_says_once_when_answers_turn_stale_and_once_when_they_are_current(
    caplog: pytest.LogCaptureFixture,
):
    caplog.set_level(logging.INFO, "muster.client")
    async with wire(FRESH, STALE, STALE, FRESH) as served, Client(served.url) as client:
        for _ in range(4):
            await client.services()
    told = [record.getMessage() for record in caplog.records if record.name == "muster.client"]
    assert told == ["answers are stale", "answers are current again"]
