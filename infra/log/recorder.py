"""The event log over any eventsourcing `ApplicationRecorder`: POPO (memory, simulation) and SQLite (embedded engine).

A partition is one originator and a record's position its version, so the recorder's unique key is the conditional
append. The fence needs nothing else: an append after another writer's record is refused. A beat reads: nothing may
follow our last record.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Final, ParamSpec, TypeVar

import orjson
from eventsourcing.persistence import ApplicationRecorder, IntegrityError, PersistenceError, StoredEvent

from infra.log.call_thread import CallThread
from infra.log.chain import Chain, link, term_started
from infra.log.port import START, Batch, Cursor, Document, StorageFailed
from muster.wire.error import Corrupt, CursorRefused, Fenced, Uncertain
from muster.wire.stream import root_of

idle_seconds: Final = 1.0
P = ParamSpec("P")
R = TypeVar("R")


def _utc_now() -> datetime:
    return datetime.now(UTC)


class NothingStored(PersistenceError):
    """A recorder could not store the records, and is sure that none of them is there."""


class Damaged(PersistenceError):
    """What a recorder has stored cannot be read any more, now or later."""


class RecorderLog:
    """One partition in a recorder.

    `thread` makes the recorder's blocking calls (None: they are made in the event loop, as suits memory), `read_thread`
    those of `read`, `tail` and `fetch`. `poll_seconds` is how often `tail` looks for records of other processes; our own
    appends wake it at once.
    """

    def __init__(
        self,
        recorder: ApplicationRecorder,
        partition: int,
        *,
        topic: str = "muster.events",
        source: str = "/muster/default",
        thread: CallThread | None = None,
        read_thread: CallThread | None = None,
        poll_seconds: float = 0.05,
        read_records_max: int = 1_000,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self.partition = partition
        self._recorder = recorder
        self._originator = f"{topic}/{partition}"
        self._source = source
        self._thread = thread
        self._read_thread = read_thread or thread
        self._poll_seconds = poll_seconds
        self._read_records_max = read_records_max
        self._now = now
        self._end: int | None = None  # The position of our last record while we reign.
        self._grown = asyncio.Event()

    async def claim(self, writer: str, after: Cursor) -> Cursor:
        """See `EventLog.claim`."""
        while True:
            async for batch in self.read(after):
                after = batch.cursor
            marker = term_started(after, writer, self._now(), self._source)
            # Refused, a rival has taken this position: we read what it wrote, and try again after that.
            try:
                await self._insert([marker])
            except IntegrityError:
                continue
            except Damaged as error:
                raise self._corrupt(marker.originator_version, str(error)) from error
            except PersistenceError as error:
                # Should it be stored all the same, it is a term of ours without a record: the next claim reads past it.
                raise StorageFailed(f"partition {self.partition} cannot be written: {error}") from error
            [started] = Chain(self.partition, after).follow([(marker.originator_version, None, marker.state)])
            self._end = started.cursor.position
            return started.cursor

    async def append(self, records: Sequence[StoredEvent]) -> None:
        """See `EventLog.append`."""
        # Whatever goes wrong from here on, the reign is over: only a claim finds out where the log ends.
        end, self._end = self._reigning(), None
        # The recorder takes any position that is free: a batch further on would leave a gap, and a gap is damage.
        if records[0].originator_version != end + 1:
            raise Uncertain(f"the batch is for position {records[0].originator_version}, not {end + 1}")
        try:
            await self._insert(records)
        except IntegrityError:
            raise Fenced(f"another writer has appended to partition {self.partition}") from None
        except NothingStored as error:
            raise StorageFailed(f"partition {self.partition} cannot be written: {error}") from error
        except PersistenceError as error:
            raise Uncertain(f"the append to partition {self.partition} failed: {error}") from error
        self._end = end + len(records)

    async def beat(self) -> None:
        """See `EventLog.beat`."""
        end, self._end = self._reigning(), None
        try:
            newer = await self._call(self._recorder.select_events, self._originator, gt=end, limit=1)
        except PersistenceError as error:
            raise Uncertain(f"the beat of partition {self.partition} failed: {error}") from error
        if newer:
            raise Fenced(f"another writer has appended to partition {self.partition}")
        self._end = end

    def _reigning(self) -> int:
        if self._end is None:
            raise Fenced(f"partition {self.partition} was not claimed here")
        return self._end

    async def read(self, after: Cursor) -> AsyncGenerator[Batch, None]:
        """See `EventLog.read`."""
        await self._check(after)
        end = await self._known_end()
        chain, position, step = Chain(self.partition, after), after.position, self._read_records_max
        while end is None or position < end:
            to = position + step
            try:
                records = await self._records(position, to if end is None else min(end, to))
            except Corrupt as error:
                # Of the stretch with the damage each record by itself: all that stands before it is handed out.
                if step > 1:
                    step = 1
                    continue
                raise self._corrupt(position + 1, str(error.context["reason"])) from error
            for batch in chain.follow(records):
                yield batch
            # The chain sees only what is there. Without this, a gap as long as a step would keep us asking for ever.
            if not records:
                raise self._corrupt(position + 1, f"record {position + 1} is missing")
            position = records[-1][0]
        chain.end()

    async def _known_end(self) -> int | None:
        """The position of the last record; None: damage lies before it, and what stands before that can be read all the same."""
        try:
            return await self._last_position()
        except Corrupt:
            return None

    def _corrupt(self, position: int, reason: str) -> Corrupt:
        detail = f"partition {self.partition} is damaged at position {position}: {reason}"
        return Corrupt(detail, partition=self.partition, position=position, reason=reason)

    async def tail(self, after: Cursor) -> AsyncGenerator[Batch, None]:
        """See `EventLog.tail`."""
        await self._check(after)
        chain, position, idle = Chain(self.partition, after), after.position, 1
        while True:
            # Cleared before we look, not after: an append in between sets it again, and the wait below ends at once.
            self._grown.clear()
            stored = await self._select(position, position + self._read_records_max)
            for batch in chain.follow((event.originator_version, None, event.state) for event in stored):
                yield batch
            if stored:
                position = stored[-1].originator_version
                continue
            if idle == 0:
                yield Batch((), chain.cursor)
            idle = (idle + 1) % max(1, round(idle_seconds / self._poll_seconds))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._grown.wait()

    async def fetch(self, after: int, limit: int) -> list[tuple[int, Document | None]]:
        """See `Archive.fetch`."""
        stored = await self._select(after, after + limit)
        return [(event.originator_version, _document(event.state)) for event in stored]

    async def _check(self, cursor: Cursor) -> None:
        if cursor == START:
            return
        known = cursor.head_position < 0  # Only void records were passed so far.
        if not known:
            head = await self._select(cursor.head_position - 1, cursor.head_position)
            known = bool(head) and _link(head[0]) == cursor.head
        if not known or cursor.position > await self._last_position():
            raise CursorRefused(
                f"partition {self.partition} does not hold what the cursor read up to {cursor.position}: rebuild",
                partition=self.partition,
                position=cursor.position,
            )

    async def _last_position(self) -> int:
        last = await self._read(self._recorder.select_events, self._originator, desc=True, limit=1)
        return last[0].originator_version if last else -1

    async def _select(self, after: int, to: int) -> Sequence[StoredEvent]:
        return await self._read(self._recorder.select_events, self._originator, gt=after, lte=to)

    async def _records(self, after: int, to: int) -> Sequence[tuple[int, None, bytes]]:
        """As the chain takes them: position, no key, value."""
        return [(event.originator_version, None, event.state) for event in await self._select(after, to)]

    async def _insert(self, records: Sequence[StoredEvent]) -> None:
        rows = [
            StoredEvent(self._originator, record.originator_version, record.topic, record.state) for record in records
        ]
        await self._call(self._recorder.insert_events, rows)
        self._grown.set()

    async def _call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await _run(self._thread, partial(function, *args, **kwargs))

    async def _read(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await _run(self._read_thread, partial(function, *args, **kwargs))
        except Damaged as error:
            detail = f"partition {self.partition} is damaged: {error}"
            raise Corrupt(detail, partition=self.partition, reason=str(error)) from error
        except PersistenceError as error:
            raise StorageFailed(f"partition {self.partition} cannot be read: {error}") from error


async def _run(thread: CallThread | None, function: Callable[[], R]) -> R:
    return function() if thread is None else await thread.call(function)


def _document(value: bytes) -> Document | None:
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _link(stored: StoredEvent) -> bytes | None:
    document = _document(stored.state)
    return None if document is None else link(root_of(str(document.get("subject"))).encode(), stored.state)
