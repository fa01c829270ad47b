"""One projection's rows in memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from types import GenericAlias
from typing import Any, Generic

from pydantic import TypeAdapter

from domain.message import Recorded
from projections.projection import AnyProjection, Key, Projection, Row


@dataclass(frozen=True, slots=True)
class Parked:
    """A row that an event could not be folded into: it stands still, and answers say so."""

    position: int
    reason: str


AllParked = dict[tuple[str, Key], Parked]
"""By the projection's name and the row's key."""


class MemoryTable(Generic[Row]):
    """The projection's `rows` by key. A row that an event cannot be folded into is `parked` and stands still.

    `fold(key, recorded)` folds an event into the row of the key, which is the one that it touches.
    """

    def __init__(self, projection: Projection[Row], parked: AllParked) -> None:
        self.projection = projection
        self.rows: dict[Key, Row] = {}
        self._adapter = _adapter(projection)
        self.fold = _fold_into(projection, self.rows, parked)

    def take(self, recorded: Sequence[Recorded]) -> None:
        """Fold those of the events that touch a row."""
        for key, one in zip(self.projection.touched_by_each(recorded), recorded, strict=True):
            if key is not None:
                self.fold(key, one)

    def dump(self, rows: Sequence[tuple[Key, Row]]) -> bytes:
        """Rows with their keys as JSON, for snapshots: what `load` takes."""
        return self._adapter.dump_json((self.projection.name, rows))

    def load(self, name: str, rows: object) -> None:
        """Take over the rows of what `dump` gave, if it was a table of this name that gave them."""
        if name == self.projection.name:
            self.rows.update(self.read(rows))

    def read(self, rows: object) -> list[tuple[Key, Row]]:
        """The rows with their keys, of what `dump` gave."""
        _, found = self._adapter.validate_python((self.projection.name, rows))
        read: list[tuple[Key, Row]] = found
        return read


def _fold_into(projection: Projection[Row], rows: dict[Key, Row], parked: AllParked) -> Callable[[Key, Recorded], None]:
    # A closure, and not a method: every health change comes by, and its names are found faster than attributes are.
    name, fold_row = projection.name, projection.fold

    def fold(key: Key, recorded: Recorded) -> None:
        # Mostly nothing is parked at all, and then no second key needs to be made and hashed.
        if parked and (name, key) in parked:
            return
        try:
            row = fold_row(rows.get(key), recorded)
        except AssertionError as error:
            parked[name, key] = Parked(recorded.position, str(error))
            return
        if row is None:
            rows.pop(key, None)
        else:
            rows[key] = row

    return fold


# Kept, since to make one costs far more than to use it, and each partition has a table of each projection.
@cache
def _adapter(projection: AnyProjection) -> TypeAdapter[tuple[str, Any]]:
    """Writes and reads the projection's name, and rows of it with their keys."""
    dumped: Any = GenericAlias(tuple, (str, GenericAlias(list, (GenericAlias(tuple, (Key, projection.row)),))))
    return TypeAdapter(dumped)
