"""Reads one partition on Kafka as a chain: from a cursor, by whole batches, to its end or for ever.

A consumer with a manual assignment and no group; each reading has its own, and closes it. aiokafka's consumers have
been seen to stall after a broker's restart, so a reading that hears nothing from the broker is not believed to be at
the end: `read` gives up with NotReady, `tail` starts another consumer at its cursor.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CorruptRecordException, KafkaError, OffsetOutOfRangeError

from domain.error import Corrupt, CursorRefused, NotReady
from infra.chain import Chain, link
from infra.log import Batch, Cursor
from infra.read_ahead import ReadAhead, is_long

Record = tuple[int, bytes | None, bytes]

RECORDS_PER_STEP_MAX: Final = 500
"""Records folded before other tasks get a turn: about 4 ms."""

_POLL_SECONDS: Final = 0.5
_STOP_TIMEOUT_SECONDS: Final = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class KafkaReader:
    """How to read a partition; each call of `read` and `tail` is a reading of its own.

    `stuck_seconds`: how long nothing may be heard from the broker. `fetch_bytes_max`: the size of a fetch; a larger
    record batch still comes whole.
    """

    bootstrap: str
    topic: str
    partition: int
    fetch_bytes_max: int
    stuck_seconds: float
    client_options: Mapping[str, object]

    async def read(
        self, after: Cursor, end: int | None = None, ahead: ReadAhead | None = None
    ) -> AsyncGenerator[Batch, None]:
        """The batches behind the cursor and before position `end`; None: the log's end as it is now. `ahead` may read them."""
        async with self._consumer() as consumer:
            if end is None:
                end = await self._end(consumer)
            if end <= after.position:
                raise self._refused(after, f"the log ends at {end - 1}")
            if ahead is None or self.client_options or not is_long(after, end - 1):
                async with aclosing(self._batches(consumer, after, end)) as batches:
                    async for batch in batches:
                        yield batch
                return
        source = ("kafka", self.bootstrap, self.topic, self.partition, self.fetch_bytes_max, self.stuck_seconds)
        async with aclosing(ahead.read(source, partial(self.read, end=end), after, end - 1)) as batches:
            async for batch in batches:
                yield batch

    async def tail(self, after: Cursor) -> AsyncGenerator[Batch, None]:
        """The batches behind the cursor, for ever. Waits while the broker is away."""
        cursor = after
        while True:
            try:
                async with self._consumer() as consumer:
                    end = await self._end(consumer)
                    if end <= cursor.position:
                        raise self._refused(cursor, f"the log ends at {end - 1}")
                    async with aclosing(self._batches(consumer, cursor, None)) as batches:
                        async for batch in batches:
                            cursor = batch.cursor
                            yield batch
            except NotReady as error:
                _log.warning("reading goes on at position %d: %s", cursor.position + 1, error)
            await asyncio.sleep(_POLL_SECONDS)

    async def fetch(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Up to `limit` records behind position `after`, as they stand there."""
        found: list[tuple[int, bytes]] = []
        async with self._consumer() as consumer:
            end = min(await self._end(consumer), after + 1 + limit)
            async with aclosing(self._records(consumer, after + 1, end)) as fetches:
                async for records in fetches:
                    found.extend((position, value) for position, _, value in records)
        return found

    async def _batches(self, consumer: AIOKafkaConsumer, after: Cursor, end: int | None) -> AsyncGenerator[Batch, None]:
        chain, unproven = Chain(self.partition, after), after.head_position >= 0
        # The head's own record is read again: it proves that this is the log which the cursor is from.
        start = after.head_position if unproven else after.position + 1
        async with aclosing(self._records(consumer, start, end)) as fetches:
            async for records in fetches:
                if unproven and records:
                    self._prove(after, records[0])
                    unproven = False
                for batch in chain.follow(record for record in records if record[0] > after.position):
                    yield batch
                if not records:
                    yield Batch((), chain.cursor)

    async def _records(
        self, consumer: AIOKafkaConsumer, start: int, end: int | None
    ) -> AsyncGenerator[Sequence[Record], None]:
        """The records from position `start` on, as they come. Without an `end`, an empty list says: there are no more yet."""
        here, clock = self._here, asyncio.get_running_loop().time
        consumer.seek(here, start)
        position, step, heard, heard_at = start, RECORDS_PER_STEP_MAX, None, clock()
        poll_ms = int(min(_POLL_SECONDS, self.stuck_seconds / 4) * 1000)
        while end is None or position < end:
            try:
                with self._answers(position):
                    fetched = await consumer.getmany(here, timeout_ms=poll_ms, max_records=step)
                    passed = int(await consumer.position(here))
            except CorruptRecordException:
                if step == 1:
                    raise self._corrupt(position, "the record batch does not match its checksum") from None
                # One by one: what stands before the damage is still history, and its position is wanted exactly.
                step = 1
                consumer.seek(here, position)
                continue
            records: list[Record] = [
                (record.offset, record.key or b"", record.value or b"")
                for record in fetched.get(here, ())
                if end is None or record.offset < end
            ]
            if records:
                yield records
                position = records[-1][0] + 1
            if passed > position and (end is None or position < end):
                # A transaction's marker, or what a deletion left behind: nothing that a reader gets to see.
                raise self._corrupt(position, f"record {position} is missing")
            answered, behind = consumer.last_poll_timestamp(here), (consumer.highwater(here) or 0) > position
            if records or (answered != heard and not behind):
                heard, heard_at = answered, clock()
                if not records and end is None:
                    yield []
            elif clock() - heard_at > self.stuck_seconds:
                raise NotReady(f"{self._named} has been silent for {self.stuck_seconds:g} s", partition=self.partition)

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=None,  # partitions are assigned by hand: no group, no commits, no rebalance
            enable_auto_commit=False,
            auto_offset_reset="none",  # a position that the log lacks is an error of ours to judge, never skipped
            isolation_level="read_uncommitted",  # the chain says what is history; there are no transactions
            check_crcs=True,  # a batch damaged on the broker's disk or on the way
            fetch_min_bytes=1,  # the broker answers a waiting fetch as soon as one record is there
            fetch_max_wait_ms=int(_POLL_SECONDS * 1000),  # and otherwise after this time: its sign of life
            max_partition_fetch_bytes=self.fetch_bytes_max,
            request_timeout_ms=int(self.stuck_seconds * 1000),
            retry_backoff_ms=50,
            **self.client_options,
        )
        consumer.assign([self._here])
        try:
            with self._answers(0):
                await consumer.start()
            yield consumer
        finally:
            # Left to itself if it hangs: it holds nothing but a connection.
            await asyncio.wait({asyncio.ensure_future(consumer.stop())}, timeout=_STOP_TIMEOUT_SECONDS)

    async def _end(self, consumer: AIOKafkaConsumer) -> int:
        """One past the last position. Asked before the first fetch: behind a waiting one it would wait, too."""
        with self._answers(0):
            return int((await consumer.end_offsets([self._here]))[self._here])

    @contextmanager
    def _answers(self, position: int) -> Iterator[None]:
        """Kafka's errors as ours; a batch's wrong checksum is let through."""
        try:
            yield
        except CorruptRecordException:
            raise
        except OffsetOutOfRangeError:
            if position == 0:
                raise self._corrupt(0, "record 0 is missing") from None
            raise CursorRefused(
                f"{self._named} does not reach position {position}; rebuild from the start",
                partition=self.partition,
                position=position,
            ) from None
        except (KafkaError, OSError, TimeoutError) as error:
            raise NotReady(f"{self._named} cannot be read: {error!r}", partition=self.partition) from error

    def _prove(self, after: Cursor, first: Record) -> None:
        position, key, value = first
        if position != after.head_position or link(key or b"", value) != after.head:
            raise self._refused(after, f"another record stands at {after.head_position}")

    @property
    def _here(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)

    @property
    def _named(self) -> str:
        return f"{self.topic}-{self.partition} on Kafka at {self.bootstrap}"

    def _refused(self, after: Cursor, reason: str) -> CursorRefused:
        return CursorRefused(
            f"partition {self.partition} is not the log that was read up to position {after.position}: {reason}. "
            "Rebuild from the start what was built from it.",
            partition=self.partition,
            position=after.position,
            reason=reason,
        )

    def _corrupt(self, position: int, reason: str) -> Corrupt:
        return Corrupt(
            f"partition {self.partition} is damaged at position {position}: {reason}",
            partition=self.partition,
            position=position,
            reason=reason,
        )
