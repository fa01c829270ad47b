"""What whoever follows the rows of loads may count on, as a class of tests: on Kafka, and in memory."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from secrets import token_hex
from typing import Protocol

import pytest
from aiokafka import AIOKafkaProducer

from infra.kafka.provision import provision
from infra.kafka.topic import LOADS, topic_name
from infra.telemetry.rows import KafkaRows, LoadRecord, MemoryRows
from muster.wire.error import NotReady
from muster.wire.route import partition_of
from tests.servers import SharedKafka
from workers.views.loads import LoadRows

PARTITIONS = 3


class Told(Protocol):
    """A place for rows: `put` is what a worker does, `rows` what a controller has."""

    rows: LoadRows

    async def put(self, key: bytes, value: bytes) -> None:
        """Tell a row, and wait until it is there."""


class InMemory:
    def __init__(self) -> None:
        self.rows = MemoryRows()

    async def put(self, key: bytes, value: bytes) -> None:
        await self.rows.put(key, value)


class OnKafka:
    def __init__(self, bootstrap: str, prefix: str, producer: AIOKafkaProducer) -> None:
        self.rows = KafkaRows(bootstrap, PARTITIONS, prefix)
        self._topic, self._producer = topic_name(LOADS, prefix), producer

    async def put(self, key: bytes, value: bytes | None) -> None:
        partition = partition_of(key.decode(), PARTITIONS)
        await self._producer.send_and_wait(self._topic, value, key, partition=partition)


@asynccontextmanager
async def on_kafka(bootstrap: str) -> AsyncIterator[OnKafka]:
    prefix = f"t{token_hex(4)}"
    await provision(bootstrap, partitions=PARTITIONS, prefix=prefix)
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        yield OnKafka(bootstrap, prefix, producer)


Following = AsyncGenerator[Sequence[LoadRecord], None]


async def following(rows: LoadRows, count: int) -> list[LoadRecord]:
    """The first so many records."""
    async with asyncio.timeout(30), aclosing(rows.follow()) as lists:
        return await some(lists, count)


async def some(lists: Following, count: int) -> list[LoadRecord]:
    """So many records more."""
    found: list[LoadRecord] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found += await anext(lists)
    assert len(found) == count, f"more than was told: {found}"
    return found


def said(records: Sequence[LoadRecord]) -> dict[bytes, list[bytes]]:
    """What is said under each key, in its order."""
    return {key: [record.value for record in records if record.key == key] for key in {one.key for one in records}}


class RowsContract:
    """Keys are spread over partitions on Kafka, so that only the rows of one key have an order."""

    async def test_what_was_told_before_comes_in_its_order(self, told: Told) -> None:
        keys = (b"service/a", b"service/b", b"service/c", b"telemetry/w")
        for value in (b"1", b"2"):
            for key in keys:
                await told.put(key, value)
        found = said(await following(told.rows, 8))
        assert found == {key: [b"1", b"2"] for key in keys}

    async def test_what_is_told_meanwhile_comes_too(self, told: Told) -> None:
        await told.put(b"service/a", b"1")
        async with aclosing(told.rows.follow()) as lists:
            await some(lists, 1)
            await told.put(b"service/b", b"2")
            (record,) = await some(lists, 1)
        assert (record.key, record.value) == (b"service/b", b"2")

    async def test_while_nothing_comes_it_says_so_again_and_again(self, told: Told) -> None:
        await told.put(b"service/a", b"1")
        async with asyncio.timeout(30), aclosing(told.rows.follow()) as lists:
            await some(lists, 1)
            # Whoever follows can look at other things then: `doctor` ends by it.
            assert [await anext(lists), await anext(lists)] == [[], []]

    async def test_a_record_is_as_old_as_it_was_recorded_however_late_it_is_read(self, told: Told) -> None:
        began = time.monotonic()
        await told.put(b"service/a", b"1")
        async with aclosing(told.rows.follow()) as lists:
            (record,) = await some(lists, 1)
            read = time.monotonic()
            again = await following(told.rows, 1)
        # Kafka has milliseconds, and reading takes a while behind the instant at which the age was taken.
        assert -0.01 <= record.age_seconds <= read - began + 0.01
        assert again[0].age_seconds >= record.age_seconds
        assert again[0].age_seconds <= time.monotonic() - began + 0.01

    async def test_each_who_follows_gets_all(self, told: Told) -> None:
        for number in range(5):
            await told.put(b"service/a", b"%d" % number)
        one, two = await asyncio.gather(following(told.rows, 5), following(told.rows, 5))
        assert said(one) == said(two) == said(await following(told.rows, 5))


class TestInMemory(RowsContract):
    @pytest.fixture
    async def told(self) -> Told:
        return InMemory()


@pytest.mark.kafka
class TestOnKafka(RowsContract):
    @pytest.fixture
    async def told(self, kafka: SharedKafka) -> AsyncIterator[OnKafka]:
        async with on_kafka(kafka.bootstrap) as told:
            yield told

    async def test_a_row_that_was_taken_away_is_passed_over(self, told: OnKafka) -> None:
        await told.put(b"service/a", None)
        await told.put(b"service/a", b"2")
        assert said(await following(told.rows, 1)) == {b"service/a": [b"2"]}

    async def test_without_the_topic_it_is_not_ready_and_creates_none(self, kafka: SharedKafka) -> None:
        rows = KafkaRows(kafka.bootstrap, PARTITIONS, f"t{token_hex(4)}")
        for _ in range(2):
            with pytest.raises(NotReady, match="there is no topic"):
                await following(rows, 1)
