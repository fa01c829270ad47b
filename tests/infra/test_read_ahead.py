"""Reading an embedded log through another process gives just what reading it here gives."""

import sqlite3
from pathlib import Path

import pytest

from domain.error import Corrupt, CursorRefused
from infra.embedded import LOG_FILE, open_embedded
from infra.log import START, Batch, Cursor
from infra.read_ahead import read_ahead
from tests.infra.log_contract import reign

pytestmark = pytest.mark.process
KEPT = ("id", "type", "subject", "streamversion", "time", "causationid", "actor", "data", "batchlast")


async def a_log(folder: Path) -> list[Batch]:
    """A log of a few terms and batches, as it reads here."""
    async with open_embedded(folder, alone=True) as engine:
        log = engine.logs[0]
        cursor = START
        for term in range(3):
            writer = await reign(log, f"writer-{term}", cursor)
            for number in range(4):
                await writer.append(*(f"{term}-{number}-{index}" for index in range(3)))
            cursor = writer.cursor
        return [batch async for batch in log.read(START)]


def essence(batches: list[Batch]) -> list[tuple[int, dict[str, object]]]:
    return [
        (at, {name: document[name] for name in KEPT if name in document}) for b in batches for at, document in b.records
    ]


async def test_the_batches_are_the_same(tmp_path: Path) -> None:
    here = await a_log(tmp_path)
    there = [batch async for batch in read_ahead(tmp_path, 0, START)]
    assert essence(there) == essence(here)
    assert there[-1].cursor == here[-1].cursor


async def test_a_reading_goes_on_behind_any_cursor(tmp_path: Path) -> None:
    here = await a_log(tmp_path)
    middle = here[len(here) // 2].cursor
    there = [batch async for batch in read_ahead(tmp_path, 0, middle)]
    assert essence(there) == essence([batch for batch in here if batch.cursor.position > middle.position])


async def test_damage_stops_it_at_its_position(tmp_path: Path) -> None:
    here = await a_log(tmp_path)
    damaged = here[-1].records[0][0]
    with sqlite3.connect(tmp_path / LOG_FILE) as connection:
        connection.execute(
            "UPDATE stored_events SET state = CAST(replace(CAST(state AS TEXT), '2-3-0', '2-3-9') AS BLOB)"
        )
    with pytest.raises(Corrupt) as stopped:
        [batch async for batch in read_ahead(tmp_path, 0, START)]
    assert stopped.value.context["position"] == damaged


async def test_a_cursor_of_another_log_is_refused(tmp_path: Path) -> None:
    here = await a_log(tmp_path)
    cursor = here[-1].cursor
    stranger = Cursor(cursor.position, cursor.head_position, bytes(32), cursor.term, cursor.writer)
    with pytest.raises(CursorRefused):
        [batch async for batch in read_ahead(tmp_path, 0, stranger)]


async def test_a_reader_that_turns_away_leaves_no_process_behind(tmp_path: Path) -> None:
    await a_log(tmp_path)
    batches = read_ahead(tmp_path, 0, START)
    assert (await anext(batches)).cursor.position >= 0
    await batches.aclose()


async def test_a_record_whose_type_was_damaged_is_corrupt_too(tmp_path: Path) -> None:
    here = await a_log(tmp_path)
    with sqlite3.connect(tmp_path / LOG_FILE) as connection:
        connection.execute("UPDATE stored_events SET state = CAST(state AS TEXT) WHERE originator_version = 5")
    async with open_embedded(tmp_path, alone=True) as engine:
        with pytest.raises(Corrupt) as stopped:
            [batch async for batch in engine.logs[0].read(START)]
    assert stopped.value.context["position"] == 5
    assert len(here) > 5
