"""The commands topic: while a partition is written here, its commands are decided and their outcomes published.

A claimer resumes at the offset that the newest batch of events carries, and republishes the outcomes of the log's newest
commands: at least once, never different. Commands are decided in their order; outcomes are published in the same order.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from domain.catalogue import Answer
from domain.error import MusterError, NotReady
from infra.topic import COMMANDS, OUTCOMES, PREFIX, topic_name
from workers.wire import claimed_id, envelope_from_json, json_from, outcome
from workers.writer import Writer

log = logging.getLogger(__name__)
unanswered_max: Final = 4_000
records_per_read_max: Final = 1_000
retry_seconds: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Pending:
    """A command's outcome, or the future that brings it."""

    key: bytes | None
    outcome: dict[str, Any] | asyncio.Future[Answer]


class CommandsTopic:
    """One partition's commands; a `ReignObserver` of its writer."""

    def __init__(self, bootstrap: str, writer: Writer, prefix: str = PREFIX) -> None:
        self._bootstrap = bootstrap
        self._writer = writer
        self._here = TopicPartition(topic_name(COMMANDS, prefix), writer.number)
        self._outcomes = topic_name(OUTCOMES, prefix)
        self._reigning = asyncio.Event()
        self.position = -1
        self.lag = 0

    def began(self, streams: dict[str, Any]) -> None:
        """Consume."""
        self._reigning.set()

    def changed(self, stream: str, item: str, part: Any) -> None:
        """Nothing: outcomes come with the answers."""

    def ended(self) -> None:
        """Consume no more; what was not decided is read again by the next writer."""
        self._reigning.clear()

    async def run(self) -> None:
        """Consume during each reign, for ever."""
        while True:
            await self._reigning.wait()
            consuming = asyncio.create_task(self._consume())
            try:
                while self._reigning.is_set() and not consuming.done():
                    await asyncio.wait([consuming], timeout=0.1)
            finally:
                consuming.cancel()
                # Waited for, not awaited: our own cancellation must not pass for the consumer's.
                await asyncio.wait([consuming])
            if not consuming.cancelled() and (error := consuming.exception()) is not None:
                raise error
            await asyncio.sleep(0.05)

    async def _consume(self) -> None:
        pending: asyncio.Queue[_Pending] = asyncio.Queue(unanswered_max)
        recent = self._writer.partition.recent()
        offset = self._writer.partition.commands_offset
        try:
            async with self._consumer() as consumer, self._producer() as producer, asyncio.TaskGroup() as tasks:
                await self._seek(consumer, offset)
                tasks.create_task(self._publish(producer, pending))
                for answer in recent:
                    await pending.put(_Pending(None, outcome(answer)))
                while True:
                    await self._read(consumer, pending)
        except* (KafkaError, OSError) as errors:
            log.warning("commands of partition %d: %s", self._writer.number, errors.exceptions[0])
            await asyncio.sleep(retry_seconds)
        except* NotReady:
            # The reign is over, or the writer's queue is full: what was not decided is read again, here or by the next one.
            await asyncio.sleep(retry_seconds)

    async def _seek(self, consumer: AIOKafkaConsumer, offset: int | None) -> None:
        consumer.assign([self._here])
        beginning = (await consumer.beginning_offsets([self._here]))[self._here]
        consumer.seek(self._here, max(beginning, offset or 0))

    async def _read(self, consumer: AIOKafkaConsumer, pending: "asyncio.Queue[_Pending]") -> None:
        found = await consumer.getmany(self._here, timeout_ms=500, max_records=records_per_read_max)
        for record in found.get(self._here, []):
            self.position = record.offset
            await pending.put(_Pending(record.key, self._submitted(record.value or b"", record.offset)))
        self.lag = (consumer.highwater(self._here) or 0) - self.position - 1

    def _submitted(self, value: bytes, offset: int) -> "dict[str, Any] | asyncio.Future[Answer]":
        try:
            envelope = envelope_from_json(value)
        except MusterError as error:
            return self._malformed(value, offset, error)
        return self._writer.submit(envelope, offset)

    def _malformed(self, value: bytes, offset: int, error: MusterError) -> dict[str, Any]:
        with contextlib.suppress(MusterError):
            id_ = claimed_id(json_from(value))
            if id_:
                return self._refused(id_, error)
        return self._refused(f"{self._here.topic}/{self._here.partition}/{offset}", error)

    def _refused(self, id_: str, error: MusterError) -> dict[str, Any]:
        number = self._writer.number
        return outcome(Answer(id_, "refused", number, self._writer.partition.cursor.position, error=error.facts()))

    async def _publish(self, producer: AIOKafkaProducer, pending: "asyncio.Queue[_Pending]") -> None:
        """Publish outcomes in order, those that are there at the same time as one batch: a `send` of each costs 4 µs more, of
        80 that a command takes.
        """
        batch = producer.create_batch()
        while True:
            if pending.empty():
                batch = await self._sent(producer, batch)
            item = await pending.get()
            if isinstance(item.outcome, asyncio.Future) and not item.outcome.done():
                batch = await self._sent(producer, batch)
            told = item.outcome if isinstance(item.outcome, dict) else outcome(await item.outcome)
            record = {"key": item.key or str(told["id"]).encode(), "value": orjson.dumps(told), "timestamp": None}
            if batch.append(**record) is None:
                batch = await self._sent(producer, batch)
                batch.append(**record)  # The first record is taken at any size.

    async def _sent(self, producer: AIOKafkaProducer, batch: BatchBuilder) -> BatchBuilder:
        """Send the batch, if there is something in it; one to go on with."""
        if batch.record_count() == 0:
            return batch
        await producer.send_batch(batch, self._outcomes, partition=self._here.partition)
        return producer.create_batch()

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            enable_auto_commit=False,  # The consumed offset is in the events' batches, together with what came of it.
            auto_offset_reset="earliest",
            fetch_max_wait_ms=500,
            max_poll_records=records_per_read_max,
        )
        await consumer.start()
        try:
            yield consumer
        finally:
            await consumer.stop()

    @asynccontextmanager
    async def _producer(self) -> AsyncIterator[AIOKafkaProducer]:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=1,  # Outcomes come in groups, and a client waits for each.
            max_batch_size=512 * 1024,
        )
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()
