"""How controllers know of each other: signs of life on the controllers topic, and an open connection to each peer.

A killed process closes its sockets at once, so its death is known in milliseconds. The 600 ms of silence are for processes
that hang and hosts that are lost. Which signs count is the roll call's to say; those of strangers decide nothing here.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from infra.kafka.topic import CONTROLLERS, EVENTS, LIVENESS, PREFIX, topic_name
from workers.peers.members import Member, Members
from workers.peers.roll_call import RollCall, StrangeSign
from workers.peers.strangers import REMEDY, Strangers

log = logging.getLogger(__name__)
sign_every_seconds: Final = 0.15
look_every_seconds: Final = 0.5
retry_seconds: Final = 0.5
turn_signs_max: Final = 200
"""So many signs are judged before others have their turn: anybody may flood the topic."""


class Presence:
    """Keeps `members` and `strangers` current, and calls `changed` when owners have changed. `recovered`: whether all logs are
    read here.
    """

    def __init__(
        self,
        bootstrap: str,
        members: Members,
        roll: RollCall,
        strangers: Strangers,
        partitions: int,
        *,
        recovered: Callable[[], bool],
        changed: Callable[[], None],
        prefix: str = PREFIX,
    ) -> None:
        self._bootstrap = bootstrap
        self._members, self._roll, self._strangers = members, roll, strangers
        self._partitions = partitions
        self._recovered = recovered
        self._changed = changed
        self._here = TopicPartition(topic_name(CONTROLLERS, prefix), 0)
        self._written = [topic_name(EVENTS, prefix), topic_name(LIVENESS, prefix)]
        self._peers: dict[Member, asyncio.Task[None]] = {}
        self._owners: list[Member | None] = []
        self._joined = False

    async def run(self) -> None:
        """Send signs of life and listen to those of others, for ever. When cancelled, says that this controller leaves."""
        try:
            while True:
                try:
                    async with self._producer() as producer, self._consumer() as consumer, asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._announce(producer))
                        tasks.create_task(self._listen(consumer))
                        tasks.create_task(self._look_after_strangers(consumer))
                except* (KafkaError, OSError) as errors:
                    log.warning("presence: %s", errors.exceptions[0])
                await asyncio.sleep(retry_seconds)
        finally:
            for task in self._peers.values():
                task.cancel()

    async def _announce(self, producer: AIOKafkaProducer) -> None:
        try:
            while True:
                await producer.send_and_wait(self._here.topic, self._roll.sign(self._state()), partition=0)
                await asyncio.sleep(sign_every_seconds)
        finally:
            # With it peers take over at once; without it (a crash) they take over when the connection closes.
            with contextlib.suppress(KafkaError, asyncio.CancelledError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await producer.send_and_wait(self._here.topic, self._roll.sign("leaving"), partition=0)

    def _state(self) -> str:
        if not self._joined:
            settled = self._members.settled(time.monotonic()) and not self._roll.waits()
            # For good: a newcomer is somebody to wait for only to who is new itself.
            self._joined = self._recovered() and settled
        return "ready" if self._joined else "joining"

    async def _listen(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            found = await consumer.getmany(self._here, timeout_ms=200, max_records=turn_signs_max)
            for record in found.get(self._here, []):
                self._hear(record.value or b"")
            self._look()
            await asyncio.sleep(0)  # While there are records the line above returns at once.

    def _hear(self, value: bytes) -> None:
        sign = self._roll.hear(value)
        if isinstance(sign, StrangeSign):
            self._strangers.heard(sign)
            facts = {"claims": sign.name, "at": sign.url, "signs": self._strangers.signs}
            log.warning(f"a sign of life is not made with our key, so it is of no peer: {REMEDY}", extra=facts)
        elif sign is not None and sign.state == "leaving":
            self._members.gone(sign.member)
        elif sign is not None:
            self._members.heard(sign.member, time.monotonic(), ready=sign.state == "ready")

    async def _look_after_strangers(self, consumer: AIOKafkaConsumer) -> None:
        """See how far the logs and the beats of their writers are, while there are strangers who may be those writers."""
        while True:
            if self._strangers.live():
                self._strangers.looked(await self._ends(consumer))
            await asyncio.sleep(look_every_seconds)

    async def _ends(self, consumer: AIOKafkaConsumer) -> Mapping[int, object]:
        places = [TopicPartition(topic, number) for topic in self._written for number in range(self._partitions)]
        ends = await consumer.end_offsets(places)
        return {
            number: [ends[TopicPartition(topic, number)] for topic in self._written]
            for number in range(self._partitions)
        }

    def _look(self) -> None:
        owners = [self._members.owner(partition) for partition in range(self._partitions)]
        if owners != self._owners:
            self._owners = owners
            log.info("owners", extra={"owners": [owner.name if owner else None for owner in owners]})
            self._changed()
        for member in self._members.live():
            if member != self._members.self_ and member not in self._peers:
                self._peers[member] = asyncio.create_task(self._hold(member), name=f"peer {member.name}")

    async def _hold(self, member: Member) -> None:
        """Hold a connection to the peer. When it closes and cannot be opened again, the peer is gone."""
        address = urlsplit(member.url)
        try:
            while True:
                reader, writer = await asyncio.open_connection(address.hostname, address.port)
                with contextlib.closing(writer):
                    await reader.read(
                        1
                    )  # Nothing is ever sent: this returns when the peer's process ends, or restarts.
        except OSError:
            self._members.gone(member)
            self._look()
        finally:
            self._peers.pop(member, None)

    @asynccontextmanager
    async def _producer(self) -> AsyncIterator[AIOKafkaProducer]:
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks=1)  # A lost sign is followed by the next.
        try:
            await producer.start()
            yield producer
        finally:
            await producer.stop()

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="latest",  # Old signs say nothing about who is alive now.
            fetch_max_wait_ms=200,
        )
        try:
            await consumer.start()
            consumer.assign([self._here])
            await consumer.seek_to_end(self._here)
            yield consumer
        finally:
            await consumer.stop()
