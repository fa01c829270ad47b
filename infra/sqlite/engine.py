"""The embedded engine: a data folder with the log in SQLite, held by one process at a time."""

import os
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
from eventsourcing.persistence import PersistenceError

from infra.folder_lock import FolderHeld, hold
from infra.log.ahead import ReadAhead, is_long
from infra.log.call_thread import CallThread
from infra.log.engine import Engine
from infra.log.port import Batch, Cursor
from infra.log.recorder import RecorderLog
from infra.sqlite.failure import reason
from infra.sqlite.log import LogRecorder, SqliteLog
from infra.sqlite.snapshots import SqliteSnapshots
from muster.wire.error import NotReady

LOG_FILE: Final = "log.sqlite"
SNAPSHOT_FILE: Final = "snapshots.sqlite"
LOCK_FILE: Final = "lock"
ENGINE_FILE: Final = "engine.json"


class EmbeddedLog(SqliteLog):
    """A partition in a data folder. A long stretch is read by a process of its own, beside the fold of what was read."""

    def __init__(self, folder: Path, ahead: ReadAhead, recorder: LogRecorder, partition: int, **options: Any) -> None:
        super().__init__(recorder, partition, **options)
        self._folder, self._ahead = folder, ahead

    async def read(self, after: Cursor) -> AsyncGenerator[Batch, None]:
        """See `EventLog.read`."""
        reading, last = super().read, await self._last_position()
        source = ("embedded", str(self._folder), self.partition)
        ahead = self._ahead.read(source, reading, after, last) if is_long(after, last) else reading(after)
        async with aclosing(ahead) as batches:
            async for batch in batches:
                yield batch


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the data folder: two writers of one log would each believe itself."""
    try:
        lock = hold(folder / LOCK_FILE)
    except FolderHeld as held:
        detail = f"the data folder {folder} is held by process {held.holder}; stop it, or use another --data"
        raise NotReady(detail) from None
    try:
        yield
    finally:
        os.close(lock)


def _prepare(folder: Path, *, read_only: bool) -> None:
    if read_only and not (folder / LOG_FILE).exists():
        raise NotReady(f"{folder} holds no log of muster")
    folder.mkdir(parents=True, exist_ok=True)


def _partitions(folder: Path, wanted: int | None) -> int:
    """How many partitions the folder was made with. A stream's partition follows from it, so it never changes."""
    path = folder / ENGINE_FILE
    if not path.exists():
        # Under another name first: on a full disk an empty file would be left, and the folder could never be opened.
        written = path.with_suffix(".new")
        written.write_bytes(orjson.dumps({"partitions": wanted or 1}))
        written.replace(path)
    found = int(orjson.loads(path.read_bytes())["partitions"])
    if wanted not in (None, found):
        raise NotReady(f"{folder} was made with --partitions {found}; leave the option out, or use another --data")
    return found


@asynccontextmanager
async def open_embedded(
    folder: Path,
    *,
    partitions: int | None = None,
    cluster: str = "default",
    read_only: bool = False,
    alone: bool = False,
) -> AsyncIterator[Engine]:
    """The data folder, made if missing; `partitions` of a new one (1). Raises NotReady with its holder when another
    process has it, and when it was made with another number of partitions.

    `read_only`: for replay and verification beside a running controller; takes no lock and must not append. `alone`: start
    no process for reading long stretches.
    """
    try:
        _prepare(folder, read_only=read_only)
        found = _partitions(folder, partitions)
    except OSError as error:
        raise NotReady(f"the data folder {folder} cannot be used: {error.strerror}") from error
    # One thread each: appends never wait for long reads, and SQLite sees no two writers.
    with (
        closing(LogRecorder(folder / LOG_FILE)) as recorder,
        closing(CallThread("log")) as writing,
        closing(CallThread("log-read")) as reading,
    ):
        if read_only:
            yield _opened(folder, recorder, found, cluster, writing, reading, alone=alone)
            return
        with _held(folder):
            # Only the holder of the folder makes the table: a reader beside a running controller must change nothing.
            try:
                recorder.create_table()
            except (sqlite3.Error, PersistenceError) as error:
                raise NotReady(f"{folder / LOG_FILE} cannot be opened: {reason(error)}") from error
            yield _opened(folder, recorder, found, cluster, writing, reading, alone=alone)


def _opened(
    folder: Path,
    recorder: LogRecorder,
    partitions: int,
    cluster: str,
    writing: CallThread,
    reading: CallThread,
    *,
    alone: bool,
) -> Engine:
    log = SqliteLog if alone else partial(EmbeddedLog, folder, ReadAhead())
    logs: dict[int, RecorderLog] = {
        partition: log(recorder, partition, source=f"/muster/{cluster}", thread=writing, read_thread=reading)
        for partition in range(partitions)
    }
    return Engine(f"SQLite in {folder}", logs, SqliteSnapshots(folder / SNAPSHOT_FILE, reading))
