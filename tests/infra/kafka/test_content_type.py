"""Records of the log on Kafka are CloudEvents to readers that are not ours: structured mode, by the header that says so."""

from uuid import uuid4

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.kafka.log import KafkaLog
from infra.kafka.provision import provision
from tests.infra.log.log_contract import history, reign
from tests.servers import SharedKafka

pytestmark = pytest.mark.kafka


async def test_each_record_says_that_its_value_is_a_cloud_event_and_a_beat_does_not(kafka: SharedKafka):
    prefix = f"header-{uuid4().hex[:8]}"
    await provision(kafka.bootstrap, partitions=1, prefix=prefix)
    async with (
        KafkaLog(kafka.bootstrap, 0, prefix=prefix) as log,
        AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest") as consumer,
    ):
        writer = await reign(log)
        await writer.append("a", "b")
        await log.beat()
        assert await history(log) == [["a", "b"]]
        consumer.assign([TopicPartition(f"{prefix}.events", 0), TopicPartition(f"{prefix}.liveness", 0)])
        records = [await consumer.getone() for _ in range(5)]
    events = [record for record in records if record.topic.endswith(".events")]
    assert len(events) == 3
    for record in events:
        assert record.headers == (("content-type", b"application/cloudevents+json"),)
        assert orjson.loads(record.value)["specversion"] == "1.0"
    assert {record.headers for record in records if record.topic.endswith(".liveness")} == {()}
