"""Whether history is safe where it stands: the topics' settings as they are now, and where the events begin."""

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from infra.kafka.provision import findings
from infra.kafka.topic import EVENTS, PREFIX, topic_name
from muster.wire.error import NotReady


async def faults(
    bootstrap: str, *, partitions: int, prefix: str = PREFIX, timeout_seconds: float = 30
) -> Mapping[int, str]:
    """By partition, why nothing may be written there; empty: all is well. Raises NotReady when Kafka does not answer."""
    wrong = await findings(bootstrap, partitions, prefix)
    # A topic that is not listed is no fault of its settings: a broker that has just started does not know all of them yet.
    vital = [str(found) for found in wrong if found.vital and found.found != "0"]
    if vital:
        # What a setting does to one partition it does to all of them.
        return dict.fromkeys(range(partitions), "history would be lost. " + ". ".join(vital))
    try:
        async with asyncio.timeout(timeout_seconds):
            begins = await _beginnings(bootstrap, topic_name(EVENTS, prefix), partitions)
    except (KafkaError, OSError, TimeoutError) as error:
        raise NotReady(f"Kafka at {bootstrap} does not say where the events begin: {error!r}") from error
    return {
        number: f"its events begin at position {first}: the history before it was deleted from the topic"
        for number, first in begins.items()
        if first > 0
    }


async def _beginnings(bootstrap: str, topic: str, partitions: int) -> Mapping[int, int]:
    here = [TopicPartition(topic, number) for number in range(partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    try:
        await consumer.start()
        return {place.partition: first for place, first in (await consumer.beginning_offsets(here)).items()}
    finally:
        await consumer.stop()
