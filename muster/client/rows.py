"""The rows of any read model: listed, one by its key, and followed.

A watch of rows tells:

snapshot  {items}          all rows; a row that is not among them is gone
delta     {items[, gone]}  the rows that have changed, each of them whole, and the keys of those that are gone
"""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic

import orjson

from muster.client.event_stream import follow
from muster.client.transport import Consistency, Transport, path_of
from muster.wire.read_model import Item, Page, ReadModel

Asked = Mapping[str, object]
"""What a list is asked for, by the names of its filters; None: that one is not asked."""


Row = dict[str, Any]
"""A row as JSON."""


class Keyed:
    """Rows as they came, by their fields `key`, joined by slashes where there are several."""

    def __init__(self, *key: str) -> None:
        self.rows: dict[str, Row] = {}
        self._key = key

    def take(self, event: str, data: bytes, _token: str) -> Iterator[tuple[str, ...]]:
        """Apply an event of the watch. Yields the keys of the rows that have come or changed, then of those gone."""
        if event not in ("snapshot", "delta"):
            return
        document = orjson.loads(data)
        items = {self._key_of(row): row for row in document.get("items", ())}
        left = list(self.rows.keys() - items.keys()) if event == "snapshot" else document.get("gone", ())
        changed = tuple(key for key, row in items.items() if self.rows.get(key) != row)
        # Before the keys are yielded, so that a caller that is given a key finds the row as it is now.
        self.rows.update(items)
        gone = tuple(key for key in left if self.rows.pop(key, None) is not None)
        yield changed + gone

    def _key_of(self, row: Row) -> str:
        return "/".join(str(row[name]) for name in self._key)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowsChanged(Generic[Item]):
    """Rows that are new or have changed, as they are now, and the keys (`a/b`) of those that are gone."""

    changed: tuple[Item, ...]
    gone: tuple[str, ...]


async def page_of(transport: Transport, model: ReadModel[Item], asked: Asked, consistency: Consistency) -> Page[Item]:
    """The rows that match."""
    return model.page.validate_json(await transport.read(path_of(model.name), query_of(asked), consistency))


async def row_of(transport: Transport, model: ReadModel[Item], key: Sequence[str], consistency: Consistency) -> Item:
    """The row of the key. Raises what the read model's controller says of a key without a row."""
    return model.one.validate_json(await transport.read(path_of(model.name, *key), {}, consistency))


async def changes_of(
    transport: Transport, model: ReadModel[Item], asked: Asked, reconnect_seconds_max: float
) -> AsyncGenerator[RowsChanged[Item], None]:
    """First all rows, then those that change, as they do."""
    held = Keyed(*model.key)
    path = path_of("watch", model.name)
    async with aclosing(follow(transport, path, query_of(asked), held.take, reconnect_seconds_max)) as changes:
        async for keys in changes:
            rows = [held.rows[key] for key in keys if key in held.rows]
            yield RowsChanged(
                changed=tuple(map(model.one.validate_python, rows)),
                gone=tuple(key for key in keys if key not in held.rows),
            )


def query_of(asked: Asked) -> dict[str, str]:
    """The query of a request: what was asked for, as texts."""
    texts = {name: value for name, value in asked.items() if value is not None}
    return {name: _text(value) for name, value in texts.items()}


def _text(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case datetime():
            return value.isoformat()
        case _:
            return str(value)
