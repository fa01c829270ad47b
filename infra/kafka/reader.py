"""Reads one partition on Kafka as a chain: from a cursor, by whole batches, to its end or for ever.

Each reading has connections of its own, and closes them. One that hears nothing from the broker is not believed to be at
the end: `read` gives up with NotReady, `tail` starts another one at its cursor.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from infra.kafka.fetches import Fetches
from infra.log.ahead import ReadAhead, is_long
from infra.log.chain import Chain, link
from infra.log.port import Batch, Cursor
from muster.wire.error import Corrupt, CursorRefused, NotReady

Record = tuple[int, bytes | None, bytes]

RECORDS_PER_STEP_MAX: Final = 500
"""Records folded before other tasks get a turn: about 4 ms."""

_POLL_SECONDS: Final = 0.5
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
        """The batches after the cursor and before position `end`; None: the log's end as it is now. `ahead` may read them."""
        async with self._fetches() as fetches:
            if end is None:
                end = await self._end(fetches)
            if end <= after.position:
                raise self._refused(after, f"the log ends at {end - 1}")
            if ahead is None or self.client_options or not is_long(after, end - 1):
                async with aclosing(self._batches(fetches, after, end)) as batches:
                    async for batch in batches:
                        yield batch
                return
        source = ("kafka", self.bootstrap, self.topic, self.partition, self.fetch_bytes_max, self.stuck_seconds)
        async with aclosing(ahead.read(source, partial(self.read, end=end), after, end - 1)) as batches:
            async for batch in batches:
                yield batch

    async def tail(self, after: Cursor) -> AsyncGenerator[Batch, None]:
        """The batches after the cursor, for ever. Waits while the broker is away."""
        cursor = after
        while True:
            try:
                async with self._fetches() as fetches:
                    end = await self._end(fetches)
                    if end <= cursor.position:
                        raise self._refused(cursor, f"the log ends at {end - 1}")
                    async with aclosing(self._batches(fetches, cursor, None)) as batches:
                        async for batch in batches:
                            cursor = batch.cursor
                            yield batch
            except NotReady as error:
                _log.warning("reading goes on at position %d: %s", cursor.position + 1, error)
            await asyncio.sleep(_POLL_SECONDS)

    async def fetch(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Up to `limit` records after position `after`, as they are in the log."""
        found: list[tuple[int, bytes]] = []
        async with self._fetches() as fetches:
            end = min(await self._end(fetches), after + 1 + limit)
            async with aclosing(self._records(fetches, after + 1, end)) as steps:
                async for records in steps:
                    found.extend((position, value) for position, _, value in records)
        return found

    async def _batches(self, fetches: Fetches, after: Cursor, end: int | None) -> AsyncGenerator[Batch, None]:
        chain, unproven = Chain(self.partition, after), after.head_position >= 0
        # The head's own record is read again: it proves that this is the log which the cursor is from.
        start = after.head_position if unproven else after.position + 1
        async with aclosing(self._records(fetches, start, end)) as steps:
            async for records in steps:
                if unproven and records:
                    self._prove(after, records[0])
                    unproven = False
                for batch in chain.follow(record for record in records if record[0] > after.position):
                    yield batch
                if not records:
                    yield Batch((), chain.cursor)

    async def _records(
        self, fetches: Fetches, position: int, end: int | None
    ) -> AsyncGenerator[Sequence[Record], None]:
        """The records from the position on, as they come. Without an `end`, an empty list says: there are no more yet."""
        if end is not None and position >= end:
            return
        clock = asyncio.get_running_loop().time
        heard_at = clock()
        async with aclosing(fetches.run(position, end)) as coming:
            while True:
                with self._answers(position):
                    fetch = await anext(coming, None)
                if fetch is None:
                    return
                for records in self._unpacked(fetch.batches, position, end):
                    yield records
                    position = records[-1][0] + 1
                    await asyncio.sleep(0)
                if fetch.batches or (end is None and fetch.end <= position):
                    heard_at = clock()
                    if not fetch.batches:
                        yield []
                elif clock() - heard_at > self.stuck_seconds:
                    raise NotReady(
                        f"{self._named} has been silent for {self.stuck_seconds:g} s", partition=self.partition
                    )

    def _unpacked(self, batches: Sequence[Any], position: int, end: int | None) -> Iterator[list[Record]]:
        """The records of the fetched batches from the position on, a step at a time. Raises Corrupt."""
        for batch in batches:
            if not batch.validate_crc():  # Damaged on the broker's disk or on the way.
                first = max(position, batch.base_offset)
                raise self._corrupt(first, "the record batch does not match its checksum")
            # A transaction's marker is nothing that a reader gets to see.
            records = iter(()) if batch.is_control_batch else _records(batch, position, end)
            while step := list(islice(records, RECORDS_PER_STEP_MAX)):
                yield step
                position = step[-1][0] + 1
            passed = batch.next_offset if end is None else min(batch.next_offset, end)
            if passed > position:  # Such a marker, or what a deletion left behind.
                raise self._corrupt(position, f"record {position} is missing")

    @asynccontextmanager
    async def _fetches(self) -> AsyncIterator[Fetches]:
        fetches = Fetches(
            self.bootstrap,
            self._here,
            bytes_max=self.fetch_bytes_max,
            wait_seconds=_POLL_SECONDS,
            silent_seconds=self.stuck_seconds,
            client_options=self.client_options,
        )
        try:
            with self._answers(0):
                await fetches.start()
            yield fetches
        finally:
            await fetches.close()

    async def _end(self, fetches: Fetches) -> int:
        with self._answers(0):
            return await fetches.end()

    @contextmanager
    def _answers(self, position: int) -> Iterator[None]:
        """Kafka's errors as ours."""
        try:
            yield
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


def _records(batch: Any, first: int, end: int | None) -> Iterator[Record]:
    """Those of the batch that stand in between."""
    for record in batch:
        position = record.offset
        if first <= position and (end is None or position < end):
            yield position, record.key or b"", record.value or b""
