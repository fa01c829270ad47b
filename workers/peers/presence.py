"""How controllers know of each other: signs of life on the controllers topic, and an open connection to each peer.

A killed process closes its sockets at once, so its death is known in milliseconds. The 600 ms of silence are for processes
that hang and hosts that are lost.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from infra.kafka.topic import CONTROLLERS, PREFIX, topic_name
from muster.wire.controllers import is_url
from workers.peers.members import Member, Members

log = logging.getLogger(__name__)
sign_every_seconds: Final = 0.15
retry_seconds: Final = 0.5


class Presence:
    """Keeps `members` current, and calls `changed` when owners have changed. `recovered`: whether all logs are read here."""

    def __init__(
        self,
        bootstrap: str,
        members: Members,
        partitions: int,
        *,
        recovered: Callable[[], bool],
        changed: Callable[[], None],
        prefix: str = PREFIX,
    ) -> None:
        self._bootstrap = bootstrap
        self._members = members
        self._partitions = partitions
        self._recovered = recovered
        self._changed = changed
        self._here = TopicPartition(topic_name(CONTROLLERS, prefix), 0)
        self._peers: dict[Member, asyncio.Task[None]] = {}
        self._owners: list[Member | None] = []

    async def run(self) -> None:
        """Send signs of life and listen to those of others, for ever. When cancelled, says that this controller leaves."""
        try:
            while True:
                try:
                    async with self._producer() as producer, self._consumer() as consumer, asyncio.TaskGroup() as tasks:
                        tasks.create_task(self._announce(producer))
                        tasks.create_task(self._listen(consumer))
                except* (KafkaError, OSError) as errors:
                    log.warning("presence: %s", errors.exceptions[0])
                await asyncio.sleep(retry_seconds)
        finally:
            for task in self._peers.values():
                task.cancel()

    async def _announce(self, producer: AIOKafkaProducer) -> None:
        try:
            while True:
                await producer.send_and_wait(self._here.topic, self._sign(self._state()), partition=0)
                await asyncio.sleep(sign_every_seconds)
        finally:
            # With it peers take over at once; without it (a crash) they take over when the connection closes.
            with contextlib.suppress(KafkaError, asyncio.CancelledError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await producer.send_and_wait(self._here.topic, self._sign("leaving"), partition=0)

    def _state(self) -> str:
        return "ready" if self._recovered() and self._members.settled(time.monotonic()) else "joining"

    def _sign(self, state: str) -> bytes:
        own = self._members.self_
        return orjson.dumps({"controller": own.name, "url": own.url, "state": state})

    async def _listen(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            found = await consumer.getmany(self._here, timeout_ms=200)
            for record in found.get(self._here, []):
                self._hear(record.value or b"")
            self._look()

    def _hear(self, value: bytes) -> None:
        try:
            sign = orjson.loads(value)
            member, state = Member(sign["controller"], sign["url"]), sign["state"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return  # Anybody may write to a topic.
        # Clients are told of it, and would be sent there.
        if not isinstance(member.name, str) or not isinstance(member.url, str) or not is_url(member.url):
            return
        if state == "leaving":
            self._members.gone(member)
        else:
            self._members.heard(member, time.monotonic(), ready=state == "ready")

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
        await producer.start()
        try:
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
        await consumer.start()
        try:
            consumer.assign([self._here])
            await consumer.seek_to_end(self._here)
            yield consumer
        finally:
            await consumer.stop()
