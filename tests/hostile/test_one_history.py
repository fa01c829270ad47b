"""Producers that are not ours: other partitioners, no keys, transactions that were taken back. A stream keeps one history."""

import asyncio
import secrets
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from muster import Client
from muster.wire.route import partition_of
from tests.processes.process_on_kafka import controllers
from tests.servers import SharedKafka

pytestmark = [pytest.mark.kafka, pytest.mark.process, pytest.mark.timeout(180)]
PARTITIONS = 8
SPEC = {"address": "10.0.0.2", "port": 80}
SERVICES = ("orders", "users", "billing", "mail")


class Outside:
    """A controller's topics as another product's client sees them."""

    def __init__(self, bootstrap: str, prefix: str, producer: AIOKafkaProducer, outcomes: AIOKafkaConsumer) -> None:
        self.bootstrap, self.prefix, self.producer, self.outcomes = bootstrap, prefix, producer, outcomes

    async def publish(self, id_: str, service: str, partition: int, key: bytes | None) -> None:
        await self.producer.send_and_wait(
            f"{self.prefix}.commands", command(id_, service), key=key, partition=partition
        )

    async def outcome(self, id_: str) -> dict[str, Any]:
        async with asyncio.timeout(30):
            async for record in self.outcomes:
                found: dict[str, Any] = orjson.loads(record.value)
                if found["id"] == id_:
                    return found
        raise AssertionError("the consumer ended")


def command(id_: str, service: str) -> bytes:
    data = {"instance": "a", "spec": SPEC}
    return orjson.dumps(
        {"id": id_, "type": "muster.instance.register.v1", "stream": f"service/{service}", "data": data}
    )


@asynccontextmanager
async def outside(kafka: SharedKafka, folder: Path) -> AsyncIterator[tuple[Client, Outside]]:
    prefix = f"hostile-{secrets.token_hex(4)}"
    async with controllers(folder, kafka.bootstrap, prefix, 1) as (one,), Client(one.url) as client:
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
        outcomes = AIOKafkaConsumer(
            bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=50
        )
        async with producer, outcomes:
            outcomes.assign([TopicPartition(f"{prefix}.outcomes", number) for number in range(PARTITIONS)])
            yield client, Outside(kafka.bootstrap, prefix, producer, outcomes)


async def test_a_command_sent_by_another_hash_is_refused_and_changes_nothing(
    kafka: SharedKafka, tmp_path: Path
) -> None:
    async with outside(kafka, tmp_path) as (client, there):
        for service in SERVICES:
            stream = f"service/{service}"
            wrong, due = zlib.crc32(stream.encode()) % PARTITIONS, partition_of(stream, PARTITIONS)
            if wrong == due:
                wrong = (due + 1) % PARTITIONS
            await there.publish(f"wrong-{service}", service, wrong, stream.encode())
            found = await there.outcome(f"wrong-{service}")
            assert (found["status"], found["error"]["name"]) == ("refused", "WrongPartition")
            assert found["error"]["partition"] == due
            await there.publish(f"right-{service}", service, due, None)
            assert (await there.outcome(f"right-{service}"))["status"] == "accepted"
        counts = {row.service: row.instances for row in (await client.services()).items if row.service in SERVICES}
        assert counts == dict.fromkeys(SERVICES, 1)
        for service in SERVICES:
            assert (await client.deregister(service, "a")).status == "accepted"


async def test_what_a_transaction_has_taken_back_was_never_asked(kafka: SharedKafka, tmp_path: Path) -> None:
    async with outside(kafka, tmp_path) as (client, there):
        due, topic = partition_of("service/orders", PARTITIONS), f"{there.prefix}.commands"
        outbox = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=f"outbox-{there.prefix}")
        async with outbox:
            await outbox.begin_transaction()
            await outbox.send_and_wait(topic, command("aborted", "orders"), partition=due)
            await outbox.abort_transaction()
            async with outbox.transaction():
                await outbox.send_and_wait(topic, command("committed", "orders"), partition=due)
        found = await there.outcome("committed")
        assert found["status"] == "accepted", "the registration of the transaction that was taken back came first"
        assert found["version"] == 0
        assert [row.instance for row in (await client.instances("orders")).items] == ["a"]
