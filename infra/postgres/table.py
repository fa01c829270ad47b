"""A projection's rows as a PostgreSQL table: its shape and its statements, from the projection's own definition.

<schema>.instances_r3   key columns (text), `partition`, the projection's columns, and `rest`: what else a row holds, as
                        JSON, so that a fold can go on from it. One table per revision; the view <schema>.instances
                        stands on the current one.

Rows travel as lines of COPY's text format, made a column at a time: a call per column and chunk costs a fraction of one
per value. The binary format, as asyncpg makes it, would spare PostgreSQL 3 µs of 15 for a row of `instances`, and cost 8 more
here; sorting rows by key for the index would spare 0.8 and cost 1.8.
"""

import asyncio
import re
import types
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, Generic, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import orjson
from pydantic import TypeAdapter, ValidationError

from muster.wire.error import Corrupt
from projections.projection import Key, Projection, Rest

Row = TypeVar("Row")

_ROWS_PER_YIELD: Final = 256
_NULS: Final = ("\x00", "\\\\u0000")
"""How a NUL looks in a line of COPY: in text, and in JSON."""
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


def _each(to_json: Callable[[Any], bytes], values: Sequence[object]) -> list[bytes]:
    """The JSON of each value; of one that many rows share, as the checks of a service, made once."""
    known: dict[int, bytes] = {}
    documents = []
    for value in values:
        document = known.get(id(value))
        if document is None:
            document = known[id(value)] = to_json(value)
        documents.append(document)
    return documents


def _rests_of(kind: Any) -> Callable[[Sequence[Any]], Iterable[bytes]]:
    """What makes the JSON of many rests: that of a NamedTuple field by field."""
    # `to_json` of the serializers, since `dump_json` of an adapter costs 1.5 µs more.
    if not (isinstance(kind, type) and issubclass(kind, tuple)):
        return partial(_each, TypeAdapter[Any](kind).serializer.to_json)
    fields = [TypeAdapter[Any](hint).serializer.to_json for hint in get_type_hints(kind, include_extras=True).values()]

    def rests(values: Sequence[Any]) -> Iterable[bytes]:
        columns = map(_each, fields, zip(*values, strict=True))
        return [b"[" + b",".join(parts) + b"]" for parts in zip(*columns, strict=True)]

    return rests


def _itself(value: Any) -> Any:
    return value


_SQL_TYPES: Final[dict[Any, tuple[str, Callable[[Any], list[str]], Callable[[Any], Any]]]] = {
    str: ("text", _texts, _itself),
    int: ("bigint", _scalars, _itself),
    bool: ("boolean", _scalars, _itself),
    float: ("double precision", _scalars, _itself),
    datetime: ("timestamptz", _instants, _itself),
    tuple[str, ...]: ("text[]", _arrays, tuple),
    tuple[int, ...]: ("bigint[]", _arrays, tuple),
    dict[str, str]: ("jsonb", _objects, orjson.loads),
}
"""By a column's type: its SQL type, what makes COPY's text of many of its values, and what makes a value again of what
asyncpg gives. Only scalars may be None."""


class ReadTable(Generic[Row]):
    """The table of one projection's revision in `schema`, with the statements on it. Holds no connection."""

    def __init__(self, projection: Projection[Row], schema: str) -> None:
        self.projection = projection
        self.schema = schema
        self.name = f"{projection.name}_r{projection.revision}"
        self.view = f"{schema}.{projection.name}"
        self.full_name = f"{schema}.{self.name}"
        self.incoming = f"incoming_{self.name}"
        self._rest = projection.rest or Rest(projection.row_type, _itself, lambda _, __, row: cast(Row, row))
        self._adapter = TypeAdapter[Any](self._rest.kind)
        self._rests = _rests_of(self._rest.kind)
        hints = get_type_hints(projection.columns_type)
        kinds = {name: _SQL_TYPES[_not_null(hint)] for name, hint in hints.items()}
        keys = projection.key_names
        self._encoders = (*(_texts for _ in keys), _scalars, *(encode for _, encode, _ in kinds.values()))
        self._decoders = tuple(decode for *_, decode in kinds.values())
        self.visible = (*keys, "partition", *hints)
        self.columns = (*self.visible, "rest")
        self.create = (
            f"CREATE TABLE IF NOT EXISTS {self.full_name} ("
            + "".join(f'{name} text COLLATE "C" NOT NULL, ' for name in keys)
            + "partition integer NOT NULL, "
            + "".join(f"{name} {sql_type}, " for name, (sql_type, *_) in kinds.items())
            + f"rest text NOT NULL, PRIMARY KEY ({', '.join(keys)}))"
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
            f"SELECT found.* FROM {wanted} AS w({', '.join(keys)}) "
            f"CROSS JOIN LATERAL (SELECT {', '.join(self.columns)} FROM {self.full_name} t WHERE {same} LIMIT 1) AS found"
        )
        self.delete = f"DELETE FROM {self.full_name} t USING {wanted} AS w({', '.join(keys)}) WHERE {same}"

    def key_arrays(self, keys: Sequence[Key]) -> list[list[str]]:
        """The keys, column by column."""
        return [list(column) for column in zip(*keys, strict=True)]

    def lines(self, rows: Sequence[tuple[Key, Row]], partition: int) -> bytes:
        """The rows in COPY's text format, with `columns`."""
        columns_of, rest_of = self.projection.columns, self._rest.rest
        keys, values = zip(*rows, strict=True)
        columns: list[Any] = [*zip(*keys, strict=True), [partition] * len(rows)]
        columns += zip(*map(columns_of, values), strict=True)
        rests = b"\n".join(self._rests(list(map(rest_of, values)))).decode()
        lines = self._lines(columns, rests)
        if any(nul in lines for nul in _NULS):
            # PostgreSQL can hold no NUL, neither in text nor in jsonb.
            columns = _replaced(columns)
            rests = "\n".join(orjson.dumps(_replaced(orjson.loads(rest))).decode() for rest in rests.split("\n"))
            lines = self._lines(columns, rests)
        return lines.encode()

    def _lines(self, columns: Sequence[Any], rests: str) -> str:
        texts = [encode(column) for encode, column in zip(self._encoders, columns, strict=True)]
        texts.append(_escaped(rests).split("\n"))
        return "\n".join([*map("\t".join, zip(*texts, strict=True)), ""])

    async def chunks(self, rows: Sequence[tuple[Key, Row]], partition: int) -> AsyncIterator[bytes]:
        """The rows' lines, made while they are sent; others may run in between."""
        for first in range(0, len(rows), _ROWS_PER_YIELD):
            await asyncio.sleep(0)
            yield self.lines(rows[first : first + _ROWS_PER_YIELD], partition)

    def row(self, found: Sequence[Any]) -> tuple[Key, Row]:
        """The key and the row of what `select` gives. Raises Corrupt when it is no row of this revision."""
        names, columns = found[: len(self.projection.key_names)], found[-1 - len(self._decoders) : -1]
        values = [decode(value) for decode, value in zip(self._decoders, columns, strict=True)]
        try:
            rest = self._adapter.validate_json(found[-1])
        except ValidationError as error:
            raise Corrupt(f"a row of {self.full_name} cannot be read: {error}; rebuild") from None
        key = tuple(names)
        return key, self._rest.row(key, cast(Any, self.projection.columns_type)(*values), rest)


def _not_null(hint: Any) -> Any:
    """The type of a column's values; of a nullable column the half that is not None."""
    if get_origin(hint) in (Union, types.UnionType):
        [hint] = [part for part in get_args(hint) if part is not type(None)]
    return hint


def _replaced(value: Any) -> Any:
    """The value with every NUL replaced by U+FFFD, whatever it is made of."""
    match value:
        case str():
            return value.replace("\x00", "\ufffd")
        case dict():
            return {_replaced(name): _replaced(item) for name, item in value.items()}
        case list() | tuple():
            return type(value)(map(_replaced, value))
        case _:
            return value
