"""Reading an embedded log through another process gives just what reading it here gives."""

import asyncio
import os
import signal
import sqlite3
import struct
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from pathlib import Path

import pytest

from infra.log import ahead
from infra.log.ahead import Child
from infra.log.decoded import DecodedRecords
from infra.log.port import START, Batch, Cursor, EventLog
from infra.sqlite.engine import open_embedded
from infra.sqlite.folder import LOG_FILE
from muster.wire.error import Corrupt, CursorRefused, NotReady
from tests.infra.log.log_contract import reign

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


async def read_beside(
    folder: Path, after: Cursor, command: Sequence[str] = ahead.PROGRAM
) -> AsyncGenerator[Batch, None]:
    """What another process reads."""
    async with Child(command) as child, aclosing(child.read(("embedded", str(folder), 0), after, 0)) as batches:
        async for batch in batches:
            yield batch


def essence(batches: list[Batch]) -> list[tuple[int, dict[str, object]]]:
    return [
        (at, {name: document[name] for name in KEPT if name in document}) for b in batches for at, document in b.records
    ]


async def test_the_batches_are_the_same(tmp_path: Path) -> None:
    here = await a_log(tmp_path)
    there = [batch async for batch in read_beside(tmp_path, START)]
    assert essence(there) == essence(here)
    assert there[-1].cursor == here[-1].cursor


async def test_a_reading_goes_on_behind_any_cursor(tmp_path: Path) -> None:
    here = await a_log(tmp_path)
    middle = here[len(here) // 2].cursor
    there = [batch async for batch in read_beside(tmp_path, middle)]
    assert essence(there) == essence([batch for batch in here if batch.cursor.position > middle.position])


async def test_damage_stops_it_at_its_position(tmp_path: Path) -> None:
    here = await a_log(tmp_path)
    damaged = here[-1].records[0][0]
    with sqlite3.connect(tmp_path / LOG_FILE) as connection:
        connection.execute(
            "UPDATE stored_events SET state = CAST(replace(CAST(state AS TEXT), '2-3-0', '2-3-9') AS BLOB)"
        )
    with pytest.raises(Corrupt) as stopped:
        [batch async for batch in read_beside(tmp_path, START)]
    assert stopped.value.context["position"] == damaged


async def test_a_cursor_of_another_log_is_refused(tmp_path: Path) -> None:
    here = await a_log(tmp_path)
    cursor = here[-1].cursor
    stranger = Cursor(cursor.position, cursor.head_position, bytes(32), cursor.term, cursor.writer)
    with pytest.raises(CursorRefused):
        [batch async for batch in read_beside(tmp_path, stranger)]


async def test_a_reader_that_turns_away_leaves_no_process_behind(tmp_path: Path) -> None:
    await a_log(tmp_path)
    batches = read_beside(tmp_path, START)
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


async def test_what_is_read_until_the_other_process_has_started_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await a_log(tmp_path)
    monkeypatch.setattr(ahead, "records_min", 1)
    there = []
    async with open_embedded(tmp_path, read_only=True) as engine:
        async for batch in engine.logs[0].read(START):
            there.append(batch)
            if not isinstance(batch.records, DecodedRecords):  # Give the other process time to start.
                await asyncio.sleep(0.5)
    assert not isinstance(there[0].records, DecodedRecords)
    assert isinstance(there[-1].records, DecodedRecords)
    assert essence(there) == essence(here)
    assert there[-1].cursor == here[-1].cursor


async def two_partitions(folder: Path) -> None:
    """A log of 40 records and more in each of two partitions."""
    async with open_embedded(folder, partitions=2) as engine:
        for number, log in engine.logs.items():
            writer = await reign(log)
            for batch in range(40):
                await writer.append(f"{number}-{batch}")


async def slowly(log: EventLog, taken: Callable[[], None] = lambda: None) -> list[int]:
    """The positions of a reading that takes its time, in which another process can start."""
    found: list[int] = []
    async with aclosing(log.read(START)) as batches:
        async for batch in batches:
            found += [position for position, _ in batch.records]
            taken()
            await asyncio.sleep(0.05)
    return found


def children() -> set[str]:
    """The processes that we have started."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


async def test_partitions_are_read_one_after_another_by_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_partitions(tmp_path)
    monkeypatch.setattr(ahead, "records_min", 1)
    before, seen = children(), set[str]()
    async with open_embedded(tmp_path, read_only=True) as engine:
        found = await asyncio.gather(
            *(slowly(log, lambda: seen.update(children() - before)) for log in engine.logs.values())
        )
    assert found == [list(range(1, 41))] * 2
    assert len(seen) == 1
    assert not children() - before


async def test_who_reads_two_partitions_side_by_side_waits_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_partitions(tmp_path)
    monkeypatch.setattr(ahead, "records_min", 1)
    monkeypatch.setattr(ahead, "patience_seconds", 0.1)
    async with asyncio.timeout(10), open_embedded(tmp_path, read_only=True) as engine:
        one, two = (aclosing(log.read(START)) for log in engine.logs.values())
        async with one as first, two as second:
            async for batch in first:
                assert (await anext(second)).cursor.position == batch.cursor.position


async def test_what_a_reader_left_unread_is_not_given_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await two_partitions(tmp_path)
    monkeypatch.setattr(ahead, "records_min", 1)
    async with open_embedded(tmp_path, read_only=True) as engine:
        waiting: list[asyncio.Task[list[int]]] = []
        async with aclosing(engine.logs[0].read(START)) as batches:
            async for batch in batches:
                waiting = waiting or [asyncio.create_task(slowly(engine.logs[1]))]
                await asyncio.sleep(0.05)
                if isinstance(batch.records, DecodedRecords):
                    break
        assert await waiting[0] == list(range(1, 41))


async def test_a_process_kept_for_one_who_turns_away_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await two_partitions(tmp_path)
    monkeypatch.setattr(ahead, "records_min", 1)
    before = children()
    async with open_embedded(tmp_path, read_only=True) as engine:
        waiting: list[asyncio.Task[list[int]]] = []
        async with aclosing(engine.logs[0].read(START)) as batches:
            async for _ in batches:
                waiting = waiting or [asyncio.create_task(slowly(engine.logs[1]))]
                await asyncio.sleep(0.05)
        waiting[0].cancel()
        await asyncio.wait(waiting)
        assert not children() - before


async def test_a_folder_without_a_log_is_told_as_here(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="holds no log"):
        [batch async for batch in read_beside(tmp_path / "nothing", START)]


async def test_a_reader_that_dies_is_told(tmp_path: Path) -> None:
    await a_log(tmp_path)
    async with Child() as child, aclosing(child.read(("embedded", str(tmp_path), 0), START, 0)) as batches:
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(NotReady, match="ended too early"):
            [batch async for batch in batches]


async def test_a_reader_that_is_stopped_and_continued_while_it_writes_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    async with open_embedded(tmp_path, alone=True) as engine:
        writer = await reign(engine.logs[0])
        for number in range(20):
            await writer.append(*(f"{number}-{index}" for index in range(1_000)))
    found = []
    async with Child() as child, aclosing(child.read(("embedded", str(tmp_path), 0), START, 0)) as batches:
        async for batch in batches:
            found += [position for position, _ in batch.records]
            time.sleep(0.02)  # noqa: ASYNC251 — the pipe fills up meanwhile, so that the child waits within a write
            with suppress(ProcessLookupError):  # It has written everything.
                os.kill(child.pid, signal.SIGSTOP)
                os.kill(child.pid, signal.SIGCONT)
    assert found == list(range(1, 20_001))


async def test_a_frame_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    frames = struct.pack(">I", 4) + b"(\x02.." + struct.pack(">I", 3) + b"?!?"
    broken = tmp_path / "broken"
    broken.write_text(f"#!{sys.executable}\nimport sys\nsys.stdout.buffer.write({frames!r})\n")
    broken.chmod(0o755)
    with pytest.raises(NotReady, match="wrote what cannot be read"):
        [batch async for batch in read_beside(tmp_path, START, [str(broken)])]


async def test_packages_of_the_same_names_in_the_current_folder_are_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await a_log(tmp_path / "data")
    foreign = foreign_packages(tmp_path / "their-project")
    monkeypatch.chdir(foreign)
    there = [batch async for batch in read_beside(tmp_path / "data", START)]
    assert essence(there) == essence(here)
    with pytest.raises(NotReady, match="ended too early"):  # Without -P theirs are found first.
        [batch async for batch in read_beside(tmp_path / "data", START, [sys.executable, "-m", "infra.read_ahead"])]


def foreign_packages(folder: Path) -> Path:
    """A folder as of somebody else's project, whose packages are named as ours and break who imports them."""
    for name in ("domain", "infra", "muster", "projections", "sagas", "workers"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(f"raise ImportError('{name} of another project')\n")
    return folder
