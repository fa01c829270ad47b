"""A projection's rows as a PostgreSQL table: its shape and its statements, from the projection's own definition.

<schema>.instances_r1   key columns (text), `partition`, the projection's columns, and `row`: the whole row as JSON, so
                        that a fold can go on from it. One table per revision; the view <schema>.instances
                        stands on the current one.

Rows travel as lines of COPY's text format, made a column at a time: a call per column and chunk costs a fraction of one
per value.
"""

import asyncio
import re
import types
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any, Final, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import orjson
from pydantic import TypeAdapter, ValidationError

from domain.error import Corrupt
from projections.projection import Key, Projection

Row = TypeVar("Row")

_ROWS_PER_YIELD: Final = 128
_NUL: Final = "\\u0000"
_BREAK: Final = orjson.Fragment(b"\n")
_NULL: Final = "\\N"
_SPECIAL: Final = re.compile(r"[\\\t\n\r]")
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _escaped(documents: str) -> str:
    """The only character of JSON that COPY escapes is the backslash."""
    return documents.replace("\\", "\\\\")


def _joined(values: Sequence[object]) -> str:
    """The JSON of each value on a line of its own, by one call: JSON has no bare newline, so one may stand in between."""
    parts = [part for value in values for part in (value, _BREAK)]
    return orjson.dumps(parts)[1:-3].decode().replace(",\n,", "\n")


def _objects(values: Sequence[object]) -> list[str]:
    return _escaped(_joined(values)).split("\n")


def _arrays(values: Sequence[tuple[object, ...]]) -> list[str]:
    documents = _joined(values)
    if "\\" in documents:
        # Of JSON's escapes PostgreSQL's arrays know only two.
        return [_array(value).translate(_ESCAPES) for value in values]
    return [f"{{{document[1:-1]}}}" for document in documents.split("\n")]


def _scalars(values: Sequence[object]) -> list[str]:
    return orjson.dumps(values)[1:-1].decode().replace("null", _NULL).split(",")


def _instants(values: Sequence[datetime | None]) -> list[str]:
    return orjson.dumps(values)[1:-1].decode().replace("null", _NULL).replace('"', "").split(",")


def _texts(values: Sequence[str | None]) -> list[str]:
    if _SPECIAL.search("".join([value for value in values if value is not None])):
        return [_NULL if value is None else value.translate(_ESCAPES) for value in values]
    return [_NULL if value is None else value for value in values]


def _array(items: tuple[object, ...]) -> str:
    quoted = (re.sub(r'(["\\])', r"\\\1", str(item)) for item in items)
    return "{" + ",".join(f'"{item}"' for item in quoted) + "}"


_SQL_TYPES: Final[dict[Any, tuple[str, Callable[[Any], list[str]]]]] = {
    str: ("text", _texts),
    int: ("bigint", _scalars),
    bool: ("boolean", _scalars),
    float: ("double precision", _scalars),
    datetime: ("timestamptz", _instants),
    tuple[str, ...]: ("text[]", _arrays),
    tuple[int, ...]: ("bigint[]", _arrays),
    dict[str, str]: ("jsonb", _objects),
}
"""By a column's type: its SQL type, and what makes COPY's text of many of its values. Only scalars may be None."""


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
        kinds = {name: _SQL_TYPES[_not_null(hint)] for name, hint in hints.items()}
        keys = projection.key_names
        self._encoders = (*(_texts for _ in keys), _scalars, *(encode for _, encode in kinds.values()))
        self.visible = (*keys, "partition", *hints)
        self.columns = (*self.visible, "row")
        self.create = (
            f"CREATE TABLE IF NOT EXISTS {self.full_name} ("
            + "".join(f'{name} text COLLATE "C" NOT NULL, ' for name in keys)
            + "partition integer NOT NULL, "
            + "".join(f"{name} {sql_type}, " for name, (sql_type, _) in kinds.items())
            + f"row text NOT NULL, PRIMARY KEY ({', '.join(keys)}))"
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

    def lines(self, rows: Sequence[tuple[Key, Row]], partition: int) -> bytes:
        """The rows in COPY's text format, with `columns`."""
        documents = self._documents(rows)
        if _NUL in documents:
            # PostgreSQL can hold no NUL, neither in text nor in jsonb.
            clean = [self.row(_without_nul(document)) for document in documents.split("\n")]
            rows = [(key, row) for (key, _), row in zip(rows, clean, strict=True)]
            documents = self._documents(rows)
        columns_of = self.projection.columns
        values = zip(*[(*key, partition, *columns_of(row)) for key, row in rows], strict=True)
        texts = [encode(column) for encode, column in zip(self._encoders, values, strict=True)]
        texts.append(_escaped(documents).split("\n"))
        return "\n".join([*map("\t".join, zip(*texts, strict=True)), ""]).encode()

    async def chunks(self, rows: Sequence[tuple[Key, Row]], partition: int) -> AsyncIterator[bytes]:
        """The rows' lines, made while they are sent; others may run in between."""
        for first in range(0, len(rows), _ROWS_PER_YIELD):
            await asyncio.sleep(0)
            yield self.lines(rows[first : first + _ROWS_PER_YIELD], partition)

    def _documents(self, rows: Sequence[tuple[Key, Row]]) -> str:
        # `dump_json` of the adapter does the same, and costs 1.5 µs more.
        to_json = self._adapter.serializer.to_json
        return b"\n".join([to_json(row) for _, row in rows]).decode()

    def row(self, document: str) -> Row:
        """The row of a stored document. Raises Corrupt when it is no row of this revision."""
        try:
            return self._adapter.validate_json(document)
        except ValidationError as error:
            raise Corrupt(f"a row of {self.full_name} cannot be read: {error}; rebuild") from None


def _not_null(hint: Any) -> Any:
    """The type of a column's values; of a nullable column the half that is not None."""
    if get_origin(hint) in (Union, types.UnionType):
        [hint] = [part for part in get_args(hint) if part is not type(None)]
    return hint


def _without_nul(document: str) -> str:
    return orjson.dumps(_replaced(orjson.loads(document))).decode()


def _replaced(value: Any) -> Any:
    """The JSON value with every NUL replaced by U+FFFD."""
    match value:
        case str():
            return value.replace("\x00", "\ufffd")
        case dict():
            return {_replaced(name): _replaced(item) for name, item in value.items()}
        case list():
            return [_replaced(item) for item in value]
        case _:
            return value
