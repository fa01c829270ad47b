"""The rows of a watch, by their key. Pure; `muster.client.event_stream` does the reading.

snapshot  {items}          all rows; a row that is not among them is gone
delta     {items[, gone]}  the rows that have changed, each of them whole, and the keys of those that are gone
"""

from collections.abc import Iterator
from typing import Any

import orjson

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
