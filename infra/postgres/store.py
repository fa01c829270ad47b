"""The durable read models: tables in PostgreSQL that SQL users can join, each with the cursor that it stands at.

Rows and cursor move in one transaction that begins with a compare-and-set of the cursor, so an event counts exactly
once, and of two projectors one is refused before it has changed anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from infra.log.port import START, Cursor
from infra.option import schema_name
from infra.postgres.connections import Connections
from infra.postgres.load_tables import LoadTables, prepare_loads
from infra.postgres.schema import Purpose, drop_older, show, show_further, take
from infra.postgres.table import AnyTable, ReadTable
from muster.wire.error import Fenced, NotReady
from projections.projection import AnyProjection, Key


class Overtaken(Fenced):
    """Another projector has moved the cursor of this partition; nothing of ours was written."""


@dataclass(frozen=True, slots=True)
class ParkedKey:
    """A row that stands still since the event at `position` could not be folded into it, and why."""

    key: Key
    position: int
    reason: str


@dataclass(slots=True)
class Changes:
    """What became of one projection's rows: `added` were not in the store before, `changed` and `removed` were."""

    added: list[tuple[Key, Any]] = field(default_factory=list)
    changed: list[tuple[Key, Any]] = field(default_factory=list)
    removed: list[Key] = field(default_factory=list)
    parked: list[ParkedKey] = field(default_factory=list)


class ReadStore:
    """The read models in one schema of one database. Use as `async with ReadStore(dsn) as store`."""

    def __init__(
        self,
        dsn: str,
        *,
        schema: str = "muster",
        connections_max: int = 4,
        statement_timeout_seconds: float = 60.0,
    ) -> None:
        self.schema = schema_name(schema)
        # In quotes, since a name may be a word of SQL, or begin with a digit.
        self._quoted = f'"{schema}"'
        self._connections = Connections(dsn, connections_max, statement_timeout_seconds)
        self._tables: dict[tuple[str, int], AnyTable] = {}

    async def __aenter__(self) -> "ReadStore":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connections.close()

    @property
    def loads(self) -> LoadTables:
        """The tables of loads, once the read models have been prepared."""
        return LoadTables(self._connections, self._quoted)

    async def prepare(
        self, projections: Sequence[AnyProjection], purpose: Purpose = "projector", *, overwrite: bool = False
    ) -> list[AnyProjection]:
        """Create what is missing; the projections whose revision is not the live one yet: to be built, then switched.

        Raises SchemaTaken when the schema serves something else (a replay replaces an earlier replay; `overwrite`
        lets it replace anything), NotReady when a newer muster has filled it.
        """
        async with self._connections.transaction() as connection:
            # Controllers that start together would otherwise create the same tables at the same time, and all but one
            # fail.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", f"muster.read_store.{self.schema}")
            await take(connection, self._quoted, purpose, overwrite=overwrite)
            # A replay is of the log, in which there are no loads.
            if purpose == "projector":
                await prepare_loads(connection, self._quoted)
            live = dict(await connection.fetch(f"SELECT projection, revision FROM {self._quoted}.live"))
            for projection in projections:
                await self._prepare(connection, projection, live.get(projection.name))
        return [
            projection
            for projection in projections
            if live.get(projection.name, projection.revision) != projection.revision
        ]

    async def _prepare(self, connection: Any, projection: AnyProjection, live: int | None) -> None:
        if live is not None and live > projection.revision:
            raise NotReady(
                f"{self.schema}.{projection.name} is at revision {live}, which a newer muster has built; this one knows "
                f"{projection.revision}: run the newer one, or use another schema"
            )
        table = self.table(projection)
        await connection.execute(table.create)
        if live is None:
            await show(connection, self._quoted, table)
        if live == projection.revision:
            await show_further(connection, self.schema, table)
            await drop_older(connection, self._quoted, projection)

    def table(self, projection: AnyProjection) -> AnyTable:
        """The projection's table."""
        known = self._tables.get((projection.name, projection.revision))
        if known is None or known.projection is not projection:
            known = self._tables[projection.name, projection.revision] = ReadTable(projection, self._quoted)
        return known

    async def cursors(self, partition: int, projections: Sequence[AnyProjection]) -> dict[str, Cursor]:
        """Where each projection, by name, stands in the partition; START for a new one."""
        names, revisions = _identities(projections)
        async with self._connections.transaction() as connection:
            await connection.execute(
                # A commit only moves a cursor, so those that are missing are made here.
                f"INSERT INTO {self._quoted}.checkpoint SELECT name, revision, $3, $4, $5, $6, $7, $8 "
                "FROM unnest($1::text[], $2::integer[]) AS new(name, revision) ON CONFLICT DO NOTHING",
                *(names, revisions, partition, *_fields(START)),
            )
            found = await connection.fetch(
                "SELECT projection, position, head_position, head, term, writer "
                f"FROM {self._quoted}.checkpoint WHERE partition = $3 "
                "AND (projection, revision) IN (SELECT * FROM unnest($1::text[], $2::integer[]))",
                *(names, revisions, partition),
            )
        return {row[0]: Cursor(*row[1:]) for row in map(tuple, found)}

    async def parked(self, partition: int, projection: AnyProjection) -> list[ParkedKey]:
        """The projection's parked keys in the partition."""
        found = await self._connections.fetch(
            f"SELECT key, position, reason FROM {self._quoted}.parked "
            "WHERE projection = $1 AND revision = $2 AND partition = $3",
            *(projection.name, projection.revision, partition),
        )
        return [ParkedKey(tuple(key), position, reason) for key, position, reason in found]

    async def rows(self, projection: AnyProjection, keys: Sequence[Key]) -> dict[Key, Any]:
        """The stored rows of the keys; keys without a row are left out."""
        table = self.table(projection)
        found = await self._connections.fetch(table.select, *table.key_arrays(keys))
        return dict(map(table.row, found))

    async def count(self, projection: AnyProjection) -> int:
        """How many rows the projection has."""
        [(count,)] = await self._connections.fetch(f"SELECT count(*) FROM {self.table(projection).full_name}")
        return int(count)

    async def commit(self, partition: int, changes: Mapping[AnyProjection, Changes], old: Cursor, new: Cursor) -> None:
        """Write the changes and move their projections' cursors from `old` to `new`, all or nothing.

        Raises Overtaken when a cursor is not at `old` any more.
        """
        async with self._connections.transaction() as connection:
            # First, so that who was overtaken has changed nothing; and from here on the row's lock lets a rival wait
            # for us.
            await self._compare_and_set(connection, partition, list(changes), old, new)
            for projection, change in changes.items():
                await self._write(connection, self.table(projection), partition, change)

    async def _compare_and_set(
        self, connection: Any, partition: int, projections: Sequence[AnyProjection], old: Cursor, new: Cursor
    ) -> None:
        moved = await connection.execute(
            f"UPDATE {self._quoted}.checkpoint "
            "SET position = $4, head_position = $5, head = $6, term = $7, writer = $8 "
            "WHERE partition = $3 AND position = $9 AND head = $10 "
            "AND (projection, revision) IN (SELECT * FROM unnest($1::text[], $2::integer[]))",
            *(*_identities(projections), partition, *_fields(new), old.position, old.head),
        )
        if moved != f"UPDATE {len(projections)}":
            raise Overtaken(
                f"another projector has moved partition {partition} of schema {self.schema} on from {old.position}; "
                "nothing was written here",
                partition=partition,
                position=old.position,
            )

    async def _write(self, connection: Any, table: AnyTable, partition: int, changes: Changes) -> None:
        options = {"columns": table.columns, "format": "text", "encoding": "utf-8"}
        # COPY cannot replace rows. New ones go straight into the table, changed ones by way of a temporary table.
        if changes.added:
            source = table.chunks(changes.added, partition)
            await connection.copy_to_table(table.name, source=source, schema_name=self.schema, **options)
        if changes.changed:
            await connection.execute(table.create_incoming)
            source = table.chunks(changes.changed, partition)
            await connection.copy_to_table(table.incoming, source=source, **options)
            await connection.execute(table.merge)
        if changes.removed:
            await connection.execute(table.delete, *table.key_arrays(changes.removed))
        for parked in changes.parked:
            await connection.execute(
                f"INSERT INTO {self._quoted}.parked VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
                *(table.projection.name, table.projection.revision, list(parked.key), partition),
                *(parked.position, parked.reason.replace("\x00", "\ufffd")),
            )

    async def switch(self, projection: AnyProjection) -> None:
        """Show this revision to readers from now on, and drop the older ones.

        The view is re-pointed in one transaction. Raises NotReady, naming what stands in the way, when views of users
        depend on columns that the new revision does not have.
        """
        table = self.table(projection)
        async with self._connections.transaction() as connection:
            try:
                await show(connection, self._quoted, table)
            except asyncpg.DependentObjectsStillExistError as error:
                raise NotReady(f"{table.view} cannot show revision {projection.revision}: {error.detail}") from None
        async with self._connections.transaction() as connection:
            # In a transaction of its own, so that a table that cannot be dropped does not undo the switch.
            await drop_older(connection, self._quoted, projection)

    async def reset(self, partition: int, projections: Sequence[AnyProjection]) -> None:
        """Forget the partition: its rows, parked keys and cursors, in one transaction. What follows is a rebuild."""
        async with self._connections.transaction() as connection:
            for projection in projections:
                identity = (projection.name, projection.revision, partition)
                mine = "projection = $1 AND revision = $2 AND partition = $3"
                await connection.execute(
                    f"UPDATE {self._quoted}.checkpoint SET position = $4, head_position = $5, head = $6, term = $7, "
                    f"writer = $8 WHERE {mine}",
                    *(*identity, *_fields(START)),
                )
                await connection.execute(f"DELETE FROM {self._quoted}.parked WHERE {mine}", *identity)
                await connection.execute(
                    f"DELETE FROM {self.table(projection).full_name} WHERE partition = $1", partition
                )


def _identities(projections: Sequence[AnyProjection]) -> tuple[list[str], list[int]]:
    return [projection.name for projection in projections], [projection.revision for projection in projections]


def _fields(cursor: Cursor) -> tuple[int, int, bytes, int, str]:
    return cursor.position, cursor.head_position, cursor.head, cursor.term, cursor.writer
