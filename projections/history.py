"""What happened to this instance? Where the last transitions stand in the log; their bodies come from there.

A row outlives its instance: "who deregistered it?" is the question that is asked most.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from domain.message import Recorded
from muster.wire.value import value
from projections.instances import key
from projections.projection import Key, Projection, Rest

transitions_max: Final = 64


@value
class HistoryRow:
    """How many events the instance has had, and the positions of the newest `transitions_max`, oldest first."""

    count: int
    positions: tuple[int, ...]


def evolve(row: HistoryRow | None, recorded: Recorded) -> HistoryRow:
    """The row with one more position."""
    if row is None:
        return HistoryRow(1, (recorded.position,))
    kept = row.positions if len(row.positions) < transitions_max else row.positions[1:]
    return HistoryRow(row.count + 1, kept + (recorded.position,))  # noqa: RUF005 one tuple; unpacking makes a list first


def listed(row: HistoryRow | None, positions: Sequence[int]) -> HistoryRow:
    """The row behind the events at these positions: what they fold to, without a row for each."""
    count, kept = (0, ()) if row is None else (row.count, row.positions)
    return HistoryRow(count + len(positions), (*kept, *positions)[-transitions_max:])


class HistoryColumns(NamedTuple):
    """What SQL users filter and join by."""

    events: int
    positions: tuple[int, ...]


def columns(row: HistoryRow) -> HistoryColumns:
    """The row for SQL users."""
    return HistoryColumns(row.count, row.positions)


def stored(_: Key, columns: HistoryColumns, __: None) -> HistoryRow:
    """The row of a table's columns."""
    return HistoryRow(columns.events, columns.positions)


HISTORY = Projection(
    "instance_history",
    2,
    ("service", "instance"),
    HistoryRow,
    key,
    evolve,
    HistoryColumns,
    columns,
    Rest(None, lambda _: None, stored),
)
