"""The rows of `<prefix>.loads`, followed from the oldest that is kept: in Kafka, and in memory for where there is no Kafka."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from infra.kafka.topic import LOADS, PREFIX, topic_name
from muster.wire.error import NotReady

_POLL_MS: Final = 1_000


class LoadRecord(NamedTuple):
    """A record of the topic; `age_seconds` is how long ago it was recorded, by our clock and the broker's."""

    key: bytes
    value: bytes
    age_seconds: float


class KafkaRows:
    """The rows on Kafka. A reading of its own for each call, which belongs to no group."""

    def __init__(self, bootstrap: str, partitions: int, prefix: str = PREFIX) -> None:
        self._bootstrap, self._topic = bootstrap, topic_name(LOADS, prefix)
        self._here = [TopicPartition(self._topic, number) for number in range(partitions)]

    async def follow(self) -> AsyncGenerator[Sequence[LoadRecord], None]:
        """The records as they come, for ever; an empty list says that there are no more now. Raises NotReady."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=None,  # all partitions are read, by everybody who wants to know
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # the newest of each key count, and few more are kept
            fetch_max_wait_ms=500,
        )
        try:
            await consumer.start()
            # All topics are listed, because to ask for one by name creates it where brokers do so automatically.
            if self._topic not in await consumer.topics():
                raise NotReady(f"there is no topic {self._topic}; a controller creates it when it starts")
            consumer.assign(self._here)
            while True:
                some = await consumer.getmany(timeout_ms=_POLL_MS)
                now = time.time()
                yield [
                    LoadRecord(record.key, record.value, max(now - record.timestamp / 1000, 0.0))
                    for records in some.values()
                    for record in records
                    if record.key is not None and record.value is not None
                ]
        except KafkaError as error:
            raise NotReady(f"{self._topic} cannot be read: {error!r}") from error
        finally:
            await consumer.stop()


class MemoryRows:
    """The rows of this process alone: `put` them, and all who follow get them."""

    def __init__(self) -> None:
        self._records: list[tuple[bytes, bytes, float]] = []
        self._more = asyncio.Condition()

    async def put(self, key: bytes, value: bytes) -> None:
        """The row of this key is this from now on."""
        async with self._more:
            self._records.append((key, value, time.monotonic()))
            self._more.notify_all()

    async def follow(self) -> AsyncGenerator[Sequence[LoadRecord], None]:
        """See `KafkaRows.follow`."""
        place = 0
        while True:
            some, place = self._records[place:], len(self._records)
            yield [LoadRecord(key, value, time.monotonic() - at) for key, value, at in some]
            # As from Kafka, it is said again and again that nothing more has come: some who follow end by that.
            if not some:
                await self._wait(place)

    async def _wait(self, place: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL_MS / 1_000), self._more:
                await self._more.wait_for(lambda: len(self._records) > place)
