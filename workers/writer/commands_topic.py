"""The commands topic: while a partition is written here, its commands are decided and their outcomes published.

A claimer resumes at the offset that the newest batch of events carries, and republishes the outcomes of the log's newest
commands: at least once, never different. Commands are decided in their order; outcomes are published in the same order.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from domain.catalogue import Answer
from infra.kafka.topic import COMMANDS, OUTCOMES, PREFIX, topic_name
from muster.wire.command import Envelope
from muster.wire.error import MusterError, Transient
from workers.writer.published import claimed_id, envelope_from_json, json_from, outcome
from workers.writer.request import Told, answer_of
from workers.writer.writer import ChangedItem, Writer

log = logging.getLogger(__name__)
unanswered_reads_max: Final = 4
records_per_read_max: Final = 1_000
read_ms_max: Final = 100
retry_seconds: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Read:
    """Commands that were read together: each one's key and outcome, None for those whose outcomes the writer will tell."""

    keys: Sequence[bytes | None]
    outcomes: Sequence[dict[str, Any] | None]
    answers: asyncio.Future[list[Told]] | None = None

    def told(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Key and outcome of each command, in their order, once it is done. Raises what a command has instead of an answer."""
        answers = iter([] if self.answers is None else self.answers.result())
        for key, known in zip(self.keys, self.outcomes, strict=True):
            told = known or outcome(answer_of(next(answers)))
            yield key or str(told["id"]).encode(), told


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

    def changed(self, items: Sequence[ChangedItem]) -> None:
        """Nothing: outcomes come with the answers."""

    def ended(self) -> None:
        """Consume no more; what was not decided is read again by the next writer."""
        self._reigning.clear()

    async def run(self) -> None:
        """Consume during each reign, for ever."""
        while True:
            await self._reigning.wait()
            # In a task of its own: a client of Kafka's that is being stopped swallows a cancellation, which would be ours.
            consuming = asyncio.create_task(self._consume())
            try:
                await asyncio.wait([consuming])
            finally:
                consuming.cancel()
                await asyncio.wait([consuming])
            consuming.result()
            await asyncio.sleep(0.05)

    async def _consume(self) -> None:
        """Until the reign ends, and all that was read has its answers: what waits at the writer then is answered by what the
        log says, or by its next reign.
        """
        reads: asyncio.Queue[_Read | None] = asyncio.Queue(unanswered_reads_max)
        recent = [outcome(answer) for answer in self._writer.partition.recent()]
        offset = self._writer.partition.commands_offset
        try:
            async with self._consumer() as consumer, self._producer() as producer, asyncio.TaskGroup() as tasks:
                await self._seek(consumer, offset)
                tasks.create_task(self._publish(producer, reads))
                await reads.put(_Read([None] * len(recent), recent))
                while self._reigning.is_set():
                    await self._read(consumer, reads)
                await reads.put(None)
        except* (KafkaError, OSError) as errors:
            log.warning("commands of partition %d: %s", self._writer.number, errors.exceptions[0])
            await asyncio.sleep(retry_seconds)
        except* Transient:
            # The reign is over, or the writer's queue is full: what was not decided is read again, here or by the next one.
            await asyncio.sleep(retry_seconds)

    async def _seek(self, consumer: AIOKafkaConsumer, offset: int | None) -> None:
        consumer.assign([self._here])
        beginning = (await consumer.beginning_offsets([self._here]))[self._here]
        consumer.seek(self._here, max(beginning, offset or 0))

    async def _read(self, consumer: AIOKafkaConsumer, reads: "asyncio.Queue[_Read | None]") -> None:
        found = await consumer.getmany(self._here, timeout_ms=read_ms_max, max_records=records_per_read_max)
        records = found.get(self._here)
        if records and self._reigning.is_set():
            await reads.put(self._submitted(records))
            self.position = records[-1].offset
        self.lag = (consumer.highwater(self._here) or 0) - self.position - 1

    def _submitted(self, records: Sequence[ConsumerRecord[bytes | None, bytes | None]]) -> _Read:
        """Queue the commands at the writer, as one list: a future and a task's turn for each would be a tenth of the work."""
        envelopes: list[Envelope] = []
        offsets: list[int] = []
        outcomes: list[dict[str, Any] | None] = []
        for record in records:
            value = record.value or b""
            try:
                envelopes.append(envelope_from_json(value))
                offsets.append(record.offset)
                outcomes.append(None)
            except MusterError as error:
                outcomes.append(self._malformed(value, record.offset, error))
        answers = self._writer.submit_all(envelopes, offsets)
        return _Read([record.key for record in records], outcomes, answers)

    def _malformed(self, value: bytes, offset: int, error: MusterError) -> dict[str, Any]:
        with contextlib.suppress(MusterError):
            id_ = claimed_id(json_from(value))
            if id_:
                return self._refused(id_, error)
        return self._refused(f"{self._here.topic}/{self._here.partition}/{offset}", error)

    def _refused(self, id_: str, error: MusterError) -> dict[str, Any]:
        number = self._writer.number
        return outcome(Answer(id_, "refused", number, self._writer.partition.cursor.position, error=error.facts()))

    async def _publish(self, producer: AIOKafkaProducer, reads: "asyncio.Queue[_Read | None]") -> None:
        """Publish outcomes in order, those that are there at the same time as one batch: a `send` of each costs 4 µs more, of
        80 that a command takes.
        """
        batch = producer.create_batch()
        while True:
            if reads.empty():
                batch = await self._sent(producer, batch)
            read = await reads.get()
            if read is None:
                await self._sent(producer, batch)
                return
            if read.answers is not None and not read.answers.done():
                batch = await self._sent(producer, batch)
                await read.answers
            try:
                for key, told in read.told():
                    value = orjson.dumps(told)
                    if batch.append(timestamp=None, key=key, value=value) is None:
                        batch = await self._sent(producer, batch)
                        batch.append(timestamp=None, key=key, value=value)  # The first record is taken at any size.
            except Transient:
                await self._sent(producer, batch)  # What was answered before the reign ended is told.
                raise

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
