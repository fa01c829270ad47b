"""Publishes what telemetry says: ticks, commands, and rows of loads. One producer, with acknowledgements."""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from muster.wire.error import NotReady, Timeout

stop_seconds_max: Final = 3.0


class Outgoing(NamedTuple):
    """A record that is to be published."""

    topic: str
    partition: int
    key: bytes
    value: bytes


class Published(NamedTuple):
    """Where a record stands, and when Kafka recorded it, in milliseconds since 1970."""

    offset: int
    recorded_ms: int


class KafkaPublisher:
    """See `workers.telemetry.desk.Publisher`."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,  # a retry of the producer's neither repeats nor reorders
            linger_ms=5,  # the ticks and the rows of all partitions go out together
            max_batch_size=512 * 1024,
        )

    async def __aenter__(self) -> Self:
        try:
            await self._producer.start()
        except KafkaError as error:
            # Begun is begun: what it has opened so far is closed by nobody else.
            await self._producer.stop()
            raise NotReady(f"Kafka does not answer: {error!r}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        # It waits for what is still under way, which never ends while the broker is away.
        stopping = asyncio.ensure_future(self._producer.stop())
        await asyncio.wait([stopping], timeout=stop_seconds_max)
        stopping.cancel()

    async def publish(self, records: Sequence[Outgoing], timeout_seconds: float) -> list[Published]:
        """Send the records, and wait until all are acknowledged. Raises Timeout: some may have been published, or not."""
        try:
            # An idempotent batch is tried for ever while the broker is away: the deadline is ours.
            async with asyncio.timeout(timeout_seconds):
                sent = [
                    await self._producer.send(one.topic, one.value, one.key, partition=one.partition) for one in records
                ]
                return [Published(told.offset, told.timestamp) for told in await asyncio.gather(*sent)]
        except TimeoutError:
            raise Timeout(f"not acknowledged within {timeout_seconds:g} s") from None
        except KafkaError as error:
            raise Timeout(f"Kafka did not take it: {error!r}") from error
