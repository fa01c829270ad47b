"""Checks snapshots against the log: what each of them holds must be what a fold of the log up to its cursor gives.

A snapshot is only a short cut for a start, and its hashes prove that it is whole, not that it is true: whoever can write to the
store can also hash anew. Here the log is folded, a partition at a time, and a snapshot compared with that row by row.

Left out is what the log does not say: since when command ids are known, which of them were forgotten, and how far commands of
a topic were read that changed nothing.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, fields, is_dataclass
from itertools import islice
from typing import Final

from cramjam import DecompressionError

from domain.saga import Saga
from infra.log.codec import CloudEventMapper
from infra.log.engine import PartitionLog
from infra.log.port import START, Batch, Cursor
from infra.log.snapshot import PartitionSnapshot, SnapshotArchive
from projections.migrations import MigrationRow
from workers.machine.partition import Partition, ended_sagas_max
from workers.views.snapshotter import copied, rows_in, rows_of
from workers.views.stored_state import revision
from workers.views.views import Views

differences_max: Final = 20
_ids_max: Final = 400_000
"""Twice what a writer keeps at least, and more than it keeps at most: so the fold knows every id that a snapshot may have."""

_NOTHING: Final = object()
_UNREADABLE: Final = (AttributeError, IndexError, KeyError, TypeError, ValueError, DecompressionError)


@dataclass(frozen=True, slots=True)
class SnapshotReport:
    """What was found of a snapshot: `differences` from the log, the first `differences_max` of them. `compared`: whether it
    could be; one that another version of muster has made is left aside at every start, and here.
    """

    partition: int
    position: int
    compared: bool
    differences: tuple[str, ...]


async def verify_snapshots(
    logs: Sequence[PartitionLog], store: SnapshotArchive, mapper: CloudEventMapper
) -> list[SnapshotReport]:
    """A report for each snapshot of each partition, by position. The log must be sound.

    It takes as much memory as the largest partition does in a controller, beside the compressed snapshots of one partition.
    """
    reports: list[SnapshotReport] = []
    for log in logs:
        kept = sorted(await store.kept(log.partition), key=lambda snapshot: snapshot.cursor.position)
        usable = [snapshot for snapshot in kept if snapshot.revision == revision()]
        others = [snapshot for snapshot in kept if snapshot.revision != revision()]
        reports += [SnapshotReport(log.partition, one.cursor.position, False, ()) for one in others]
        if usable:
            reports += await _Comparison(log, mapper, len(logs)).reports(usable)
    return reports


class _Comparison:
    """A fold of one partition, which stops at the cursor of each snapshot."""

    def __init__(self, log: PartitionLog, mapper: CloudEventMapper, partitions: int) -> None:
        self._log = log
        self._number = log.partition
        self._partition = Partition(log.partition, mapper, partitions=partitions, ids_max=_ids_max)
        self._views = Views([log.partition])

    async def reports(self, snapshots: Sequence[PartitionSnapshot]) -> list[SnapshotReport]:
        """A report for each of the snapshots, which are in the order of their positions."""
        found: list[SnapshotReport] = []
        left = list(snapshots)
        async with aclosing(self._log.read(START)) as batches:
            async for batch in batches:
                # The state at a cursor among void records is that behind the batch before them: they are passed with the next.
                while left and left[0].cursor.position < batch.cursor.position:
                    found.append(self._report(left.pop(0), batch))
                if not left:
                    return found
                folded = self._partition.fold(batch)
                self._views.skim(self._number, folded, batch.cursor, batch.voids, batch.began)
                await asyncio.sleep(0)
        return found + [self._report(snapshot, None) for snapshot in left]

    def _report(self, snapshot: PartitionSnapshot, following: Batch | None) -> SnapshotReport:
        differences = islice(self._differences(snapshot, following), differences_max)
        return SnapshotReport(self._number, snapshot.cursor.position, True, tuple(differences))

    def _differences(self, snapshot: PartitionSnapshot, following: Batch | None) -> Iterator[str]:
        yield from self._place(snapshot.cursor, following)
        try:
            yield from self._facts(snapshot)
            yield from self._rows(snapshot)
        except _UNREADABLE as error:
            yield f"it cannot be read: {type(error).__name__}"

    def _place(self, cursor: Cursor, following: Batch | None) -> Iterator[str]:
        """What is wrong with the place that the snapshot claims to be of. `following`: the batch that ends behind it."""
        here = self._partition.cursor
        if following is None and cursor.position > here.position:
            yield f"the log ends at {here.position}"
        elif following is not None and following.records and following.records[0][0] <= cursor.position:
            yield "it is of the middle of a batch"
        elif cursor._replace(position=here.position) != here:
            yield "its cursor is not that of the log there"

    def _facts(self, snapshot: PartitionSnapshot) -> Iterator[str]:
        told, partition = snapshot.facts, self._partition
        if list(map(list, told["terms"])) != list(map(list, self._views.terms[self._number].known)):
            yield "other terms than the log has"
        if told["last_at"] != partition.last_at.isoformat():
            yield "another newest instant than the log has"
        # Void records between the batch and the cursor are counted with the next batch.
        if snapshot.cursor.position == partition.cursor.position and told["voids"] != self._views.voids[self._number]:
            yield "another number of void records than the log has"

    def _rows(self, snapshot: PartitionSnapshot) -> Iterator[str]:
        """Where rows differ, are missing, or are too many."""
        expected = {(kind, key): row for kind, key, row in rows_of(copied(self._partition, self._views))}
        ended = {stream for stream, state in self._partition.streams.items() if _has_ended(state)}
        # Beyond so many, which of those that have ended are still there depends on when a writer was started.
        some_forgotten = len(ended) >= ended_sagas_max
        for kind, key, row in rows_in(snapshot, self._views.tables[self._number]):
            due = expected.pop((kind, key), _NOTHING)
            if due is _NOTHING:
                if not (some_forgotten and _has_ended(row)):
                    yield f"{_named(kind, key)} is not in the log up to there"
            elif row != due:
                yield f"{_named(kind, key)} is otherwise by the log ({', '.join(_fields(row, due))})"
        for kind, key in expected:
            # Which of the oldest ids a writer has forgotten depends on answers that are not in the log.
            if kind != "ids" and not (some_forgotten and key[0] in ended):
                yield f"{_named(kind, key)} is missing"


def _has_ended(state: object) -> bool:
    return (isinstance(state, Saga) and state.ended) or (isinstance(state, MigrationRow) and state.ended_at is not None)


def _named(kind: str, key: Sequence[object]) -> str:
    return f"{kind} {'/'.join(map(str, key))}"


def _fields(found: object, due: object, within: str = "") -> list[str]:
    """The names of the fields that differ. Not their values: checks have secrets in their headers."""
    if type(found) is not type(due) or not is_dataclass(found):
        return [within or "all of it"]
    names = [field.name for field in fields(found)]
    pairs = [(name, getattr(found, name), getattr(due, name)) for name in names]
    return [
        inner
        for name, one, other in pairs
        if one != other
        for inner in _fields(one, other, f"{within}.{name}".lstrip("."))
    ]
