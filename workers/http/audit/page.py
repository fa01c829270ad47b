"""PURE: one page of events, merged from what was found in each partition.

Each partition is read from where the page begins, forwards or backwards, up to a bound. What was not read yet of one
partition may belong before what was found in another: so the page ends where the first of them ended, and says where each
one goes on. Nothing is left out, and nothing comes twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from infra.log.port import Document
from muster.wire.token import Positions

Place = tuple[datetime, int, int]
"""When, partition, position: the order of events of several partitions."""


@dataclass(frozen=True, slots=True)
class FoundEvents:
    """What was found in a partition: events, in its order, each with its place.

    `reached` is the last position read, in the direction of reading. `edge` is the place of it, if there is more behind it.
    """

    partition: int
    events: Sequence[tuple[Place, Document]]
    reached: int
    edge: Place | None


@dataclass(frozen=True, slots=True)
class MergedPage:
    """Events in order, the newest last, and for each partition where it goes on."""

    events: Sequence[tuple[Place, Document]]
    goes_on: Positions


def oldest(parts: Sequence[FoundEvents], limit: int) -> MergedPage:
    """The first of what was found forwards. `goes_on`: each partition's last position that is done with."""
    edges = [part.edge for part in parts if part.edge is not None]
    every = sorted((each for part in parts for each in part.events), key=_place)
    kept = [each for each in every if not edges or each[0] <= min(edges)][:limit]
    goes_on = {part.partition: part.reached for part in parts}
    # From the end, so that the first one that did not come along is the last one written.
    for (_, partition, position), _ in reversed(every[len(kept) :]):
        goes_on[partition] = position - 1
    return MergedPage(kept, goes_on)


def newest(parts: Sequence[FoundEvents], limit: int) -> MergedPage:
    """The last of what was found backwards. `goes_on`: each partition's first position that is done with."""
    edges = [part.edge for part in parts if part.edge is not None]
    every = sorted((each for part in parts for each in part.events), key=_place)
    kept = [each for each in every if not edges or each[0] >= max(edges)][-limit:]
    goes_on = {part.partition: part.reached for part in parts}
    for (_, partition, position), _ in every[: len(every) - len(kept)]:
        goes_on[partition] = position + 1
    return MergedPage(kept, goes_on)


def _place(each: tuple[Place, Document]) -> Place:
    return each[0]
