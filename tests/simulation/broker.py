"""A Kafka behind a bad network: records get lost, come late, or lose their acknowledgement; the broker dies, forgets,
and runs out of disk.

It stands where `Appends` and `KafkaReader` stand below a `KafkaLog`. What it knows of producers is what a partition's leader
knows: a batch of an older epoch is refused once a newer one has been seen *in that partition*, sequences have no gaps, and
both only until it forgets the producer.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime
from functools import partial
from itertools import count
from random import Random
from typing import Final

from aiokafka import TopicPartition
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaConnectionError,
    KafkaError,
    KafkaStorageError,
    OutOfOrderSequenceNumber,
)

from infra.kafka.appends import Identity
from infra.kafka.log import KafkaLog
from infra.kafka.topic import EVENTS, LIVENESS, topic_name
from infra.log.ahead import ReadAhead
from infra.log.chain import Chain, link
from infra.log.port import Batch, Cursor
from muster.wire.error import CursorRefused, NotReady

Record = tuple[bytes, bytes]

poll_seconds: Final = 0.5


class Broker:
    """One partition of events and its beats, for all controllers. `calm`: nothing goes wrong any more; `reliable`: it is only
    slow.
    """

    def __init__(self, chance: Random, time: Callable[[], float], number: int = 0) -> None:
        self.number = number
        self.calm = self.reliable = False
        self.log: list[Record] = []
        self._chance, self._time = chance, time
        self._topics: dict[str, list[Record]] = {topic_name(EVENTS): self.log, topic_name(LIVENESS): []}
        self._ids = count(1)
        self._newest: dict[str, Identity] = {}
        self._seen: dict[tuple[str, int], tuple[int, int]] = {}
        self._away_until = self._full_until = 0.0

    def dies(self, seconds: float) -> None:
        """It is back after so long; what is on its way until then is lost."""
        self._away_until = self._time() + seconds

    def fills(self, seconds: float) -> None:
        """Its disk is full for so long: what is there can be read, and nothing is added to it."""
        self._full_until = self._time() + seconds

    def forgets(self) -> None:
        """All producers are unknown from now on, as after a day without a batch of theirs."""
        self._newest.clear()
        self._seen.clear()

    def opened(self, clock: Callable[[], datetime], *, fence: bool) -> KafkaLog:
        """The partition, for one process."""
        return KafkaLog("", self.number, clock=clock, fence=fence, appends=self, reader=self)

    def records(self, start: int = 0) -> list[tuple[int, bytes, bytes]]:
        """(position, key, value) of all records from a position on, as anybody would read them."""
        return [(position, *self.log[position]) for position in range(start, len(self.log))]

    @property
    def full(self) -> bool:
        """Whether there is no room on its disk."""
        return not self.calm and self._time() < self._full_until

    async def answer(self) -> None:
        """A request has gone there and come back. Raises KafkaConnectionError."""
        await asyncio.sleep(self._latency())
        if self.away:
            raise KafkaConnectionError

    @property
    def away(self) -> bool:
        """Whether nobody reaches it."""
        return not self.calm and self._time() < self._away_until

    def _latency(self) -> float:
        if self.calm:
            return 0.001
        if self.reliable:
            return self._chance.choices([0.0, 0.01, 0.1, 0.3], [20, 30, 30, 20])[0]
        return self._chance.choices([0.0, 0.001, 0.01, 0.1, 1.0], [50, 40, 8, 2, 0.2])[0]

    # As `Appends`

    async def identity(self, fence: str | None) -> Identity:
        """The next epoch of the transactional id, or a producer id of its own."""
        await asyncio.sleep(self._latency())
        while self.away:  # noqa: ASYNC110 it is back when its time has come
            await asyncio.sleep(poll_seconds)
        known = self._newest.get(fence) if fence is not None else None
        identity = Identity(next(self._ids), 0) if known is None else known._replace(epoch=known.epoch + 1)
        if fence is not None:
            self._newest[fence] = identity
        return identity

    async def follow(self, partition: TopicPartition) -> None:
        """It leads all partitions."""
        if self.away:
            raise KafkaConnectionError

    async def land(
        self,
        partition: TopicPartition,
        identity: Identity,
        sequence: int,
        records: Sequence[tuple[bytes | None, bytes]],
        *,
        timeout_seconds: float,
    ) -> int:
        """Where the first record landed, if the batch arrives, and if the caller hears of it."""
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[int] = loop.create_future()
        fate = (
            "well"
            if self.calm or self.reliable
            else self._chance.choices(["well", "lost", "unanswered", "late"], [60, 1, 1, 1])[0]
        )
        delay = self._chance.uniform(0.5, 3.0) * timeout_seconds if fate == "late" else self._latency()
        if fate != "lost":  # Whoever sent it may be gone when it arrives.
            batch = [(key or b"", value) for key, value in records]
            answered = fate != "unanswered"
            arrive = partial(self._arrive, partition.topic, identity, sequence, batch, heard if answered else None)
            loop.call_later(delay, arrive)
        async with asyncio.timeout(timeout_seconds):
            return await heard

    def _arrive(
        self,
        topic: str,
        identity: Identity,
        sequence: int,
        records: Sequence[Record],
        heard: asyncio.Future[int] | None,
    ) -> None:
        told: int | KafkaError
        try:
            told = self._append(topic, identity, sequence, records)
        except KafkaError as error:
            told = error
        if heard is not None:
            asyncio.get_running_loop().call_later(self._latency(), _tell, heard, told)

    def _append(self, topic: str, identity: Identity, sequence: int, records: Sequence[Record]) -> int:
        if self.away:
            raise KafkaConnectionError
        if self.full:
            raise KafkaStorageError
        place = topic, identity.producer_id
        epoch, expected = self._seen.get(place, (identity.epoch, sequence))
        if identity.epoch < epoch:
            raise InvalidProducerEpoch
        if sequence != (expected if identity.epoch == epoch else 0):
            raise OutOfOrderSequenceNumber
        self._seen[place] = identity.epoch, sequence + len(records)
        stored = self._topics[topic]
        stored += records
        return len(stored) - len(records)

    async def close(self) -> None:
        """There is nothing to close."""

    # As `KafkaReader`

    async def read(
        self, after: Cursor, end: int | None = None, ahead: ReadAhead | None = None
    ) -> AsyncGenerator[Batch, None]:
        """The batches behind the cursor, in fetches of a few records."""
        await self._reached()
        if after.head_position >= 0 and not self._has(after):
            raise CursorRefused("another log", partition=self.number, position=after.position)
        chain, position = Chain(self.number, after), after.position + 1
        end = len(self.log) if end is None else end
        while position < end:
            upto = min(end, position + self._chance.randrange(1, 30))
            for batch in chain.follow((place, *self.log[place]) for place in range(position, upto)):
                yield batch
            position = upto
            await self._reached()

    async def tail(self, after: Cursor) -> AsyncGenerator[Batch, None]:
        """As `read`, for ever."""
        cursor = after
        while True:
            try:
                async for batch in self.read(cursor):
                    cursor = batch.cursor
                    yield batch
                yield Batch((), cursor)
            except NotReady:
                pass
            await asyncio.sleep(self._chance.uniform(0.0, poll_seconds))

    async def fetch(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """The records behind the position."""
        await self._reached()
        return [(position, value) for position, (_, value) in enumerate(self.log)][after + 1 : after + 1 + limit]

    async def _reached(self) -> None:
        await asyncio.sleep(self._latency())
        if self.away:
            raise NotReady("the broker is away")

    def _has(self, cursor: Cursor) -> bool:
        return cursor.position < len(self.log) and link(*self.log[cursor.head_position]) == cursor.head


def _tell(heard: asyncio.Future[int], told: int | KafkaError) -> None:
    if heard.done():
        return
    if isinstance(told, KafkaError):
        heard.set_exception(told)
    else:
        heard.set_result(told)
