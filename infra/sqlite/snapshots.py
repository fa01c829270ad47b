"""Snapshots in SQLite: two generations for each partition, of which one is whole at any time."""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from infra.log.call_thread import CallThread
from infra.log.snapshot import PartitionSnapshot, assembled, manifest, opened
from infra.sqlite.failure import is_damage, reason
from muster.wire.error import NotReady

_LOG: Final = logging.getLogger("muster.log")
T = TypeVar("T")


class SqliteSnapshots:
    """Snapshots in a SQLite file of their own, so that they never wait for the log or make it wait."""

    def __init__(self, path: Path, thread: CallThread) -> None:
        self._path = path
        self._thread = thread

    async def load(self, partition: int) -> PartitionSnapshot | None:
        """See `SnapshotStore.load`."""
        return await self._read(partition, partial(self._load, partition), None)

    async def kept(self, partition: int) -> list[PartitionSnapshot]:
        """See `SnapshotArchive.kept`."""
        return await self._read(partition, partial(self._kept, partition), [])

    async def _read(self, partition: int, read: Callable[[], T], without: T) -> T:
        try:
            return await self._thread.call(read)
        except sqlite3.Error as error:
            # It only makes a start faster: without one the log is read from its beginning.
            facts = {"partition": partition, "reason": reason(error), "file": str(self._path)}
            _LOG.warning("no snapshot can be read: the log is read from its beginning", extra=facts)
            return without

    async def save(self, partition: int, snapshot: PartitionSnapshot) -> None:
        """See `SnapshotStore.save`."""
        try:
            await self._thread.call(partial(self._save_anew, partition, snapshot))
        except (sqlite3.Error, OSError) as error:
            raise NotReady(f"the snapshot of partition {partition} cannot be saved: {reason(error)}") from error

    def _save_anew(self, partition: int, snapshot: PartitionSnapshot) -> None:
        try:
            self._save(partition, snapshot)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            # Nothing in it can be believed any more, and all of it can be made again from the log.
            _LOG.warning("a damaged file of snapshots is made anew", extra={"file": str(self._path)})
            for file in (self._path, self._path.with_name(f"{self._path.name}-journal")):
                file.unlink(missing_ok=True)
            self._save(partition, snapshot)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path)
        connection.execute(
            "CREATE TABLE IF NOT EXISTS snapshot (partition INTEGER, generation INTEGER, manifest BLOB, "
            "PRIMARY KEY (partition, generation))"
        )
        connection.execute(
            "CREATE TABLE IF NOT EXISTS chunk (partition INTEGER, generation INTEGER, number INTEGER, data BLOB, "
            "PRIMARY KEY (partition, generation, number)) WITHOUT ROWID"
        )
        return connection

    def _load(self, partition: int) -> PartitionSnapshot | None:
        with closing(self._connect()) as connection:
            return next(_whole(connection, partition), None)

    def _kept(self, partition: int) -> list[PartitionSnapshot]:
        # Whoever only looks makes no file, and no tables in one.
        if not self._path.exists():
            return []
        with closing(sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return list(_whole(connection, partition))

    def _save(self, partition: int, snapshot: PartitionSnapshot) -> None:
        connection = self._connect()
        try:
            rows = connection.execute("SELECT generation, manifest FROM snapshot WHERE partition=?", (partition,))
            number = max((document["number"] for _, kept in rows if (document := opened(kept))), default=0) + 1
            generation = number % 2
            # The generation that is written over loses its manifest first, in one transaction with its chunks, and gets the new
            # one last, in another: a crash between the two leaves chunks without a manifest, which are no snapshot, and the
            # other generation is whole.
            where = (partition, generation)
            with connection:
                connection.execute("DELETE FROM snapshot WHERE partition=? AND generation=?", where)
                connection.execute("DELETE FROM chunk WHERE partition=? AND generation=?", where)
                connection.executemany(
                    "INSERT INTO chunk VALUES (?,?,?,?)",
                    [(*where, index, chunk) for index, chunk in enumerate(snapshot.chunks)],
                )
            with connection:
                connection.execute("INSERT INTO snapshot VALUES (?,?,?)", (*where, manifest(snapshot, number)))
        finally:
            connection.close()


def _whole(connection: sqlite3.Connection, partition: int) -> Iterator[PartitionSnapshot]:
    """The whole snapshots, the newest first. One of which a chunk is missing or damaged is refused; then the older one serves."""
    rows = connection.execute("SELECT generation, manifest FROM snapshot WHERE partition=?", (partition,))
    found = [(document, generation) for generation, kept in rows if (document := opened(kept)) is not None]
    for document, generation in sorted(found, key=lambda pair: pair[0]["number"], reverse=True):
        chunks = connection.execute(
            "SELECT data FROM chunk WHERE partition=? AND generation=? ORDER BY number", (partition, generation)
        )
        snapshot = assembled(document, [data for (data,) in chunks])
        if snapshot is not None:
            yield snapshot
