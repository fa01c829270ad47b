"""Replay: the read models as they were at a chosen point of the log, in memory or in a database of their own.

Always from the log's start and by whole batches, so the result is what a controller's readers saw at that moment.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from domain.message import Recorded
from infra.log.codec import CloudEventMapper
from infra.log.port import START, Batch, Cursor, EventLog
from infra.postgres.store import ParkedKey, ReadStore
from muster.wire.error import InvalidCommand
from projections.catalogue import PROJECTIONS
from projections.projection import AnyProjection, Key
from workers.projector.fold import Fold

OnReplayed = Callable[[int, int, int], None]
"""Called with (partition, position, events so far), about every thousand events."""

PROGRESS_EVENTS = 1_000


@dataclass(slots=True)
class Replayed:
    """What a replay found. `rows` and `parked` are by projection's name; `cursors` say where it stopped in each partition."""

    rows: dict[str, dict[Key, Any]]
    parked: dict[str, list[ParkedKey]]
    cursors: dict[int, Cursor] = field(default_factory=dict)
    events: int = 0
    voids: int = 0
    last_at: datetime | None = None


async def replay(
    logs: Sequence[EventLog],
    mapper: CloudEventMapper,
    *,
    to_position: int | Mapping[int, int] | None = None,
    to_time: datetime | None = None,
    projections: Sequence[AnyProjection] = PROJECTIONS,
    into: ReadStore | None = None,
    overwrite: bool = False,
    progress: OnReplayed | None = None,
) -> Replayed:
    """Rebuild the projections from the logs, up to the last whole batch at or before the point; no point: all of it.

    `to_position` is a position, or one per partition (a token; partitions it does not name stay empty). `into`: also write
    the rows there, a partition at a time, each in one transaction. Raises SchemaTaken before anything is read when that
    schema is no replay's and not `overwrite`; Corrupt where the log is damaged; InvalidCommand for a point that is none.
    """
    points = _points(logs, to_position, to_time)
    if into is not None:
        await into.prepare(projections, "replay", overwrite=overwrite)
    names = [projection.name for projection in projections]
    result = Replayed({name: {} for name in names}, {name: [] for name in names})
    for log in logs:
        folds = [Fold(projection) for projection in projections]
        await _replay_one(log, mapper, folds, points[log.partition], to_time, result, progress)
        for fold in folds:
            result.rows[fold.projection.name] |= fold.rows
            result.parked[fold.projection.name] += fold.parked.values()
        if into is not None:
            # For its side effect: it makes the stored cursors, at START, which the commit moves.
            await into.cursors(log.partition, projections)
            # One transaction for each partition: after a crash the tables hold some partitions whole, and no half one.
            changes = {fold.projection: fold.take() for fold in folds}
            await into.commit(log.partition, changes, START, result.cursors[log.partition])
    return result


def _points(
    logs: Sequence[EventLog], to_position: int | Mapping[int, int] | None, to_time: datetime | None
) -> dict[int, int | None]:
    partitions = [log.partition for log in logs]
    if to_time is not None and to_time.tzinfo is None:
        raise InvalidCommand("the time needs an offset: 2026-01-31T12:00:00Z", field="to")
    if to_position is None:
        return dict.fromkeys(partitions)
    if isinstance(to_position, int):
        if len(partitions) > 1:
            raise InvalidCommand("there are several partitions: name a position for each, 0:120,1:77", field="to")
        return {partitions[0]: to_position}
    if unknown := set(to_position) - set(partitions):
        raise InvalidCommand(f"there is no partition {min(unknown)}", field="to")
    return {partition: to_position.get(partition, -1) for partition in partitions}


async def _replay_one(
    log: EventLog,
    mapper: CloudEventMapper,
    folds: Sequence[Fold[Any]],
    to_position: int | None,
    to_time: datetime | None,
    result: Replayed,
    progress: OnReplayed | None,
) -> None:
    result.cursors[log.partition] = START
    reported = result.events
    async for recorded, batch in _decoded(log, mapper):
        # By whole batches: readers never saw half of one, so neither does a replay.
        too_far = to_position is not None and batch.cursor.position > to_position
        if too_far or (to_time is not None and recorded and recorded[-1].at > to_time):
            break
        for fold in folds:
            fold.apply(recorded)
        result.cursors[log.partition] = batch.cursor
        result.events += len(recorded)
        result.voids += batch.voids
        if recorded:
            result.last_at = max(result.last_at or recorded[-1].at, recorded[-1].at)
        if progress is not None and result.events - reported >= PROGRESS_EVENTS:
            reported = result.events
            progress(log.partition, batch.cursor.position, reported)


async def _decoded(log: EventLog, mapper: CloudEventMapper) -> AsyncIterator[tuple[list[Recorded], Batch]]:
    async with aclosing(log.read(START)) as batches:
        async for batch in batches:
            yield mapper.events(log.partition, batch), batch
