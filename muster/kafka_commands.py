"""Commands through Kafka: published on `<prefix>.commands`, answered on `<prefix>.outcomes`.

    async with KafkaCommands("broker:9092") as commands:
        written = await commands.execute(Envelope("id-1", "service/orders", Heartbeat(instance="a")))

Every outcomes partition is followed from its end before the first command leaves, so no outcome is missed. Outcomes
come at least once; the first one counts.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Literal, Self

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from domain.error import MusterError, NotReady, Refused, Timeout, TooLarge, Unreachable
from domain.message import Envelope, root
from muster.answer import OUTCOME, Outcome, Written
from muster.client import document_of

IN_FLIGHT_MAX: Final = 20_000
COMMAND_BYTES_MAX: Final = 524_288
BATCH_BYTES_MAX: Final = 512 * 1024


class KafkaCommands:
    """A publisher of commands that hears their outcomes. `timeout_seconds` is how long each outcome is waited for."""

    def __init__(self, bootstrap: str, prefix: str = "muster", *, timeout_seconds: float = 10.0) -> None:
        self._bootstrap = bootstrap
        self._commands, self._outcomes = f"{prefix}.commands", f"{prefix}.outcomes"
        self._timeout_seconds = timeout_seconds
        self._waiting: dict[str, asyncio.Future[Outcome]] = {}
        self._room = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._producer: Any = None
        self._consumer: Any = None
        self._listener: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            acks="all",
            enable_idempotence=True,  # the producer's own retries neither repeat nor reorder
            linger_ms=1,  # one request carries what a millisecond brings
            max_batch_size=BATCH_BYTES_MAX,
            request_timeout_ms=int(self._timeout_seconds * 1000),
        )
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=None,  # we read all partitions, by hand
            enable_auto_commit=False,
            auto_offset_reset="latest",
            fetch_max_wait_ms=100,
        )
        try:
            await self._producer.start()
            await self._consumer.start()
            await self._follow_from_the_end()
        except KafkaError as error:
            await self._stop()
            raise Unreachable(f"no broker answers at {self._bootstrap}: {error}") from error
        except BaseException:
            await self._stop()
            raise
        self._listener = asyncio.create_task(self._listen(), name="outcomes")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait([self._listener])
        await self._stop()

    async def execute(self, envelope: Envelope) -> Written:
        """Publish the command and wait for its outcome. Raises the refusal, or Timeout: publish it again, same id."""
        return (await self._outcome(envelope)).written()

    async def execute_many(self, envelopes: Sequence[Envelope]) -> list[Outcome]:
        """Publish all, pipelined; the outcomes in the same order, refused and unknown ones among them."""
        return await asyncio.gather(*map(self._told, envelopes))

    async def _told(self, envelope: Envelope) -> Outcome:
        try:
            return await self._outcome(envelope)
        except MusterError as error:
            status: Literal["refused", "unknown"] = "refused" if isinstance(error, Refused) else "unknown"
            told = {"name": error.name, "detail": error.detail, "status": error.status, **error.context}
            return Outcome(id=envelope.id, status=status, error=told)

    async def _outcome(self, envelope: Envelope) -> Outcome:
        known = self._waiting.get(envelope.id)
        if known is not None:
            return await asyncio.shield(known)
        async with self._room:
            outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            self._waiting[envelope.id] = outcome
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    await self._publish(envelope)
                    return await outcome
            except TimeoutError:
                detail = f"no outcome within {self._timeout_seconds} s; publish it again with the same id"
                raise Timeout(detail, command_id=envelope.id) from None
            finally:
                del self._waiting[envelope.id]

    async def _publish(self, envelope: Envelope) -> None:
        if self._listener is None or self._listener.done():
            raise NotReady("nobody listens to the outcomes: use `async with KafkaCommands(…)`, or open it anew")
        value = orjson.dumps(document_of(envelope))
        if len(value) > COMMAND_BYTES_MAX:
            raise TooLarge(f"the command has {len(value)} bytes, over the limit of {COMMAND_BYTES_MAX}")
        try:
            sent = await self._producer.send(self._commands, value, key=root(envelope.stream).encode())
        except KafkaError as error:
            raise Unreachable(f"the command was not published: {error}") from error
        sent.add_done_callback(lambda done: self._sent(envelope.id, done))

    def _sent(self, command_id: str, sent: "asyncio.Future[Any]") -> None:
        failure = None if sent.cancelled() else sent.exception()
        outcome = self._waiting.get(command_id)
        if failure is not None and outcome is not None and not outcome.done():
            outcome.set_exception(Timeout(f"publishing may have failed: {failure}", command_id=command_id))

    async def _follow_from_the_end(self) -> None:
        partitions = await self._partitions_of_outcomes()
        self._consumer.assign(partitions)
        for partition, end in (await self._consumer.end_offsets(partitions)).items():
            self._consumer.seek(partition, end)

    async def _partitions_of_outcomes(self) -> list[TopicPartition]:
        # All topics are listed, because to ask for one by name creates it where brokers do so automatically.
        if self._outcomes not in await self._consumer.topics():
            raise NotReady(f"{self._bootstrap} has no topic {self._outcomes}; start a controller, it creates it")
        known = await self._producer.partitions_for(self._outcomes)
        return [TopicPartition(self._outcomes, partition) for partition in sorted(known)]

    async def _listen(self) -> None:
        try:
            while True:
                for records in (await self._consumer.getmany(timeout_ms=1000)).values():
                    for record in records:
                        self._heard(record.value)
        except KafkaError as error:
            for command_id, outcome in self._waiting.items():
                if not outcome.done():
                    outcome.set_exception(Timeout(f"the outcomes cannot be read: {error}", command_id=command_id))

    def _heard(self, value: bytes) -> None:
        try:
            document = orjson.loads(value)
            outcome = self._waiting.get(document["id"])
            if outcome is not None and not outcome.done():
                outcome.set_result(OUTCOME.validate_python(document))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValidationError):
            return  # no outcome; anybody may write to a topic

    async def _stop(self) -> None:
        for end in (self._producer, self._consumer):
            if end is not None:
                await end.stop()
