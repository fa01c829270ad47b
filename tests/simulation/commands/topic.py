"""The commands and the outcomes as a Kafka has them: offsets, transactions with their markers, whole batches of outcomes.

Its consumers and producers stand where aiokafka's stand below a `CommandsTopic`, and heed the options that they are made with.
A partition of them is led by the broker that leads the same partition of the events, and is away, slow and full with it.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from types import SimpleNamespace
from typing import Any, Final, Literal

import orjson
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from infra.kafka.topic import OUTCOMES, topic_name
from tests.simulation.broker import Broker
from workers.writer.commands_topic import KafkaClients

outcome_records_max: Final = 16


@dataclass(eq=False)
class Transaction:
    """What a producer has published together."""

    state: Literal["open", "committed", "aborted"] = "open"


@dataclass(frozen=True)
class Entry:
    """A record of the commands; a marker (no `value`) ends its transaction."""

    key: bytes | None
    value: bytes | None
    transaction: Transaction | None


class Topics:
    """The commands and the outcomes; `outcomes` has what each partition's readers have been told, in order."""

    def __init__(self, brokers: Sequence[Broker], chance: Random) -> None:
        self.brokers, self.chance = brokers, chance
        self.commands: list[list[Entry]] = [[] for _ in brokers]
        self.outcomes: list[list[dict[str, Any]]] = [[] for _ in brokers]
        self._open: list[dict[Transaction, int]] = [{} for _ in brokers]

    def publish(self, partition: int, key: bytes | None, value: bytes, transaction: Transaction | None = None) -> bool:
        """Append a command; false: the broker is away or full, so it is not there."""
        broker = self.brokers[partition]
        if broker.away or broker.full:
            return False
        entries = self.commands[partition]
        if transaction is not None:
            self._open[partition].setdefault(transaction, len(entries))
        entries.append(Entry(key, value, transaction))
        return True

    def end(self, transaction: Transaction, state: Literal["committed", "aborted"]) -> None:
        """The transaction is over; its markers have offsets, too."""
        transaction.state = state
        for entries, under_way in zip(self.commands, self._open, strict=True):
            if under_way.pop(transaction, None) is not None:
                entries.append(Entry(None, None, transaction))

    def stable(self, partition: int) -> int:
        """The offset up to which it is known what is committed."""
        return min(self._open[partition].values(), default=len(self.commands[partition]))

    def clients(self, process: "Process") -> KafkaClients:
        """What a process speaks to Kafka with."""

        async def topic_id(bootstrap: str, topic: str) -> str:
            return topic

        return KafkaClients(
            lambda **options: Consumer(self, process, options["isolation_level"]),
            lambda **_: Producer(self, process),
            topic_id,
            lambda *_: None,  # Nothing here is compressed.
        )


@dataclass(eq=False)
class Process:
    """Who made a client; nothing of a process that was killed arrives any more."""

    killed: bool = False


class Consumer:
    """As an `AIOKafkaConsumer` with one partition."""

    def __init__(self, topics: Topics, process: Process, isolation_level: str) -> None:
        self._topics, self._process = topics, process
        self._committed_only = isolation_level == "read_committed"
        self._offset = 0

    async def start(self) -> None:
        """It asks nobody before it has a partition."""

    async def stop(self) -> None:
        """It keeps nothing."""

    def assign(self, places: Sequence[TopicPartition]) -> None:
        """Read this partition."""
        [place] = places
        self._partition = place.partition
        self._broker = self._topics.brokers[place.partition]

    async def beginning_offsets(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Nothing is ever deleted."""
        await self._broker.answer()
        return dict.fromkeys(places, 0)

    async def end_offsets(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """One past the last record that may be read."""
        await self._broker.answer()
        return dict.fromkeys(places, self._end)

    @property
    def _end(self) -> int:
        return self._topics.stable(self._partition) if self._committed_only else len(self._entries)

    @property
    def _entries(self) -> list[Entry]:
        return self._topics.commands[self._partition]

    def seek(self, place: TopicPartition, offset: int) -> None:
        """Go on from there."""
        self._offset = offset

    async def getmany(
        self, place: TopicPartition, *, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[Any]]:
        """The next records; none while the broker is away, as with aiokafka."""
        try:
            await self._broker.answer()
        except KafkaConnectionError:
            await asyncio.sleep(timeout_ms / 1000)
            return {}
        upto = min(self._end, self._offset + self._topics.chance.randrange(1, max_records))
        found = [
            SimpleNamespace(offset=offset, key=entry.key, value=entry.value)
            for offset, entry in enumerate(self._entries[self._offset : upto], self._offset)
            if entry.value is not None and not (self._committed_only and self._aborted(entry))
        ]
        self._offset = upto
        if not found:
            await asyncio.sleep(timeout_ms / 1000)
        return {place: found} if found else {}

    @staticmethod
    def _aborted(entry: Entry) -> bool:
        return entry.transaction is not None and entry.transaction.state == "aborted"

    def highwater(self, place: TopicPartition) -> int:
        """The topic's end."""
        return len(self._entries)

    async def position(self, place: TopicPartition) -> int:
        """What is read next."""
        return self._offset


class Batch:
    """As a `BatchBuilder`."""

    def __init__(self) -> None:
        self.records: list[bytes] = []

    def append(self, *, timestamp: None, key: bytes, value: bytes) -> bool | None:
        """None: it is full."""
        if len(self.records) == outcome_records_max:
            return None
        self.records.append(value)
        return True

    def record_count(self) -> int:
        """How many it holds."""
        return len(self.records)


class Producer:
    """As an `AIOKafkaProducer` of outcomes: what it was given leaves in order, later, and while the process lives."""

    def __init__(self, topics: Topics, process: Process) -> None:
        self._topics, self._process = topics, process
        self._waiting: deque[tuple[int, Batch]] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """It asks nobody before it has a batch."""

    def create_batch(self) -> Batch:
        """An empty one."""
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> None:
        """Take the batch; it is on its way."""
        assert topic == topic_name(OUTCOMES), topic
        self._waiting.append((partition, batch))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        while self._waiting and not self._process.killed:
            partition, batch = self._waiting[0]
            broker = self._topics.brokers[partition]
            try:
                await broker.answer()
            except KafkaConnectionError:
                await asyncio.sleep(0.1)
                continue
            if broker.full:
                await asyncio.sleep(0.1)
            elif not self._process.killed:
                self._waiting.popleft()
                self._topics.outcomes[partition] += map(orjson.loads, batch.records)

    async def stop(self) -> None:
        """What it was given leaves first."""
        if self._sending is not None and not self._process.killed:
            await self._sending
