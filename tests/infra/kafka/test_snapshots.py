"""A snapshot on Kafka is kept whole or not at all."""

import secrets

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.kafka.snapshots import KafkaSnapshots
from infra.kafka.topic import SNAPSHOTS, topic_name
from infra.log.port import Cursor
from infra.log.snapshot import PartitionSnapshot
from muster.wire.error import NotReady
from tests.servers import SharedKafka


def snapshot(*chunks: bytes) -> PartitionSnapshot:
    return PartitionSnapshot(Cursor(7, 7, b"l" * 32, 1, "w"), "r", {}, chunks)


@pytest.mark.kafka
async def test_a_chunk_that_the_broker_refuses_is_told_and_the_older_snapshot_stays(kafka: SharedKafka) -> None:
    prefix = f"t{secrets.token_hex(4)}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        small = {"cleanup.policy": "compact", "max.message.bytes": "2000"}
        await admin.create_topics([NewTopic(topic_name(SNAPSHOTS, prefix), 1, 1, topic_configs=small)])
    finally:
        await admin.close()
    snapshots = KafkaSnapshots(kafka.bootstrap, prefix)
    await snapshots.save(0, snapshot(b"[1]", b"[2]"))

    with pytest.raises(NotReady, match="could not be written"):
        await snapshots.save(0, snapshot(b"[3]", b"x" * 4_000))

    found = await KafkaSnapshots(kafka.bootstrap, prefix).load(0)
    assert found is not None
    assert found.chunks == [b"[1]", b"[2]"]
