"""Heartbeats of a host on a real broker: they stand where telemetry reads them."""

from secrets import token_hex

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.kafka.engine import open_kafka
from infra.kafka.topic import HEARTBEATS, topic_name
from infra.telemetry.publisher import KafkaPublisher
from muster.wire.route import partition_of
from muster.wire.stream import service_stream
from muster.wire.telemetry.heartbeats import Beat, Heartbeats, decode
from tests.servers import SharedKafka
from workers.host.beats import PlacedHeartbeats, TopicBeats

PARTITIONS = 4


@pytest.mark.kafka
async def test_each_message_stands_in_the_partition_of_its_service(kafka: SharedKafka) -> None:
    prefix = f"h{token_hex(4)}"
    messages = [
        Heartbeats("h1", service, [Beat(f"i{number}", number) for number in range(60)])
        for service in ("orders", "users", "carts")
    ]
    places = [partition_of(service_stream(message.service), PARTITIONS) for message in messages]
    async with open_kafka(kafka.bootstrap, partitions=PARTITIONS, prefix=prefix), KafkaPublisher(kafka.bootstrap) as to:
        await TopicBeats(to, prefix).send(list(map(PlacedHeartbeats, places, messages)))
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            consumer.assign([TopicPartition(topic_name(HEARTBEATS, prefix), number) for number in range(PARTITIONS)])
            records = [await consumer.getone() for _ in messages]
        finally:
            await consumer.stop()
    found = {record.key: (record.partition, decode(record.value)) for record in records}
    assert found == {
        service_stream(message.service).encode(): (place, message)
        for place, message in zip(places, messages, strict=True)
    }
