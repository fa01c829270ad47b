"""The tables of loads: what services and shards have to do now, with the columns that `GET /v1/loads` has.

    <schema>.service_loads    a row for each service of which something is heard
    <schema>.shard_loads      a row for each shard of which its node tells

They come from no log and have no cursor: rows are overwritten by newer ones, and deleted when nobody has told of them for a
minute. So they have no revision either; a column that a later version adds is added to the table as it stands.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from types import NoneType
from typing import Final, get_args, get_type_hints

import asyncpg
import orjson

from infra.postgres.connections import Connections
from muster.wire.telemetry.loads import ServiceLoad
from muster.wire.telemetry.shard_loads import ShardLoad

forgotten_seconds: Final = 60.0
Rows = Sequence[ServiceLoad | ShardLoad]
_TYPES: Final[dict[object, str]] = {str: "text", int: "bigint", float: "double precision", datetime: "timestamptz"}
_logger: Final = logging.getLogger("muster.read_store")


@dataclass(frozen=True, slots=True)
class LoadTable:
    """A table: its name, the dataclass of its rows, the columns of its key, and what it is about."""

    name: str
    row: type[ServiceLoad | ShardLoad]
    key: tuple[str, ...]
    comment: str

    @property
    def columns(self) -> dict[str, str]:
        """The columns by name, with their types. What is more than a text or a number is kept as JSON."""
        hints = get_type_hints(self.row)
        return {field.name: _TYPES.get(_plain(hints[field.name]), "jsonb") for field in fields(self.row)}

    def create(self, schema: str) -> str:
        """The statement that makes it, if it is not there."""
        columns = ", ".join(f'"{name}" {kind}' for name, kind in self.columns.items())
        # Half of each page is left free: rows are overwritten once a second, and stay on their page so.
        return (
            f"CREATE TABLE IF NOT EXISTS {schema}.{self.name} ({columns}, PRIMARY KEY ({', '.join(self.key)})) "
            "WITH (fillfactor = 50)"
        )

    def upsert(self, schema: str) -> str:
        """The statement that takes an array for each column. A row that is older than the one there changes nothing."""
        names = ", ".join(f'"{name}"' for name in self.columns)
        # JSON comes as text, since arrays of it have no form of their own here.
        taken = ", ".join(f'new."{name}"::{kind}' for name, kind in self.columns.items())
        arrays = ", ".join(
            f"${place}::{'text' if kind == 'jsonb' else kind}[]" for place, kind in enumerate(self.columns.values(), 1)
        )
        changed = ", ".join(f'"{name}" = excluded."{name}"' for name in self.columns if name not in self.key)
        return (
            f"INSERT INTO {schema}.{self.name} AS old ({names}) SELECT {taken} FROM unnest({arrays}) AS new({names}) "
            f"ON CONFLICT ({', '.join(self.key)}) DO UPDATE SET {changed} WHERE old.at < excluded.at"
        )

    def arrays(self, rows: Rows) -> list[list[object]]:
        """The rows as `upsert` takes them."""
        return [
            [_json(getattr(row, name)) if kind == "jsonb" else getattr(row, name) for row in rows]
            for name, kind in self.columns.items()
        ]


SERVICE_LOADS: Final = LoadTable(
    "service_loads",
    ServiceLoad,
    ("service",),
    "What services have to do now, as their instances say; never older than a minute, and empty after a start",
)
SHARD_LOADS: Final = LoadTable(
    "shard_loads",
    ShardLoad,
    ("keyspace", "shard"),
    "What shards have to do now, as their nodes say; never older than a minute, and empty after a start",
)
TABLES: Final = (SERVICE_LOADS, SHARD_LOADS)


async def prepare_loads(connection: asyncpg.Connection, schema: str) -> None:
    """Make the tables in the schema, whoever has made that; and the columns that they do not have yet."""
    for table in TABLES:
        await connection.execute(table.create(schema))
        # PostgreSQL takes no parameters here; the texts are our own, and have no quotes.
        await connection.execute(f"COMMENT ON TABLE {schema}.{table.name} IS '{table.comment}'")
        found = await connection.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped",
            f"{schema}.{table.name}",
        )
        for name in table.columns.keys() - {name for (name,) in found}:
            _logger.info("%s has a further column: %s", table.name, name)
            await connection.execute(f'ALTER TABLE {schema}.{table.name} ADD COLUMN "{name}" {table.columns[name]}')


class LoadTables:
    """The tables of one schema, which a `ReadStore` has prepared."""

    def __init__(self, connections: Connections, schema: str) -> None:
        self._connections, self._schema = connections, schema

    async def put(self, services: Sequence[ServiceLoad], shards: Sequence[ShardLoad]) -> None:
        """Write these rows, and delete those of which nobody has told for a minute."""
        async with self._connections.transaction() as connection:
            for table, rows in ((SERVICE_LOADS, services), (SHARD_LOADS, shards)):
                # By the database's clock, which all controllers share; the rows have instants of theirs.
                await connection.execute(
                    f"DELETE FROM {self._schema}.{table.name} WHERE at < now() - make_interval(secs => $1)",
                    forgotten_seconds,
                )
                if rows:
                    await self._upsert(connection, table, rows)

    async def _upsert(self, connection: asyncpg.Connection, table: LoadTable, rows: Rows) -> None:
        # In one order by all who write: two controllers that lock each other's rows would wait for ever.
        ordered = sorted(rows, key=lambda row: tuple(getattr(row, name) for name in table.key))
        await connection.execute(table.upsert(self._schema), *table.arrays(ordered))


def _plain(hint: object) -> object:
    """The type of a column that may be null."""
    left = [part for part in get_args(hint) if part is not NoneType]
    return left[0] if len(left) == 1 and NoneType in get_args(hint) else hint


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
