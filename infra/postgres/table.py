"""A projection's rows as a PostgreSQL table: its shape and its statements, from the projection's own definition.

<schema>.instances_r4   key columns (text), `partition`, the projection's columns, and `rest`: what else a row holds, as
                        JSON, so that a fold can go on from it. One table per revision; the view <schema>.instances
                        stands on the current one.

Rows are copied in the order in which they come: sorting them by key for the index would spare PostgreSQL less than it costs.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import GenericAlias
from typing import Any, Final, Generic, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError

from infra.postgres.copy_text import (
    INTEGER,
    PRESENCE,
    TEXT,
    array_documents,
    escaped,
    holds_nul,
    lines_of,
    null_documents,
    sql_type,
    whole_documents,
    without_nul,
)
from muster.wire.error import Corrupt
from projections.layout import Layout
from projections.projection import Key, Projection

Row = TypeVar("Row")

_ROWS_PER_YIELD: Final = 256


def quoted(names: Iterable[str]) -> str:
    """The columns of these names, in a statement: fields may be called what is a word of SQL, as `group` is."""
    return ", ".join(f'"{name}"' for name in names)


class ReadTable(Generic[Row]):
    """The table of one projection's revision in `schema`, with the statements on it. Holds no connection."""

    def __init__(self, projection: Projection[Row], schema: str) -> None:
        self.projection = projection
        self.schema = schema
        self.name = f"{projection.name}_r{projection.revision}"
        self.view = f"{schema}.{projection.name}"
        self.full_name = f"{schema}.{self.name}"
        self.incoming = f"incoming_{self.name}"
        self._layout = Layout(projection)
        self._adapter, self._rests = self._kept()
        columns = self._layout.columns
        kinds = {column.name: PRESENCE if column.shows_presence else sql_type(column.type) for column in columns}
        keys = projection.key
        self._types = (*(TEXT for _ in keys), INTEGER, *kinds.values())
        self._values = tuple(kind.value for kind in kinds.values())
        self.visible = (*keys, "partition", *kinds)
        self.columns = (*self.visible, "rest")
        self.create = (
            f"CREATE TABLE IF NOT EXISTS {self.full_name} ("
            + "".join(f'"{name}" text COLLATE "C" NOT NULL, ' for name in keys)
            + "partition integer NOT NULL, "
            + "".join(f'"{name}" {kind.name}, ' for name, kind in kinds.items())
            + f"rest text NOT NULL, PRIMARY KEY ({quoted(keys)}))"
        )
        # It belongs to the connection, is made at its first use, and is emptied by every commit.
        self.create_incoming = (
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {self.incoming} (LIKE {self.full_name}) ON COMMIT DELETE ROWS"
        )
        changed = ", ".join(f'"{name}" = excluded."{name}"' for name in self.columns if name not in keys)
        # ON CONFLICT probes the index row by row; a join could choose to scan the whole table.
        self.merge = (
            f"INSERT INTO {self.full_name} SELECT * FROM {self.incoming} ON CONFLICT ({quoted(keys)}) "
            f"DO UPDATE SET {changed}"
        )
        wanted = f"unnest({', '.join(f'${number}::text[]' for number in range(1, len(keys) + 1))})"
        same = " AND ".join(f't."{name}" = w."{name}"' for name in keys)
        self.select = (
            f"SELECT found.* FROM {wanted} AS w({quoted(keys)}) "
            f"CROSS JOIN LATERAL (SELECT {quoted(self.columns)} FROM {self.full_name} t WHERE {same} LIMIT 1) AS found"
        )
        self.delete = f"DELETE FROM {self.full_name} t USING {wanted} AS w({quoted(keys)}) WHERE {same}"

    @property
    def rest(self) -> tuple[str, ...]:
        """The names of what the column `rest` holds of a row, in its order."""
        return tuple(column.name for column in self._layout.rest)

    def key_arrays(self, keys: Sequence[Key]) -> list[list[str]]:
        """The keys, column by column."""
        return [list(column) for column in zip(*keys, strict=True)]

    def _kept(self) -> tuple[TypeAdapter[Any], Callable[[Sequence[Any]], Iterable[bytes]]]:
        """What reads the `rest` of one row, and what writes those of many."""
        kinds = [column.type for column in self._layout.rest]
        if self.projection.keeps_whole_row:
            return TypeAdapter[Any](self.projection.row), whole_documents(self.projection.row)
        if kinds:
            return TypeAdapter[Any](_tuple_of(kinds)), array_documents(kinds)
        return TypeAdapter[Any](None), null_documents

    def lines(self, rows: Sequence[tuple[Key, Row]], partition: int) -> bytes:
        """The rows in COPY's text format, with `columns`."""
        layout, whole = self._layout, self.projection.keeps_whole_row
        keys, values = zip(*rows, strict=True)
        columns: list[Any] = [*zip(*keys, strict=True), [partition] * len(rows)]
        columns += zip(*map(layout.columns_of, values), strict=True)
        rests = b"\n".join(self._rests(values if whole else list(map(layout.rest_of, values)))).decode()
        lines = self._lines(columns, rests)
        if holds_nul(lines):
            columns = without_nul(columns)
            rests = "\n".join(orjson.dumps(without_nul(orjson.loads(rest))).decode() for rest in rests.split("\n"))
            lines = self._lines(columns, rests)
        return lines.encode()

    def _lines(self, columns: Sequence[Any], rests: str) -> str:
        texts = [kind.texts(column) for kind, column in zip(self._types, columns, strict=True)]
        return lines_of([*texts, escaped(rests).split("\n")])

    async def chunks(self, rows: Sequence[tuple[Key, Row]], partition: int) -> AsyncIterator[bytes]:
        """The rows' lines, made while they are sent; others may run in between."""
        for first in range(0, len(rows), _ROWS_PER_YIELD):
            await asyncio.sleep(0)
            yield self.lines(rows[first : first + _ROWS_PER_YIELD], partition)

    def row(self, found: Sequence[Any]) -> tuple[Key, Row]:
        """The key and the row of what `select` gives. Raises Corrupt when it is no row of this revision."""
        key = tuple(found[: len(self.projection.key)])
        columns = found[-1 - len(self._values) : -1]
        try:
            rest = self._adapter.validate_json(found[-1])
        except ValidationError as error:
            raise Corrupt(f"a row of {self.full_name} cannot be read: {error}; rebuild") from None
        values = [value(column) for value, column in zip(self._values, columns, strict=True)]
        return key, self._layout.row(key, values, rest)


AnyTable = ReadTable[Any]
"""A table, whatever the rows of its projection are."""


def _tuple_of(kinds: Sequence[Any]) -> Any:
    return GenericAlias(tuple, tuple(kinds))
