"""How a host's heartbeats leave: by Kafka's topic, many instances in a message."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from infra.kafka.topic import HEARTBEATS, topic_name
from infra.telemetry.publisher import KafkaPublisher, Outgoing
from muster.wire.stream import service_stream
from muster.wire.telemetry.heartbeats import Heartbeats, encode

send_seconds_max: Final = 5.0


class PlacedHeartbeats(NamedTuple):
    """A message, and the partition of its service, as the answer to a registration has told it."""

    partition: int
    message: Heartbeats


class TopicBeats:
    """Publishes heartbeats to the topic."""

    def __init__(self, publisher: KafkaPublisher, prefix: str) -> None:
        self._publisher, self._topic = publisher, topic_name(HEARTBEATS, prefix)

    async def send(self, placed: Sequence[PlacedHeartbeats]) -> None:
        """Publish the messages. Raises Timeout when Kafka does not take them."""
        records = [
            Outgoing(self._topic, partition, service_stream(message.service).encode(), encode(*message))
            for partition, message in placed
        ]
        await self._publisher.publish(records, send_seconds_max)
