"""Values as PostgreSQL's types, and as the text that COPY takes.

Rows travel as lines of COPY's text format, made a column at a time: a call per column and chunk costs a fraction of one per
value. The binary format, as asyncpg makes it, would cost more here than it spares PostgreSQL.
"""

import re
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import orjson
from pydantic import TypeAdapter

from projections.layout import without_none

Texts = Callable[[Sequence[Any]], list[str]]
"""What makes the text of many values of one column."""

_NULS: Final = ("\x00", "\\\\u0000")
"""How a NUL looks in a line of COPY: in text, and in JSON."""
_BREAK: Final = orjson.Fragment(b"\n")
_NULL: Final = "\\N"
_SPECIAL: Final = re.compile(r"[\\\t\n\r]")
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def _joined(values: Sequence[object]) -> str:
    """The JSON of each value on a line of its own, by one call: JSON has no bare newline, so one may stand in between."""
    parts = [part for value in values for part in (value, _BREAK)]
    return orjson.dumps(parts)[1:-3].decode().replace(",\n,", "\n")


def _objects(values: Sequence[object]) -> list[str]:
    return escaped(_joined(values)).split("\n")


def _arrays(values: Sequence[tuple[object, ...]]) -> list[str]:
    documents = _joined(values)
    if "\\" in documents:
        # Of JSON's escapes PostgreSQL's arrays know only two.
        return [_array(value).translate(_ESCAPES) for value in values]
    return [f"{{{document[1:-1]}}}" for document in documents.split("\n")]


def _scalars(values: Sequence[object]) -> list[str]:
    # Numbers and truth values have neither a comma nor a `null` in them.
    return orjson.dumps(values)[1:-1].decode().replace("null", _NULL).split(",")


def _instants(values: Sequence[datetime | None]) -> list[str]:
    return orjson.dumps(values)[1:-1].decode().replace("null", _NULL).replace('"', "").split(",")


def _texts(values: Sequence[str | None]) -> list[str]:
    # One search for all of them, since there is mostly nothing to escape.
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
        # By identity, which is safe because all values live until the call is over.
        document = known.get(id(value))
        if document is None:
            document = known[id(value)] = to_json(value)
        documents.append(document)
    return documents


def whole_documents(kind: Any) -> Callable[[Sequence[Any]], Iterable[bytes]]:
    """What makes the JSON of many values of this type."""
    # `to_json` of the serializers, since `dump_json` of an adapter costs 1.5 µs more.
    return partial(_each, TypeAdapter[Any](kind).serializer.to_json)


def array_documents(kinds: Sequence[Any]) -> Callable[[Sequence[tuple[Any, ...]]], Iterable[bytes]]:
    """What makes the JSON of many tuples whose items are of these types: arrays, made an item at a time."""
    items = [TypeAdapter[Any](kind).serializer.to_json for kind in kinds]

    def documents(values: Sequence[tuple[Any, ...]]) -> Iterable[bytes]:
        columns = map(_each, items, zip(*values, strict=True))
        return [b"[" + b",".join(parts) + b"]" for parts in zip(*columns, strict=True)]

    return documents


def null_documents(values: Sequence[object]) -> Iterable[bytes]:
    """A null for each value."""
    return [b"null"] * len(values)


def _presence(values: Sequence[object]) -> list[str]:
    return ["false" if value is None else "true" for value in values]


def _itself(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class SqlType:
    """A type of PostgreSQL: its name, what makes COPY's text of many values, and what makes a value of what asyncpg gives."""

    name: str
    texts: Texts
    value: Callable[[Any], Any]


TEXT: Final = SqlType("text", _texts, _itself)
INTEGER: Final = SqlType("integer", _scalars, _itself)
PRESENCE: Final = SqlType("boolean", _presence, _itself)

_SQL_TYPES: Final[dict[Any, SqlType]] = {
    str: TEXT,
    int: SqlType("bigint", _scalars, _itself),
    bool: SqlType("boolean", _scalars, _itself),
    float: SqlType("double precision", _scalars, _itself),
    datetime: SqlType("timestamptz", _instants, _itself),
    tuple[str, ...]: SqlType("text[]", _arrays, tuple),
    tuple[int, ...]: SqlType("bigint[]", _arrays, tuple),
    dict[str, str]: SqlType("jsonb", _objects, orjson.loads),
}
"""By the type of a row's field. Only scalars may be None."""


def sql_type(hint: Any) -> SqlType:
    """PostgreSQL's type for values of this one, whatever narrows it: of several parts of a row, JSON. Raises KeyError: there is
    none.
    """
    kind = _plain(without_none(hint))
    if get_origin(kind) is tuple and is_dataclass(get_args(kind)[0]):
        return SqlType("jsonb", _objects, TypeAdapter[Any](kind).validate_json)
    return _SQL_TYPES[kind]


def _plain(hint: Any) -> Any:
    """The type without what narrows it: of a literal the type of its words, of an annotated type the type."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _plain(args[0])
    if origin is Literal:
        [kind] = {type(word) for word in args}
        return kind
    if origin in (Union, types.UnionType):
        # Words that are named, and any other text: text.
        [kind] = {_plain(one) for one in args if one is not types.NoneType}
        return kind
    return hint if origin is None else types.GenericAlias(origin, tuple(map(_plain, args)))


def escaped(documents: str) -> str:
    """JSON in a line of COPY: its only character that COPY escapes is the backslash."""
    return documents.replace("\\", "\\\\")


def lines_of(columns: Sequence[Sequence[str]]) -> str:
    """The lines of the columns' texts."""
    return "\n".join([*map("\t".join, zip(*columns, strict=True)), ""])


def holds_nul(lines: str) -> bool:
    """Whether there is a NUL in the lines: PostgreSQL can hold none, neither in text nor in jsonb."""
    return any(nul in lines for nul in _NULS)


def without_nul(value: Any) -> Any:
    """The value with every NUL replaced by U+FFFD, whatever it is made of."""
    match value:
        case str():
            return value.replace("\x00", "\ufffd")
        case dict():
            return {without_nul(name): without_nul(item) for name, item in value.items()}
        case list() | tuple():
            return type(value)(map(without_nul, value))
        case _ if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{field.name: without_nul(getattr(value, field.name)) for field in fields(value)})
        case _:
            return value
