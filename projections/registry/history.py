"""What happened to this instance? Where the last transitions stand in the log; their bodies come from there.

A row outlives its instance: "who deregistered it?" is the question that is asked most.
"""

from collections.abc import Sequence
from typing import Final

from domain.message import Recorded
from domain.registry.service import DECIDER
from muster.wire.value import value
from projections.projection import Projection
from projections.registry.instances import key_of

transitions_max: Final = 64


@value
class HistoryRow:
    """How many events the instance has had, and the positions of the newest `transitions_max`, oldest first."""

    events: int
    positions: tuple[int, ...]


def fold(row: HistoryRow | None, recorded: Recorded) -> HistoryRow:
    """The row with one more position."""
    if row is None:
        return HistoryRow(1, (recorded.position,))
    kept = row.positions if len(row.positions) < transitions_max else row.positions[1:]
    return HistoryRow(row.events + 1, kept + (recorded.position,))  # noqa: RUF005 one tuple; unpacking makes a list first


def listed(row: HistoryRow | None, positions: Sequence[int]) -> HistoryRow:
    """The row after the events at these positions: what they fold to, without a row for each."""
    events, kept = (0, ()) if row is None else (row.events, row.positions)
    return HistoryRow(events + len(positions), (*kept, *positions)[-transitions_max:])


HISTORY: Final = Projection(
    name="instance_history",
    revision=2,
    row=HistoryRow,
    key=("service", "instance"),
    events=frozenset(DECIDER.events),
    key_of=key_of,
    fold=fold,
)
