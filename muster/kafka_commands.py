"""Commands through Kafka: published on `<prefix>.commands`, answered on `<prefix>.outcomes`.

    async with KafkaCommands("broker:9092") as commands:
        beat = PublishedCommand(type="muster.instance.heartbeat.v1", stream="service/orders", data={"instance": "a"})
        written = await commands.execute(beat)

All partitions of outcomes are followed from their ends before the first command is published, so no outcome is missed.
Outcomes come at least once; the first one counts.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Self

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from muster.durations import seconds_from
from muster.wire.command import Envelope, PublishedCommand, document_of, encoded
from muster.wire.error import InvalidCommand, MusterError, NotReady, Timeout, TooLarge, Unreachable
from muster.wire.problem import facts_of, verdict_of
from muster.wire.registry.answers import OUTCOME, Outcome, Written
from muster.wire.route import partition_of
from muster.wire.stream import root_of

COMMAND_BYTES_MAX: Final = 524_288
BATCH_BYTES_MAX: Final = 524_288
SLICE_COMMANDS_MAX: Final = 2_000
SLICES_IN_FLIGHT_MAX: Final = 4


class _Waiting:
    """Commands that are published together, and their outcomes so far; `done` when all of them are known."""

    def __init__(self, envelopes: Sequence[Envelope | PublishedCommand]) -> None:
        self.envelopes = envelopes
        self.outcomes: list[Outcome | None] = [None] * len(envelopes)
        self.left = len(envelopes)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def hear(self, index: int, outcome: Outcome) -> None:
        """Take over an outcome; only the first one of a command counts."""
        if self.outcomes[index] is None:
            self.outcomes[index] = outcome
            self.left -= 1
            if not self.left and not self.done.done():
                self.done.set_result(None)

    def fail(self, error: MusterError) -> None:
        """End the waiting with this error for all commands without an outcome."""
        for index, envelope in enumerate(self.envelopes):
            if self.outcomes[index] is None:
                self.hear(index, _unanswered(envelope, error))


class KafkaCommands:
    """Publishes commands and waits for their outcomes, each for at most `timeout_seconds`."""

    def __init__(self, bootstrap: str, prefix: str = "muster", *, timeout_seconds: float = 10.0) -> None:
        self._bootstrap = bootstrap
        self._commands, self._outcomes = f"{prefix}.commands", f"{prefix}.outcomes"
        self._timeout_seconds = seconds_from(timeout_seconds, "timeout_seconds")
        self._partitions = 0
        self._waiting: dict[str, list[tuple[_Waiting, int]]] = {}
        self._producer: Any = None
        self._consumer: Any = None
        self._listener: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            acks="all",
            enable_idempotence=True,  # the producer's own retries neither repeat nor reorder
            linger_ms=0,  # while a request is under way the next one gathers what comes
            max_batch_size=BATCH_BYTES_MAX,
            request_timeout_ms=max(1_000, int(self._timeout_seconds * 1000)),
        )
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=None,  # all partitions are read, each from its end
            enable_auto_commit=False,
            auto_offset_reset="latest",
            fetch_max_wait_ms=500,
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

    async def execute(self, envelope: Envelope | PublishedCommand) -> Written:
        """Publish the command and wait for its outcome. Raises the refusal, or Timeout: publish it again, same id."""
        (outcome,) = await self._together([envelope])
        return outcome.written()

    async def execute_many(self, envelopes: Sequence[Envelope | PublishedCommand]) -> list[Outcome]:
        """Publish all, pipelined; the outcomes in the same order, refused and unknown ones among them."""
        room = asyncio.Semaphore(SLICES_IN_FLIGHT_MAX)

        async def part(start: int) -> list[Outcome]:
            # A limit on what is under way: each slice has to be answered within the time that it is given.
            async with room:
                return await self._together(envelopes[start : start + SLICE_COMMANDS_MAX])

        parts = await asyncio.gather(*map(part, range(0, len(envelopes), SLICE_COMMANDS_MAX)))
        return [outcome for some in parts for outcome in some]

    async def _together(self, envelopes: Sequence[Envelope | PublishedCommand]) -> list[Outcome]:
        # Without a listener a command would be executed and its outcome never heard.
        if self._listener is None or self._listener.done():
            raise NotReady("nobody listens to the outcomes: use `async with KafkaCommands(…)`, or open it anew")
        waiting = _Waiting(envelopes)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._publish(waiting)
                await waiting.done
        except TimeoutError:
            waiting.fail(Timeout(f"no outcome within {self._timeout_seconds} s; publish it again with the same id"))
        except KafkaError as error:
            waiting.fail(Timeout(f"publishing may have failed, publish it again with the same id: {error}"))
        finally:
            self._forget(waiting)
        return [outcome for outcome in waiting.outcomes if outcome is not None]

    async def _publish(self, waiting: _Waiting) -> None:
        """Send whole batches, one series per partition, so that a thousand commands cost a few requests."""
        batches: dict[int, Any] = {}
        for index, envelope in enumerate(waiting.envelopes):
            known = self._waiting.setdefault(envelope.id, [])
            # Noted before it is sent: its outcome may come before the sending has returned.
            known.append((waiting, index))
            if len(known) > 1:
                continue  # it is under way already
            try:
                value = _value(envelope)
            except (InvalidCommand, TooLarge) as error:
                # The others are none the worse for it.
                waiting.hear(index, _unanswered(envelope, error))
                continue
            partition, key = partition_of(envelope.stream, self._partitions), root_of(envelope.stream).encode()
            batch = batches.get(partition) or self._batch(batches, partition)
            if batch.append(timestamp=None, key=key, value=value) is None:
                await self._send(batch, partition, waiting)
                self._batch(batches, partition).append(timestamp=None, key=key, value=value)
        for partition, batch in batches.items():
            await self._send(batch, partition, waiting)

    def _batch(self, batches: dict[int, Any], partition: int) -> Any:
        batches[partition] = self._producer.create_batch()
        return batches[partition]

    async def _send(self, batch: Any, partition: int, waiting: _Waiting) -> None:
        batch.close()
        sent = await self._producer.send_batch(batch, self._commands, partition=partition)

        def judge(sent: "asyncio.Future[Any]") -> None:
            failure = None if sent.cancelled() else sent.exception()
            # Without this a batch that could not be sent would be noticed only when the time is over.
            if failure is not None and not waiting.done.done():
                waiting.done.set_exception(failure)

        sent.add_done_callback(judge)

    def _forget(self, waiting: _Waiting) -> None:
        for envelope in waiting.envelopes:
            known = self._waiting.get(envelope.id)
            if known is not None:
                # Another caller may wait for the same id: only this one's places are taken out.
                known[:] = [pair for pair in known if pair[0] is not waiting]
                if not known:
                    del self._waiting[envelope.id]

    async def _follow_from_the_end(self) -> None:
        # All topics are listed, because to ask for one by name creates it where brokers do so automatically.
        topics = await self._consumer.topics()
        for name in (self._commands, self._outcomes):
            if name not in topics:
                raise NotReady(f"{self._bootstrap} has no topic {name}; start a controller, it creates it")
        self._partitions = len(await self._producer.partitions_for(self._commands))
        numbers = sorted(await self._producer.partitions_for(self._outcomes))
        partitions = [TopicPartition(self._outcomes, number) for number in numbers]
        self._consumer.assign(partitions)
        for partition, end in (await self._consumer.end_offsets(partitions)).items():
            self._consumer.seek(partition, end)

    async def _listen(self) -> None:
        try:
            while True:
                for records in (await self._consumer.getmany(timeout_ms=1000)).values():
                    for record in records:
                        self._heard(record.value)
        except KafkaError as error:
            # The commands may have been executed all the same. New ones are refused from here on, since the listener
            # has ended.
            unheard = Timeout(f"the outcomes cannot be read: {error}")
            for waiting in {id(waiting): waiting for known in self._waiting.values() for waiting, _ in known}.values():
                waiting.fail(unheard)

    def _heard(self, value: bytes) -> None:
        try:
            document = orjson.loads(value)
            known = self._waiting.get(document["id"])
            if known is None:
                return
            outcome = OUTCOME.validate_python(document)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValidationError):
            return  # Not an outcome: anybody may write to a topic.
        del self._waiting[document["id"]]
        for waiting, index in known:
            waiting.hear(index, outcome)

    async def _stop(self) -> None:
        for end in (self._producer, self._consumer):
            if end is not None:
                await end.stop()


def _value(envelope: Envelope | PublishedCommand) -> bytes:
    value = encoded(document_of(envelope))
    if len(value) > COMMAND_BYTES_MAX:
        raise TooLarge(f"the command has {len(value)} bytes, over the limit", bytes_max=COMMAND_BYTES_MAX)
    return value


def _unanswered(envelope: Envelope | PublishedCommand, error: MusterError) -> Outcome:
    verdict, facts = verdict_of(error), facts_of(error)
    if verdict == "unknown":  # With the id the sender can publish it again, and it is not done twice.
        facts["command_id"] = envelope.id
    return Outcome(id=envelope.id, status=verdict, error=facts)
