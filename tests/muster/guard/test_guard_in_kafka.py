"""What the documents say of a producer whose transactional id is the group's name, on a real broker: its fence, and its limit."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import ProducerFenced

from tests.servers import SharedKafka

pytestmark = pytest.mark.kafka


@pytest.fixture
async def topic(kafka: SharedKafka) -> str:
    """A topic of one partition, which has the name of the group."""
    name = f"db-{secrets.token_hex(4)}"
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, 1)])
    await admin.close()
    return name


@asynccontextmanager
async def producer(kafka: SharedKafka, group: str) -> AsyncIterator[AIOKafkaProducer]:
    """The producer of a primary. Its start is what other clients call `init_transactions`."""
    made = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=group)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def send(one: AIOKafkaProducer, topic: str, epoch: int) -> None:
    async with one.transaction():
        await one.send_and_wait(topic, b"%d" % epoch, headers=[("muster-epoch", b"%d" % epoch)])


async def committed(kafka: SharedKafka, topic: str, count: int) -> list[int]:
    """The epochs of the first records that consumers are shown."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka.bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        return [int((await consumer.getone()).value) for _ in range(count)]
    finally:
        await consumer.stop()


async def test_the_next_primary_takes_back_what_the_older_one_has_open_and_fences_it(
    kafka: SharedKafka, topic: str
) -> None:
    async with producer(kafka, topic) as older:
        await send(older, topic, 7)
        await older.begin_transaction()
        await older.send_and_wait(topic, b"0")
        async with producer(kafka, topic) as newer:
            await send(newer, topic, 8)
            with pytest.raises(ProducerFenced):
                await older.commit_transaction()
            await send(newer, topic, 8)
    assert await committed(kafka, topic, 3) == [7, 8, 8]


async def test_an_older_primary_that_initialises_late_fences_the_newer_one(kafka: SharedKafka, topic: str) -> None:
    async with producer(kafka, topic) as newer:
        await send(newer, topic, 8)
        async with producer(kafka, topic) as older:
            await send(older, topic, 7)
            with pytest.raises(ProducerFenced):
                await send(newer, topic, 8)
    # The broker knows no epochs: only the header tells consumers what is over.
    assert await committed(kafka, topic, 2) == [8, 7]
