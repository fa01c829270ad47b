"""Reads a partition of heartbeats again from some seconds ago, with a consumer of its own that belongs to no group.

Faust's consumer cannot do it: a `seek` while partitions are assigned is undone by the seek to what was committed, which follows.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Final, NamedTuple, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from muster.wire.error import NotReady

records_max: Final = 500
"""Records that are given at once: before the next ones others have a turn."""


class HeardRecord(NamedTuple):
    """A record of the heartbeats topic. `recorded_ms` is when Kafka recorded it, in milliseconds since 1970."""

    offset: int
    recorded_ms: int
    key: bytes
    value: bytes


class PastRange(NamedTuple):
    """Where the reading begins, and the last offset that was there when it began (-1: none)."""

    first: int
    last: int


class PastReader:
    """One partition from `since_ms` on, but not before `first`; in `async with`, where `past` says where that is."""

    def __init__(self, bootstrap: str, topic: str, partition: int, *, since_ms: int, first: int = 0) -> None:
        self._here = TopicPartition(topic, partition)
        self._since_ms, self._first = since_ms, first
        self.past = PastRange(first, -1)
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=None,
            enable_auto_commit=False,
            # What was deleted meanwhile is older than all that is asked for.
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
            # A backlog of some seconds comes in a few fetches: 100,000 instances say 4 MB a second.
            max_partition_fetch_bytes=4 * 1024 * 1024,
        )

    async def __aenter__(self) -> Self:
        try:
            await self._consumer.start()
            self._consumer.assign([self._here])
            end = (await self._consumer.end_offsets([self._here]))[self._here]
            found = (await self._consumer.offsets_for_times({self._here: self._since_ms}))[self._here]
            # None: nothing was recorded since then.
            first = max(self._first, end if found is None else found.offset)
            self._consumer.seek(self._here, first)
            self.past = PastRange(first, end - 1)
        except KafkaError as error:
            await self._consumer.stop()
            raise NotReady(f"{self._here.topic}-{self._here.partition} cannot be read: {error!r}") from error
        except BaseException:
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def records(self) -> AsyncGenerator[Sequence[HeardRecord], None]:
        """The records as they come, for ever. Raises NotReady."""
        while True:
            try:
                some = await self._consumer.getmany(self._here, timeout_ms=200, max_records=records_max)
            except KafkaError as error:
                raise NotReady(f"{self._here.topic}-{self._here.partition} cannot be read: {error!r}") from error
            yield [
                HeardRecord(record.offset, record.timestamp, record.key or b"", record.value or b"")
                for record in some.get(self._here, ())
            ]
