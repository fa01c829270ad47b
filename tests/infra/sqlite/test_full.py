"""What a log in SQLite does when its disk is full, and goes on doing when there is room again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from domain.registry.instance import InstanceWeightChanged
from infra.log.call_thread import CallThread
from infra.log.port import START, StorageFailed
from infra.log.snapshot import PartitionSnapshot
from infra.sqlite.engine import open_embedded
from infra.sqlite.log import LogRecorder, SqliteLog
from infra.sqlite.snapshots import SqliteSnapshots
from muster.wire.error import Corrupt, Fenced, NotReady
from tests.infra.sqlite.disk import Disk
from tests.sample import register, sealed_batch
from tests.workers.writer.test_writer import Running, known, running


@asynccontextmanager
async def at_work(path: Path) -> AsyncIterator[tuple[Disk, Running]]:
    with closing(CallThread("log")) as thread, closing(LogRecorder(path)) as recorder:
        recorder.create_table()
        async with running(SqliteLog(recorder, 0, thread=thread)) as told:
            await told.reigns()
            yield Disk(recorder), told


async def test_a_full_disk_refuses_writes_by_its_name_answers_reads_and_it_goes_on_with_room(tmp_path, caplog):
    async with at_work(tmp_path / "log.sqlite") as (disk, told):
        assert known([await told.execute(register("a", "a"))]) == ["accepted"]
        disk.fill()
        with pytest.raises(NotReady, match="the disk is full") as refused:
            await told.execute(register("b", "b"))
        assert refused.value.name == "NotReady"
        # The claim meets it, too, again and again; who comes meanwhile does not wait.
        for name in "cd":
            with pytest.raises(NotReady, match="the disk is full"):
                told.submit(register(name, name))
        assert told.views.registry.instance("orders", "a").id == "a"
        assert await told.history() == ["registered"]
        disk.empty()
        await told.reigns()
        assert known([await told.execute(register("b", "b"))]) == ["accepted"]
        assert [record.message for record in caplog.records if record.message.startswith("writes are")] == [
            "writes are refused: the log cannot be stored",
            "writes are taken again",
        ]


async def test_of_a_write_that_met_the_full_disk_everybody_knows_that_it_is_not_in_the_log(tmp_path):
    async with at_work(tmp_path / "log.sqlite") as (disk, told):
        disk.fill()
        asked = told.writer.submit_all([register("a", "a"), register("b", "b")])
        assert known(await asked) == ["NotReady", "NotReady"]
        disk.empty()
        await told.reigns()
        assert await told.history() == []


async def test_a_claim_on_a_full_disk_says_why(tmp_path):
    with closing(LogRecorder(tmp_path / "log.sqlite")) as recorder:
        recorder.create_table()
        log, disk = SqliteLog(recorder, 0), Disk(recorder)
        disk.fill()
        with pytest.raises(StorageFailed, match="the disk is full"):
            await log.claim("w1", START)
        disk.empty()
        assert (await log.claim("w1", START)).term == 1


async def test_after_a_failed_append_nothing_is_appended_without_a_new_claim(tmp_path):
    with closing(LogRecorder(tmp_path / "log.sqlite")) as recorder:
        recorder.create_table()
        log, rival, disk = SqliteLog(recorder, 0), SqliteLog(recorder, 0), Disk(recorder)
        cursor = await log.claim("w1", START)
        batch, _ = sealed_batch(cursor, InstanceWeightChanged(instance="a", weight=2))
        disk.fill()
        with pytest.raises(StorageFailed):
            await log.append(batch)
        disk.empty()
        with pytest.raises(Fenced, match="was not claimed here"):
            await log.append(batch)
        cursor = await log.claim("w1", cursor)
        await rival.claim("w2", cursor)
        with pytest.raises(Fenced, match="another writer"):
            await log.beat()
        with pytest.raises(Fenced, match="was not claimed here"):
            await log.beat()


async def test_a_snapshot_that_cannot_be_saved_or_read_is_an_error_that_passes(tmp_path):
    path = tmp_path / "snapshots.sqlite"
    with closing(CallThread("log-read")) as thread:
        store = SqliteSnapshots(path, thread)
        snapshot = PartitionSnapshot(START, "1", {}, [b"{}"])
        await store.save(0, snapshot)
        assert await store.load(0) == snapshot
        path.unlink()
        path.mkdir()
        with pytest.raises(NotReady, match="cannot be saved"):
            await store.save(0, snapshot)
        assert await store.load(0) is None


async def test_a_folder_that_holds_something_else_is_refused_with_the_reason(tmp_path):
    (tmp_path / "log.sqlite").write_bytes(b"this is no database at all, and it is long enough to be looked at" * 100)
    with pytest.raises(Corrupt, match=r"log\.sqlite is damaged: file is not a database"):
        async with open_embedded(tmp_path):
            pass
