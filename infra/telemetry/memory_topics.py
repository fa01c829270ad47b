"""Topics in memory, for a worker without Kafka: what is published stands there, and can be read again."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from infra.telemetry.past import HeardRecord, PastRange, records_max
from infra.telemetry.publisher import Outgoing, Published

_POLL_SECONDS: Final = 0.2


class MemoryTopics:
    """Records by topic and partition; `now_ms` says when each is recorded."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._records: dict[tuple[str, int], list[HeardRecord]] = {}
        self._more = asyncio.Condition()

    async def publish(self, records: Sequence[Outgoing], timeout_seconds: float) -> list[Published]:
        """See `workers.telemetry.desk.Publisher`; all is acknowledged at once."""
        published = []
        async with self._more:
            for one in records:
                here = self._records.setdefault((one.topic, one.partition), [])
                here.append(HeardRecord(len(here), self._now_ms(), one.key, one.value))
                published.append(Published(here[-1].offset, here[-1].recorded_ms))
            self._more.notify_all()
        return published

    def of(self, topic: str, partition: int) -> list[HeardRecord]:
        """All records of the partition."""
        return list(self._records.get((topic, partition), ()))

    def reader(self, topic: str, partition: int, since_ms: int, first: int) -> "MemoryPast":
        """See `infra.telemetry.past.PastReader`."""
        return MemoryPast(self, self._more, topic, partition, since_ms, first)


class MemoryPast:
    """As `PastReader`, in memory."""

    def __init__(
        self, topics: MemoryTopics, more: asyncio.Condition, topic: str, partition: int, since_ms: int, first: int
    ) -> None:
        self._topics, self._more, self._topic, self._partition = topics, more, topic, partition
        known = topics.of(topic, partition)
        since = next((record.offset for record in known if record.recorded_ms >= since_ms), len(known))
        self.past = PastRange(max(first, since), len(known) - 1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        pass

    async def records(self) -> AsyncGenerator[Sequence[HeardRecord], None]:
        """See `PastReader.records`."""
        place = self.past.first
        while True:
            some = self._topics.of(self._topic, self._partition)[place : place + records_max]
            place += len(some)
            yield some
            # As from Kafka, whoever reads has a turn though nothing comes.
            if not some:
                await self._wait(place)

    async def _wait(self, place: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL_SECONDS), self._more:
                await self._more.wait_for(lambda: len(self._topics.of(self._topic, self._partition)) > place)
