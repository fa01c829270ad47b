"""Verification: walks a whole partition and says where history first breaks, if it breaks.

    checked by the log itself   the chain (every byte), terms, whole batches; voids are counted
    checked here                every event decodes, each stream's versions are dense from 0, instants never run backwards;
                                each stream stands in its own partition; on demand that the domain's fold accepts every event

Several processes can walk a long log in segments; see `segment` for how those are joined.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

from domain.message import Recorded
from infra.log.codec import CloudEventMapper
from infra.log.port import START, Batch, Cursor, EventLog
from muster.wire.error import Corrupt
from muster.wire.route import partition_of
from workers.audit.segment import Breach, Segment, VerifyReport, report
from workers.machine.aggregate import AGGREGATES

OnEvents = Callable[[int, int], None]
"""Called with (position, events so far), about every thousand events."""

PROGRESS_EVENTS: Final = 1_000


async def verify(
    log: EventLog, mapper: CloudEventMapper, progress: OnEvents | None = None, *, fold: bool = False
) -> VerifyReport:
    """Walk the partition from its start to its end as of now. Damage is reported, not raised.

    `fold` also lets the domain fold every event; that holds the whole state in memory.
    """
    return report(log.partition, [await walk(log, mapper, progress=progress, fold=fold)])


async def walk(
    log: EventLog,
    mapper: CloudEventMapper,
    after: Cursor = START,
    until: Cursor | None = None,
    progress: OnEvents | None = None,
    *,
    fold: bool = False,
    partitions: int | None = None,
) -> Segment:
    """Walk from one cursor to the other (None, or never reached exactly: the log's end), or to the first breach.

    `partitions`: how many the log has, so that each stream's place can be checked; None: it is not.
    """
    segment = Segment(after, after)
    states: dict[str, Any] | None = {} if fold else None
    reported = 0
    try:
        async with aclosing(log.read(after)) as batches:
            async for batch in batches:
                if partitions is not None:
                    _check_places(segment, log.partition, partitions, batch)
                _take(segment, log.partition, mapper, batch, states)
                if segment.end == until:
                    break
                if segment.events - reported >= PROGRESS_EVENTS:
                    reported = segment.events
                    await asyncio.sleep(0)  # A walk is all computation: others get their turn here.
                    if progress is not None:
                        progress(segment.end.position, reported)
    except Corrupt as error:
        # The log itself has found the damage; what was walked before it stands.
        position = error.context.get("position")
        segment.breach = Breach(int(position) if position is not None else segment.end.position + 1, _reason(error))
    except _Broken as broken:
        segment.breach = broken.breach
    return segment


class _Broken(Exception):
    def __init__(self, position: int, reason: str) -> None:
        super().__init__(reason)
        self.breach = Breach(position, reason)


def _take(
    segment: Segment, partition: int, mapper: CloudEventMapper, batch: Batch, states: dict[str, Any] | None
) -> None:
    versions, last_at, decode = segment.versions, segment.last_at, mapper.recorded
    for position, document in batch.records:
        recorded = decode(partition, position, document)
        stream, version = recorded.stream, recorded.version
        expected = versions.get(stream)
        if expected != version:
            _first_of_stream(segment, stream, version, expected, position)
        versions[stream] = version + 1
        if recorded.at < last_at:
            raise _Broken(position, f"time runs backwards: {recorded.at.isoformat()} after {last_at.isoformat()}")
        last_at = recorded.at
        if states is not None:
            _fold(states, recorded)
    if batch.records and segment.first_at is None:
        segment.first_at = (datetime.fromisoformat(batch.records[0][1]["time"]), batch.records[0][0])
    segment.last_at = last_at
    segment.end = batch.cursor
    segment.events += len(batch.records)
    segment.voids += batch.voids


def _check_places(segment: Segment, partition: int, partitions: int, batch: Batch) -> None:
    # A stream in two partitions has two histories, and both chains are whole: nothing else would find it.
    for position, document in batch.records:
        stream = str(document["subject"])
        if stream not in segment.versions and (due := partition_of(stream, partitions)) != partition:
            raise _Broken(position, f"{stream} stands in partition {partition}, but lives in {due}")


def _first_of_stream(segment: Segment, stream: str, version: int, expected: int | None, position: int) -> None:
    # A stream may have begun before the segment: then its first version is checked when the segments are joined.
    if expected is None and segment.start != START:
        segment.first[stream] = (version, position)
    elif version != (expected or 0):
        raise _Broken(position, f"version {version} of {stream}, where {expected or 0} comes next")


def _fold(states: dict[str, Any], recorded: Recorded) -> None:
    stream, decider = recorded.stream, AGGREGATES.of_event[type(recorded.event)]
    try:
        states[stream] = decider.evolve(states.get(stream, decider.initial), recorded)
    except AssertionError as error:
        raise _Broken(recorded.position, f"the domain cannot fold {recorded.event.type}: {error}") from None


def _reason(error: Corrupt) -> str:
    return str(error.context.get("reason") or error.detail)
