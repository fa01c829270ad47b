"""What is published, and what is read again of it: what telemetry may count on, as classes of tests, on Kafka and in memory."""

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from secrets import token_hex
from typing import Protocol

import pytest

from infra.kafka.provision import provision
from infra.kafka.topic import HEARTBEATS, topic_name
from infra.local.child import free_port
from infra.telemetry.memory_topics import MemoryTopics
from infra.telemetry.past import HeardRecord, PastRange, PastReader, records_max
from infra.telemetry.publisher import KafkaPublisher, Outgoing, Published
from muster.wire.error import NotReady
from tests.servers import SharedKafka
from workers.telemetry.desk import Publisher
from workers.telemetry.held import PastRecords

PARTITION = 1


class Topics(Protocol):
    """A topic of heartbeats: `publisher` writes it, `past` reads partition 1 again."""

    topic: str
    publisher: Publisher

    def past(self, since_ms: int, first: int = 0) -> PastRecords:
        """See `infra.telemetry.past.PastReader`."""


class InMemory:
    topic = "t.heartbeats"

    def __init__(self) -> None:
        self.publisher = MemoryTopics(lambda: round(time.time() * 1000))

    def past(self, since_ms: int, first: int = 0) -> PastRecords:
        return self.publisher.reader(self.topic, PARTITION, since_ms, first)


class OnKafka:
    def __init__(self, bootstrap: str, prefix: str, publisher: KafkaPublisher) -> None:
        self.topic, self.publisher, self._bootstrap = topic_name(HEARTBEATS, prefix), publisher, bootstrap

    def past(self, since_ms: int, first: int = 0) -> PastRecords:
        return PastReader(self._bootstrap, self.topic, PARTITION, since_ms=since_ms, first=first)


@asynccontextmanager
async def on_kafka(bootstrap: str) -> AsyncIterator[OnKafka]:
    prefix = f"t{token_hex(4)}"
    await provision(bootstrap, partitions=2, prefix=prefix)
    async with KafkaPublisher(bootstrap) as publisher:
        yield OnKafka(bootstrap, prefix, publisher)


async def publish(topics: Topics, *values: bytes, partition: int = PARTITION) -> list[Published]:
    return await topics.publisher.publish([Outgoing(topics.topic, partition, b"k", value) for value in values], 30.0)


async def later(topics: Topics, than_ms: int) -> Published:
    """A record whose instant is a later one."""
    while True:
        (published,) = await publish(topics, b"later")
        if published.recorded_ms > than_ms:
            return published
        await asyncio.sleep(0.001)


async def some(lists: AsyncGenerator[Sequence[HeardRecord], None], count: int) -> list[HeardRecord]:
    """So many records more."""
    found: list[HeardRecord] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found += await anext(lists)
    assert len(found) == count, f"more than was published: {found}"
    return found


class PublisherContract:
    async def test_what_is_acknowledged_has_its_place_and_its_instant(self, topics: Topics) -> None:
        first, second = await publish(topics, b"1"), await publish(topics, b"2", b"3")
        assert [one.offset for one in (*first, *second)] == [0, 1, 2]
        instants = [one.recorded_ms for one in (*first, *second)]
        assert instants == sorted(instants)
        assert abs(time.time() * 1000 - instants[-1]) < 30_000

    async def test_records_of_several_partitions_are_answered_in_the_order_of_the_call(self, topics: Topics) -> None:
        await publish(topics, b"before", partition=0)
        there, here = Outgoing(topics.topic, 0, b"k", b"there"), Outgoing(topics.topic, PARTITION, b"k", b"here")
        published = await topics.publisher.publish([there, here, there], 30.0)
        assert [one.offset for one in published] == [1, 0, 2]

    async def test_nothing_is_published_at_once(self, topics: Topics) -> None:
        assert await topics.publisher.publish([], 30.0) == []


class PastContract:
    async def test_it_begins_with_the_first_record_that_is_not_older(self, topics: Topics) -> None:
        (old,) = await publish(topics, b"old")
        wanted = await later(topics, old.recorded_ms)
        last = await later(topics, wanted.recorded_ms)
        async with topics.past(wanted.recorded_ms) as reader:
            assert reader.past == PastRange(wanted.offset, last.offset)
            async with aclosing(reader.records()) as lists:
                found = await some(lists, last.offset - wanted.offset + 1)
        assert (found[0].offset, found[0].recorded_ms) == wanted
        assert (found[-1].offset, found[-1].recorded_ms) == last

    async def test_but_never_before_the_place_that_is_named(self, topics: Topics) -> None:
        await publish(topics, b"1", b"2", b"3")
        async with topics.past(0, first=2) as reader, aclosing(reader.records()) as lists:
            assert reader.past == PastRange(2, 2)
            assert [record.value for record in await some(lists, 1)] == [b"3"]

    async def test_where_nothing_is_as_new_it_begins_with_what_comes(self, topics: Topics) -> None:
        (old,) = await publish(topics, b"old")
        async with topics.past(old.recorded_ms + 3_600_000) as reader, aclosing(reader.records()) as lists:
            assert reader.past == PastRange(1, 0)
            await publish(topics, b"new")
            assert [record.value for record in await some(lists, 1)] == [b"new"]

    async def test_in_an_empty_partition_there_is_no_last_one(self, topics: Topics) -> None:
        await publish(topics, b"of another partition", partition=0)
        async with topics.past(0) as reader, aclosing(reader.records()) as lists:
            assert reader.past == PastRange(0, -1)
            await publish(topics, b"new")
            assert [(record.offset, record.value) for record in await some(lists, 1)] == [(0, b"new")]

    async def test_what_is_recorded_meanwhile_comes_behind_what_was_there(self, topics: Topics) -> None:
        await publish(topics, b"1", b"2")
        async with topics.past(0) as reader, aclosing(reader.records()) as lists:
            (third,) = await publish(topics, b"3")
            found = await some(lists, 3)
            assert reader.past == PastRange(0, 1)
        assert [record.value for record in found] == [b"1", b"2", b"3"]
        assert found[2] == HeardRecord(third.offset, third.recorded_ms, b"k", b"3")

    async def test_while_nothing_comes_whoever_reads_has_a_turn_again_and_again(self, topics: Topics) -> None:
        await publish(topics, b"1")
        async with asyncio.timeout(30), topics.past(0) as reader, aclosing(reader.records()) as lists:
            await some(lists, 1)
            assert [list(await anext(lists)), list(await anext(lists))] == [[], []]

    async def test_of_many_records_only_some_are_given_at_once_and_none_twice(self, topics: Topics) -> None:
        count = 2 * records_max + 10
        await publish(topics, *(b"%d" % number for number in range(count)))
        lengths, offsets = [], []
        async with asyncio.timeout(30), topics.past(0) as reader, aclosing(reader.records()) as lists:
            while len(offsets) < count:
                given = await anext(lists)
                lengths.append(len(given))
                offsets += [record.offset for record in given]
        assert offsets == list(range(count))
        assert max(lengths) <= records_max


class TestInMemory(PublisherContract, PastContract):
    @pytest.fixture
    async def topics(self) -> Topics:
        return InMemory()


@pytest.mark.kafka
class TestOnKafka(PublisherContract, PastContract):
    @pytest.fixture
    async def topics(self, kafka: SharedKafka) -> AsyncIterator[Topics]:
        async with on_kafka(kafka.bootstrap) as made:
            yield made


async def test_without_a_broker_the_past_cannot_be_read() -> None:
    with pytest.raises(NotReady):
        async with PastReader(f"127.0.0.1:{free_port()}", "t.heartbeats", 0, since_ms=0):
            pass


@pytest.mark.parametrize(
    "opened",
    [KafkaPublisher, lambda bootstrap: PastReader(bootstrap, "t.heartbeats", 0, since_ms=0)],
    ids=["publisher", "past"],
)
async def test_without_a_broker_nothing_stays_open(
    opened: Callable[[str], AbstractAsyncContextManager[object]],
) -> None:
    left: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: left.append(str(told["message"])))
    with pytest.raises(NotReady):
        async with opened(f"127.0.0.1:{free_port()}"):
            pass
    gc.collect()
    assert left == []
