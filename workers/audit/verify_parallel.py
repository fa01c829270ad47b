"""Verification by several processes: partitions side by side, and a partition that is alone in segments.

The other processes open the log themselves, so `open_logs` must be picklable (`functools.partial` of a module's function)
and must let several open at a time.
"""

import asyncio
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from infra.log.codec import CloudEventMapper
from infra.log.engine import PartitionLog
from infra.log.port import START, Cursor, Document
from muster.wire.error import Corrupt
from workers.audit.segment import Segment, VerifyReport, report
from workers.audit.verify import OnEvents, walk

OpenLogs = Callable[[], AbstractAsyncContextManager[Sequence[PartitionLog]]]
OnTotal = Callable[[int], None]
"""Called with the number of events so far, several times a second."""

PROGRESS_SECONDS: Final = 0.2
SEGMENT_RECORDS_MIN: Final = 50_000
_BATCH_RECORDS_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class _Part:
    """A walk to be done: which log, and from where to where (None: its end)."""

    log: int
    start: Cursor
    until: Cursor | None


async def verify_in_parallel(
    open_logs: OpenLogs,
    mapper: CloudEventMapper,
    progress: OnTotal | None = None,
    *,
    processes: int = 2,
    fold: bool = False,
    segment_records_min: int = SEGMENT_RECORDS_MIN,
) -> list[VerifyReport]:
    """A report for each log, as `verify` gives it, made by up to `processes` processes (this one among them).

    `fold` needs the history from its start, so it walks each partition in one piece, as it does with a partition too
    short for segments of `segment_records_min`.
    """
    async with open_logs() as logs:
        # Partitions are cut only when there are more processes than partitions.
        pieces = 1 if fold else processes // len(logs)
        parts = [
            part for index, log in enumerate(logs) for part in await _parts(index, log, pieces, segment_records_min)
        ]
        segments = await _walked_all(open_logs, logs, mapper, parts, progress, processes=processes, fold=fold)
        return [
            report(log.partition, [found for part, found in zip(parts, segments, strict=True) if part.log == index])
            for index, log in enumerate(logs)
        ]


async def _parts(index: int, log: PartitionLog, pieces: int, records_min: int) -> list[_Part]:
    cursors: list[Cursor] = []
    try:
        end = await _end(log) if pieces > 1 else 0
        pieces = min(pieces, end // records_min)
        for number in range(1, pieces):
            cursor = await _boundary(log, end * number // pieces)
            if cursor is not None:
                cursors.append(cursor)
    except Corrupt:
        cursors = []  # One walk from the start says where the damage begins.
    return [_Part(index, start, until) for start, until in pairwise([START, *cursors, None]) if start is not None]


async def _end(log: PartitionLog) -> int:
    """About where the log ends: found by doubling, then halving."""
    below, above = 0, 1
    while await log.fetch(above, 1):
        below, above = above, 2 * above
    while above - below > max(1, above // 64):
        middle = (below + above) // 2
        below, above = (middle, above) if await log.fetch(middle, 1) else (below, middle)
    return below


async def _boundary(log: PartitionLog, near: int) -> Cursor | None:
    """The cursor between two batches of one term, as the second one's first record names it; the walk must confirm it."""
    for (position, last), (_, first) in pairwise(await log.fetch(near, _BATCH_RECORDS_MAX)):
        if last is not None and first is not None and last.get("batchlast") is True and _same_reign(last, first):
            return Cursor(position, position, bytes.fromhex(first["prev"]), first["term"], first["writer"])
    return None


def _same_reign(last: Document, first: Document) -> bool:
    return last["term"] == first["term"] and last["writer"] == first["writer"] and "streamversion" in first


async def _walked_all(
    open_logs: OpenLogs,
    logs: Sequence[PartitionLog],
    mapper: CloudEventMapper,
    parts: Sequence[_Part],
    progress: OnTotal | None,
    *,
    processes: int,
    fold: bool,
) -> list[Segment]:
    """All walks, in the order of the parts: some in this process, one after the other, the rest in child processes."""
    children = min(processes, len(parts)) - 1
    # Not forked: this process has threads and an event loop, which a fork would copy in any state.
    context = multiprocessing.get_context("spawn")
    # Each number is written by one process only, so no lock is needed; a sum that is a moment old is good enough.
    counts = context.Array("q", max(1, len(parts)), lock=False)
    loop, found = asyncio.get_running_loop(), dict[int, Segment]()

    with ProcessPoolExecutor(max(1, children), context, _remember, (counts,)) as pool:
        elsewhere = {
            number: loop.run_in_executor(pool, _walked, open_logs, mapper, part, number, fold)
            for number, part in enumerate(parts)
            # The others, one of each round, are left to this process.
            if children and number % (children + 1)
        }
        telling = asyncio.create_task(_tell(counts, progress)) if progress is not None else None
        try:
            for number in range(len(parts)):
                if number not in elsewhere:
                    found[number] = await _walk(logs, mapper, parts[number], _counter(counts, number), fold)
            for number, future in elsewhere.items():
                found[number] = await future
        finally:
            if telling is not None:
                telling.cancel()
    return [found[number] for number in range(len(parts))]


async def _walk(
    logs: Sequence[PartitionLog], mapper: CloudEventMapper, part: _Part, count: OnEvents, fold: bool
) -> Segment:
    return await walk(logs[part.log], mapper, part.start, part.until, count, fold=fold, partitions=len(logs))


async def _tell(counts: Any, progress: OnTotal) -> None:
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        progress(sum(counts))


_counts: Any = None


def _remember(counts: Any) -> None:
    # A child process is given the shared memory once, when it starts.
    global _counts
    _counts = counts


def _counter(counts: Any, number: int) -> Callable[[int, int], None]:
    def count(_position: int, events: int) -> None:
        counts[number] = events

    return count


def _walked(open_logs: OpenLogs, mapper: CloudEventMapper, part: _Part, number: int, fold: bool) -> Segment:
    """One part, in a child process."""

    async def walked() -> Segment:
        async with open_logs() as logs:
            return await _walk(logs, mapper, part, _counter(_counts, number), fold)

    return asyncio.run(walked())
