"""A partition's log in a SQLite file, over eventsourcing's recorder, with less work and less waiting per record.

Each call into SQLite gives the interpreter's lock away and waits to get it back: as long as 5 ms while the event loop is
busy. So a batch is one statement, which is its own transaction: with 64 records 11 ms under a busy loop, where BEGIN,
`executemany` and COMMIT took 815; with an idle one 1.1 ms instead of 1.2 (medians; most of it is the disk's).
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from eventsourcing.persistence import IntegrityError, PersistenceError, StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteCursor, SQLiteDatastore

from infra.log.recorder import RecorderLog
from infra.sqlite.failure import failure, reading_failure

statements_kept: Final = 32
"""How many statements stay prepared, one for each size of a batch; one for 2,000 records has 600 KB."""


class LogRecorder(SQLiteApplicationRecorder):
    """eventsourcing's recorder on a file. Nobody asks for notification ids, and columns come by place."""

    def __init__(self, file: Path) -> None:
        super().__init__(SQLiteDatastore(str(file), originator_id_type="text"))
        self._file = file
        self._connection: sqlite3.Connection | None = None

    def insert_records(self, originator_id: str, records: Sequence[StoredEvent]) -> None:
        """As `insert_events` of copies that name this originator, without making them: all of them, durable, or none.

        Raises IntegrityError and PersistenceError. A batch has at most 10,000 records.
        """
        rows = ",".join(["(?1,?,?,?)"] * len(records))
        values: list[Any] = [originator_id]
        for record in records:
            values += (record.originator_version, record.topic, record.state)
        try:
            self._appending().execute(f"INSERT INTO {self.events_table_name} VALUES {rows}", values).close()
        except sqlite3.IntegrityError as error:
            raise IntegrityError(error) from error
        except sqlite3.Error as error:
            raise failure(error) from error

    def _appending(self) -> sqlite3.Connection:
        """A connection of its own, for one thread at a time: those of the pool keep one prepared statement each."""
        if self._connection is None:
            # Without an isolation level Python opens no transaction, so that the one INSERT is its own. The thread that
            # appends makes the connection, and the thread that closes the engine closes it: hence no check of the thread.
            self._connection = sqlite3.connect(
                self._file, isolation_level=None, check_same_thread=False, cached_statements=statements_kept
            )
        return self._connection

    @contextmanager
    def _reading(self) -> Iterator[SQLiteCursor]:
        try:
            with self.datastore.transaction(commit=False) as cursor:
                yield cursor
        except (sqlite3.Error, PersistenceError) as error:
            # A connection that cannot be opened raises an error of sqlite3 itself, one that fails later the recorder's.
            raise reading_failure(error) from error

    def close(self) -> None:
        """Let the file go."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self.datastore.close()

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """See eventsourcing."""
        bounds = (str(originator_id), -1 if gt is None else gt, 2**62 if lte is None else lte)
        statement = (
            f"SELECT originator_version, topic, state FROM {self.events_table_name} WHERE originator_id=? "
            f"AND originator_version>? AND originator_version<=? ORDER BY originator_version {'DESC' if desc else 'ASC'} LIMIT ?"
        )
        with self._reading() as c:
            c.execute(statement, (*bounds, -1 if limit is None else limit))
            return [StoredEvent(originator_id, version, topic, state) for version, topic, state in c.fetchall()]

    def select_records(self, originator_id: str, gt: int, lte: int) -> list[tuple[int, None, bytes]]:
        """(position, None, value) of the records in order: a `StoredEvent` each would take as long as selecting them."""
        statement = (
            f"SELECT originator_version, NULL, state FROM {self.events_table_name} WHERE originator_id=? "
            "AND originator_version>? AND originator_version<=? ORDER BY originator_version"
        )
        with self._reading() as c:
            c.execute(statement, (originator_id, gt, lte))
            records: list[tuple[int, None, bytes]] = c.fetchall()
            return records


class SqliteLog(RecorderLog):
    """A partition in a SQLite file."""

    def __init__(self, recorder: LogRecorder, partition: int, **options: Any) -> None:
        super().__init__(recorder, partition, **options)
        self._rows = recorder

    async def _records(self, after: int, to: int) -> Sequence[tuple[int, None, bytes]]:
        return await self._read(self._rows.select_records, self._originator, after, to)

    async def _insert(self, records: Sequence[StoredEvent]) -> None:
        await self._call(self._rows.insert_records, self._originator, records)
        self._grown.set()
