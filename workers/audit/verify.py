"""Verification: walks a whole partition and says where history first breaks, if it does.

    checked by the log itself   the chain (every byte), terms, whole batches; voids are counted
    checked here                every event decodes, each stream's versions are dense from 0, instants never run backwards;
                                on demand that the domain's own fold accepts every event

A long log can be walked in segments by several processes. A segment that does not begin at the start assumes the cursor
that the document there names as its predecessor; its result counts only if the segment before arrives at exactly that
cursor, so the joined walk proves no less than one walk does.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from domain.message import Recorded
from infra.log.codec import CloudEventMapper
from infra.log.port import START, Batch, Cursor, EventLog
from muster.wire.error import Corrupt
from workers.machine.aggregate import OF_EVENT

Progress = Callable[[int, int], None]
"""Called with (position, events so far), about every thousand events."""

PROGRESS_EVENTS: Final = 1_000
_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Breach:
    """The first place where history breaks, and how."""

    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a verification found. `head` is the cursor behind the last whole batch that stood the test."""

    partition: int
    events: int
    terms: int
    voids: int
    streams: int
    head: Cursor
    breach: Breach | None


@dataclass(slots=True)
class Segment:
    """A walk over a part of a partition, from `start` to `end`, and what the part before must end with.

    `first` holds by stream the (version, position) of its first event in the segment, `versions` the version that comes next.
    """

    start: Cursor
    end: Cursor
    events: int = 0
    voids: int = 0
    first: dict[str, tuple[int, int]] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    first_at: tuple[datetime, int] | None = None
    last_at: datetime = _LONG_AGO
    breach: Breach | None = None


async def verify(
    log: EventLog, mapper: CloudEventMapper, progress: Progress | None = None, *, fold: bool = False
) -> Report:
    """Walk the partition from its start to its end as of now. Damage is reported, not raised.

    `fold` also lets the domain fold every event; that holds the whole state in memory.
    """
    return report(log.partition, [await walk(log, mapper, progress=progress, fold=fold)])


async def walk(
    log: EventLog,
    mapper: CloudEventMapper,
    after: Cursor = START,
    until: Cursor | None = None,
    progress: Progress | None = None,
    *,
    fold: bool = False,
) -> Segment:
    """Walk from one cursor to the other (None, or never reached exactly: the log's end), or to the first breach."""
    segment = Segment(after, after)
    states: dict[str, Any] | None = {} if fold else None
    told = 0
    try:
        async with aclosing(log.read(after)) as batches:
            async for batch in batches:
                _take(segment, log.partition, mapper, batch, states)
                if segment.end == until:
                    break
                if segment.events - told >= PROGRESS_EVENTS:
                    told = segment.events
                    await asyncio.sleep(0)
                    if progress is not None:
                        progress(segment.end.position, told)
    except Corrupt as error:
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


def _first_of_stream(segment: Segment, stream: str, version: int, expected: int | None, position: int) -> None:
    if expected is None and segment.start != START:
        segment.first[stream] = (version, position)
    elif version != (expected or 0):
        raise _Broken(position, f"version {version} of {stream}, where {expected or 0} comes next")


def _fold(states: dict[str, Any], recorded: Recorded) -> None:
    stream, kind = recorded.stream, OF_EVENT[type(recorded.event)]
    try:
        states[stream], _ = kind.fold(states.get(stream, kind.initial), recorded)
    except AssertionError as error:
        raise _Broken(recorded.position, f"the domain cannot fold {recorded.event.type}: {error}") from None


def report(partition: int, segments: Iterable[Segment]) -> Report:
    """The segments, joined at their ends, as one report; it ends at the first breach or the first loose end."""
    whole = Segment(START, START)
    for segment in segments:
        if whole.breach is not None or segment.start != whole.end:
            break
        _join(whole, segment)
    return Report(*(partition, whole.events, whole.end.term, whole.voids, len(whole.versions), whole.end, whole.breach))


def _join(whole: Segment, segment: Segment) -> None:
    breaches = [segment.breach] if segment.breach is not None else []
    for stream, (version, position) in segment.first.items():
        expected = whole.versions.get(stream, 0)
        if version != expected:
            breaches.append(Breach(position, f"version {version} of {stream}, where {expected} comes next"))
    if segment.first_at is not None and segment.first_at[0] < whole.last_at:
        breaches.append(Breach(segment.first_at[1], "time runs backwards"))
    whole.breach = min(breaches, key=lambda breach: breach.position, default=None)
    whole.end, whole.last_at = segment.end, max(whole.last_at, segment.last_at)
    whole.events += segment.events
    whole.voids += segment.voids
    whole.versions |= segment.versions


def _reason(error: Corrupt) -> str:
    return str(error.context.get("reason") or error.detail)
