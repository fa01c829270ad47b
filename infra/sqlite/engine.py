"""The embedded engine: a data folder with the log in SQLite, held by one process at a time."""

import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

from eventsourcing.persistence import PersistenceError

from infra.log.ahead import ReadAhead, is_long
from infra.log.call_thread import CallThread
from infra.log.engine import Engine
from infra.log.port import Batch, Cursor
from infra.log.recorder import RecorderLog
from infra.sqlite.failure import is_damage, reason
from infra.sqlite.folder import LOG_FILE, SNAPSHOT_FILE, damaged, held, prepared
from infra.sqlite.log import LogRecorder, SqliteLog
from infra.sqlite.snapshots import SqliteSnapshots
from muster.wire.error import NotReady


class EmbeddedLog(SqliteLog):
    """A partition in a data folder. A long stretch is read by a process of its own, beside the fold of what was read."""

    def __init__(self, folder: Path, ahead: ReadAhead, recorder: LogRecorder, partition: int, **options: Any) -> None:
        super().__init__(recorder, partition, **options)
        self._folder, self._ahead = folder, ahead

    async def read(self, after: Cursor) -> AsyncGenerator[Batch, None]:
        """See `EventLog.read`."""
        reading, last = super().read, await self._known_end()
        source = ("embedded", str(self._folder), self.partition)
        ahead = (
            reading(after)
            if last is None or not is_long(after, last)
            else self._ahead.read(source, reading, after, last)
        )
        async with aclosing(ahead) as batches:
            async for batch in batches:
                yield batch


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
    process has it, and when it was made with another number of partitions; Corrupt when it cannot be read at all.

    `read_only`: for replay and verification beside a running controller; takes no lock and must not append. `alone`: start
    no process for reading long stretches.
    """
    found = prepared(folder, partitions, read_only=read_only)
    # One thread each: appends never wait for long reads, and SQLite sees no two writers.
    with (
        closing(LogRecorder(folder / LOG_FILE)) as recorder,
        closing(CallThread("log")) as writing,
        closing(CallThread("log-read")) as reading,
    ):
        if read_only:
            yield _opened(folder, recorder, found, cluster, writing, reading, alone=alone)
            return
        with held(folder):
            # Only the holder of the folder makes the table: a reader beside a running controller must change nothing.
            try:
                recorder.create_table()
            except (sqlite3.Error, PersistenceError) as error:
                if is_damage(error):
                    raise damaged(folder / LOG_FILE, error) from error
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
