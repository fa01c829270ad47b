"""A projection's rows as a PostgreSQL table: its shape and its statements, from the projection's own definition.

<schema>.instances_r1   key columns (text), `partition`, the projection's columns, and `row`: the whole row as JSON, so
                        that a fold can go on from it. One table per revision; the view <schema>.instances
                        stands on the current one.
"""

import asyncio
import types
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Final, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import orjson
from pydantic import TypeAdapter, ValidationError

from domain.error import Corrupt
from projections.projection import Key, Projection

Row = TypeVar("Row")

_SQL_TYPES: Final[dict[Any, str]] = {
    str: "text",
    int: "bigint",
    bool: "boolean",
    float: "double precision",
    datetime: "timestamptz",
    tuple[str, ...]: "text[]",
    tuple[int, ...]: "bigint[]",
    dict[str, str]: "jsonb",
}
_ROWS_PER_YIELD: Final = 64


class ReadTable(Generic[Row]):
    """The table of one projection's revision in `schema`, with the statements on it. Holds no connection."""

    def __init__(self, projection: Projection[Row], schema: str) -> None:
        self.projection = projection
        self.schema = schema
        self.name = f"{projection.name}_r{projection.revision}"
        self.view = f"{schema}.{projection.name}"
        self.full_name = f"{schema}.{self.name}"
        self.incoming = f"incoming_{self.name}"
        self._adapter = TypeAdapter[Row](projection.row_type)
        hints = get_type_hints(projection.columns_type)
        types_of = {name: _sql_type(hint) for name, hint in hints.items()}
        self._json_at = [index for index, sql_type in enumerate(types_of.values()) if sql_type == "jsonb"]
        keys = projection.key_names
        self.visible = (*keys, "partition", *hints)
        self.columns = (*self.visible, "row")
        self.create = (
            f"CREATE TABLE IF NOT EXISTS {self.full_name} ("
            + "".join(f'{name} text COLLATE "C" NOT NULL, ' for name in keys)
            + "partition integer NOT NULL, "
            + "".join(f"{name} {sql_type}, " for name, sql_type in types_of.items())
            + f"row json NOT NULL, PRIMARY KEY ({', '.join(keys)}))"
        )
        self.create_incoming = (
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {self.incoming} (LIKE {self.full_name}) ON COMMIT DELETE ROWS"
        )
        changed = ", ".join(f"{name} = excluded.{name}" for name in self.columns if name not in keys)
        # ON CONFLICT probes the index row by row; a join could choose to scan the whole table.
        self.merge = (
            f"INSERT INTO {self.full_name} SELECT * FROM {self.incoming} ON CONFLICT ({', '.join(keys)}) "
            f"DO UPDATE SET {changed}"
        )
        wanted = f"unnest({', '.join(f'${number}::text[]' for number in range(1, len(keys) + 1))})"
        same = " AND ".join(f"t.{name} = w.{name}" for name in keys)
        self.select = (
            f"SELECT {', '.join(f'w.{name}' for name in keys)}, found.row FROM {wanted} AS w({', '.join(keys)}) "
            f"CROSS JOIN LATERAL (SELECT t.row FROM {self.full_name} t WHERE {same} LIMIT 1) AS found"
        )
        self.delete = f"DELETE FROM {self.full_name} t USING {wanted} AS w({', '.join(keys)}) WHERE {same}"

    def key_arrays(self, keys: Sequence[Key]) -> list[list[str]]:
        """The keys, column by column."""
        return [list(column) for column in zip(*keys, strict=True)]

    def record(self, key: Key, row: Row, partition: int) -> tuple[object, ...]:
        """The row as a tuple in the order of `columns`."""
        document = _json(row)
        if "\\u0000" in document:
            # PostgreSQL can hold no NUL, neither in text nor in jsonb.
            row = self.row(_json(_without_nul(orjson.loads(document))))
            document = _json(row)
        columns: Sequence[object] = self.projection.columns(row)
        if self._json_at:
            columns = list(columns)
            for index in self._json_at:
                columns[index] = _json(columns[index])
        return (*key, partition, *columns, document)

    async def records(self, rows: Sequence[tuple[Key, Row]], partition: int) -> AsyncIterator[tuple[object, ...]]:
        """The rows as records, made while they are sent; others may run in between."""
        for index, (key, row) in enumerate(rows):
            if index % _ROWS_PER_YIELD == 0:
                await asyncio.sleep(0)
            yield self.record(key, row, partition)

    def row(self, document: str) -> Row:
        """The row of a stored document. Raises Corrupt when it is no row of this revision."""
        try:
            return self._adapter.validate_json(document)
        except ValidationError as error:
            raise Corrupt(f"a row of {self.full_name} cannot be read: {error}; rebuild") from None


def _json(value: object) -> str:
    # orjson knows dataclasses, and is faster with them than pydantic is.
    return orjson.dumps(value).decode()


def _sql_type(hint: Any) -> str:
    """The SQL type of a column's type hint; a nullable one is that of its other half."""
    if get_origin(hint) in (Union, types.UnionType):
        [hint] = [part for part in get_args(hint) if part is not type(None)]
    return _SQL_TYPES[hint]


def _without_nul(value: Any) -> Any:
    """The JSON value with every NUL replaced by U+FFFD."""
    match value:
        case str():
            return value.replace("\x00", "\ufffd")
        case dict():
            return {_without_nul(name): _without_nul(item) for name, item in value.items()}
        case list():
            return [_without_nul(item) for item in value]
        case _:
            return value
