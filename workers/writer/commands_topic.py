"""The commands topic: while a partition is written here, its commands are decided and their outcomes published.

A reign resumes at the offset in the newest batch of events, and publishes the outcomes of the log's newest commands again:
a crash between an append and its outcomes loses none of what was accepted. What changed nothing is in no log: its outcomes are
published before a reign is left in order, and lost in a crash. Outcomes come in the commands' order.
That the topic is still the one which was read, and that nothing unread is gone from it, is looked at when a reign begins, and
now and then during it (`workers.writer.commands_start`). Batches that are too large once they are inflated are refused unread
(`infra.kafka.bounded`).
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from domain.catalogue import Answer
from infra.kafka.bounded import RefusedBatch, bound
from infra.kafka.topic import COMMANDS, OUTCOMES, PREFIX, topic_name
from infra.kafka.topic_id import topic_id
from muster.wire.command import Envelope
from muster.wire.error import MusterError, NotReady, Refused, Transient
from muster.wire.problem import facts_of
from workers.writer.commands_start import FoundTopic, Read, start_of
from workers.writer.observer import ChangedItem
from workers.writer.published import claimed_id, envelope_from_json, outcome, parsed_json
from workers.writer.request import AnswerOrError, answer_of
from workers.writer.writer import Writer

log = logging.getLogger(__name__)
unanswered_reads_max: Final = 4
records_per_read_max: Final = 1_000
commands_batch_bytes_max: Final = 16 << 20
key_bytes_max: Final = 1_024
claimed_bytes_max: Final = 1 << 20
read_ms_max: Final = 100
retry_seconds: Final = 1.0
look_every_seconds: Final = 30.0

Refusals = Callable[[Sequence[Envelope]], Awaitable[list[Refused | None]]]


@dataclass(frozen=True, slots=True)
class KafkaClients:
    """How Kafka is spoken to: aiokafka's clients, or others that are made and asked as they are."""

    consumer: Callable[..., AIOKafkaConsumer] = AIOKafkaConsumer
    producer: Callable[..., AIOKafkaProducer] = AIOKafkaProducer
    topic_id: Callable[[str, str], Awaitable[str | None]] = topic_id
    bound: Callable[[AIOKafkaConsumer, int, Callable[[RefusedBatch], None]], None] = bound


AIOKAFKA: Final = KafkaClients()


@dataclass(frozen=True, slots=True)
class _Read:
    """Commands that were read together: for each its key, and its outcome or None, when the writer is to answer it."""

    keys: Sequence[bytes | None]
    outcomes: Sequence[dict[str, Any] | None]
    answers: asyncio.Future[list[AnswerOrError]] | None = None

    def replies(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Key and outcome of each command, in their order, once `answers` is done. Raises the error of one without an answer."""
        answers = iter([] if self.answers is None else self.answers.result())
        for key, known in zip(self.keys, self.outcomes, strict=True):
            found = known or outcome(answer_of(next(answers)))
            yield key or str(found["id"]).encode(), found


class CommandsTopic:
    """One partition's commands; a `ReignObserver` of its writer. `refusals` is what the rules refuse (see `workers.gateway`),
    `clients` how Kafka is spoken to.
    """

    def __init__(
        self,
        bootstrap: str,
        writer: Writer,
        refusals: Refusals,
        prefix: str = PREFIX,
        clients: KafkaClients = AIOKAFKA,
    ) -> None:
        self._bootstrap = bootstrap
        self._clients = clients
        self._writer = writer
        self._refusals = refusals
        self._here = TopicPartition(topic_name(COMMANDS, prefix), writer.number)
        self._outcomes = topic_name(OUTCOMES, prefix)
        self._reigning = asyncio.Event()
        self._too_large: list[RefusedBatch] = []
        self._consuming: asyncio.Task[None] | None = None
        self.position = -1
        self.lag = 0

    def began(self, streams: dict[str, Any]) -> None:
        """Consume."""
        self._reigning.set()

    def changed(self, items: Sequence[ChangedItem]) -> None:
        """Do nothing: outcomes come with the answers."""

    def ended(self) -> None:
        """Stop consuming. The next writer reads again what was not decided."""
        self._reigning.clear()

    async def run(self) -> None:
        """Consume during each reign, for ever."""
        while True:
            await self._reigning.wait()
            # In a task of its own: a Kafka client that is being stopped swallows a cancellation, which would be ours.
            consuming = self._consuming = asyncio.create_task(self._consume())
            try:
                await asyncio.wait([consuming])
            finally:
                consuming.cancel()
                await asyncio.wait([consuming])
            consuming.result()
            await asyncio.sleep(0.05)

    async def published(self) -> None:
        """Return once the outcomes of a reign that has ended are published: of what changed nothing, nobody else knows them."""
        if self._consuming is not None:
            await asyncio.wait([self._consuming])

    async def _consume(self) -> None:
        """Return when the reign has ended and all that was read is answered: by the writer, by the log or by the next reign."""
        reads: asyncio.Queue[_Read | None] = asyncio.Queue(unanswered_reads_max)
        recent = [outcome(answer) for answer in self._writer.partition.recent()]
        read = Read(self._writer.partition.commands_topic, self._writer.partition.commands_offset)
        try:
            async with self._consumer() as consumer, self._producer() as producer, asyncio.TaskGroup() as tasks:
                topic = await self._seek(consumer, read)
                looking = tasks.create_task(self._look(topic))
                tasks.create_task(self._publish(producer, reads))
                await reads.put(_Read([None] * len(recent), recent))
                ended = await self._read_on(consumer, reads)
                looking.cancel()
                # Also when the writer takes no more: what it has answered until then is published.
                await reads.put(None)
            if ended is not None:
                await asyncio.sleep(retry_seconds)
        except* (KafkaError, OSError) as errors:
            log.warning("commands of partition %d: %s", self._writer.number, errors.exceptions[0])
            await asyncio.sleep(retry_seconds)
        except* Transient:
            # The reign is over, or it is another topic: what was not decided is read again, here or by the next writer.
            await asyncio.sleep(retry_seconds)

    async def _seek(self, consumer: AIOKafkaConsumer, read: Read) -> str | None:
        """Go to where this reign begins to read, and tell what was missed. Returns the topic's id."""
        consumer.assign([self._here])
        topic = await self._clients.topic_id(self._bootstrap, self._here.topic)
        first = (await consumer.beginning_offsets([self._here]))[self._here]
        end = (await consumer.end_offsets([self._here]))[self._here]
        start = start_of(read, FoundTopic(topic, first, end))
        if start.why is not None:
            self._writer.commands_lost += start.lost
            self._writer.commands_detail = start.why
            log.error(
                "commands of partition %d: %s",
                self._here.partition,
                start.why,
                extra={"partition": self._here.partition, "offset": start.offset, "lost": start.lost},
            )
        if read.offset is None or (read.topic, read.offset) != (topic, start.offset):
            # Before the first command is given: a batch must not have the new topic with an offset of the old one.
            self._writer.consumes(topic, read.offset if start.why is None else start.offset)
        consumer.seek(self._here, start.offset)
        return topic

    async def _look(self, topic: str | None) -> None:
        """See now and then whether it is still the same topic. Raises NotReady when it is not: it is to be begun anew."""
        while topic is not None:
            await asyncio.sleep(look_every_seconds)
            # In a task of its own, as in `run`: a client that stops swallows a cancellation, and this would look on for ever.
            asked = asyncio.ensure_future(self._clients.topic_id(self._bootstrap, self._here.topic))
            try:
                await asyncio.wait([asked])
            finally:
                asked.cancel()
            if asked.result() != topic:
                raise NotReady(f"{self._here.topic} was created anew", partition=self._here.partition)

    async def _read_on(self, consumer: AIOKafkaConsumer, reads: "asyncio.Queue[_Read | None]") -> Transient | None:
        """Read until the reign is over. Returns what has ended it before: the writer's queue is full, or takes no more."""
        try:
            while self._reigning.is_set():
                await self._read(consumer, reads)
        except Transient as error:
            return error
        return None

    async def _read(self, consumer: AIOKafkaConsumer, reads: "asyncio.Queue[_Read | None]") -> None:
        found = await consumer.getmany(self._here, timeout_ms=read_ms_max, max_records=records_per_read_max)
        records = found.get(self._here)
        while self._too_large and self._reigning.is_set():
            await reads.put(self._unread(self._too_large.pop(0)))
        if records and self._reigning.is_set():
            await reads.put(await self._submitted(records))
            self.position = records[-1].offset
        # Not the last record's offset: the markers of transactions have offsets too, and no reader gets them.
        self.lag = max(0, (consumer.highwater(self._here) or 0) - await consumer.position(self._here))

    def _unread(self, batch: RefusedBatch) -> _Read:
        """Tell of commands that nobody will read. Their ids are not known: the outcome has the place of the first."""
        self._writer.commands_lost += batch.records
        self._writer.commands_detail = batch.error.detail
        log.error(
            "commands of partition %d: %s",
            self._here.partition,
            batch.error.detail,
            extra={"partition": self._here.partition, "offset": batch.first, "lost": batch.records},
        )
        return _Read([None], [self._refused(self._place(batch.first), batch.error)])

    async def _submitted(self, records: Sequence[ConsumerRecord[bytes | None, bytes | None]]) -> _Read:
        """Queue the commands at the writer as one list: with a future for each, a tenth of all work would be theirs."""
        found = [self._parsed(record) for record in records]
        refused = iter(await self._refusals([one for one in found if isinstance(one, Envelope)]))
        judged = [self._judged(one, next(refused)) if isinstance(one, Envelope) else one for one in found]
        taken = [(one, record.offset) for one, record in zip(judged, records, strict=True) if isinstance(one, Envelope)]
        answers = self._writer.submit_all([one for one, _ in taken], [offset for _, offset in taken])
        outcomes = [None if isinstance(one, Envelope) else one for one in judged]
        return _Read([_kept(record.key) for record in records], outcomes, answers)

    def _parsed(self, record: "ConsumerRecord[bytes | None, bytes | None]") -> Envelope | dict[str, Any]:
        """The command, or the outcome of a malformed one."""
        value = record.value or b""
        try:
            return envelope_from_json(value)
        except MusterError as error:
            return self._malformed(value, record.offset, error)

    def _judged(self, envelope: Envelope, refused: Refused | None) -> Envelope | dict[str, Any]:
        return envelope if refused is None else self._refused(envelope.id, refused)

    def _malformed(self, value: bytes, offset: int, error: MusterError) -> dict[str, Any]:
        with contextlib.suppress(MusterError):
            # Also of one that holds a NUL: its sender looks for the outcome under its id. Much more than a command may have is
            # not looked into: as JSON it would take twenty times its bytes.
            id_ = claimed_id(parsed_json(value)[0]) if len(value) <= claimed_bytes_max else ""
            if id_:
                return self._refused(id_, error)
        return self._refused(self._place(offset), error)

    def _place(self, offset: int) -> str:
        return f"{self._here.topic}/{self._here.partition}/{offset}"

    def _refused(self, id_: str, error: MusterError) -> dict[str, Any]:
        number = self._writer.number
        return outcome(Answer(id_, "refused", number, self._writer.partition.cursor.position, error=facts_of(error)))

    async def _publish(self, producer: AIOKafkaProducer, reads: "asyncio.Queue[_Read | None]") -> None:
        """Publish outcomes in order; those that are there at the same time leave as one batch, which costs less than a
        `send` for each.
        """
        batch = producer.create_batch()
        while True:
            # Nothing else is there: a client that waits for an outcome must not wait for the next command.
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
                for key, found in read.replies():
                    value = orjson.dumps(found)
                    if batch.append(timestamp=None, key=key, value=value) is None:
                        batch = await self._sent(producer, batch)
                        batch.append(timestamp=None, key=key, value=value)  # The first record is taken at any size.
            except Transient:
                await self._sent(producer, batch)  # What was answered before the reign ended is published.
                raise

    async def _sent(self, producer: AIOKafkaProducer, batch: BatchBuilder) -> BatchBuilder:
        """Send the batch if it holds anything. Returns the batch to fill next."""
        if batch.record_count() == 0:
            return batch
        await producer.send_batch(batch, self._outcomes, partition=self._here.partition)
        return producer.create_batch()

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = self._clients.consumer(
            bootstrap_servers=self._bootstrap,
            enable_auto_commit=False,  # The offset is in the batches of events, so it is durable together with their effect.
            # Where the offset is not there any more, it is not chosen for us: `_seek` looks at what has happened, and tells.
            auto_offset_reset="none",
            # A command whose transaction was aborted was never given: outboxes and Kafka Streams publish in transactions. An open
            # one holds up the partition until it ends or times out.
            isolation_level="read_committed",
            fetch_max_wait_ms=500,
            max_poll_records=records_per_read_max,
        )
        self._too_large.clear()
        self._clients.bound(consumer, commands_batch_bytes_max, self._too_large.append)
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()

    @asynccontextmanager
    async def _producer(self) -> AsyncIterator[AIOKafkaProducer]:
        producer = self._clients.producer(
            bootstrap_servers=self._bootstrap,
            acks="all",
            enable_idempotence=True,
            linger_ms=1,  # Outcomes come in groups, and a client waits for each.
            max_batch_size=512 * 1024,
        )
        try:
            await producer.start()
            yield producer
        finally:
            await producer.stop()


def _kept(key: bytes | None) -> bytes | None:
    """The key, for the outcome; a huge one could make the outcome larger than the topic allows."""
    return key if key is None or len(key) <= key_bytes_max else None
