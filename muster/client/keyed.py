"""The rows that a watch tells of, by their key. Pure; `muster.client.event_stream` does the reading.

snapshot  {items}          all rows; what is not among them is gone
delta     {items[, gone]}  rows that have changed, each of them whole, and keys of those that are gone
"""

from collections.abc import Iterator
from typing import Any

import orjson


class Keyed:
    """Rows by the field `key`, as they came."""

    def __init__(self, key: str) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self._key = key

    def take(self, event: str, data: bytes, _token: str) -> Iterator[tuple[str, ...]]:
        """Take an event of the watch in; yields the keys of the rows that have changed or come, in their order, or gone."""
        if event not in ("snapshot", "delta"):
            return
        told = orjson.loads(data)
        items = {row[self._key]: row for row in told.get("items", ())}
        left = list(self.rows.keys() - items.keys()) if event == "snapshot" else told.get("gone", ())
        changed = tuple(key for key, row in items.items() if self.rows.get(key) != row)
        self.rows.update(items)
        gone = tuple(key for key in left if self.rows.pop(key, None) is not None)
        yield changed + gone
