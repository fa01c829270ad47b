"""Topics that were deleted, made anew or cut short behind a controller's back, on a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from infra.kafka.provision import provision
from infra.kafka.topic_id import topic_id
from muster.wire.error import NotReady
from tests.sample import register
from tests.servers import SharedKafka
from tests.workers.writer.test_commands_topic import Topic, refusals, topic
from tests.workers.writer.test_writer import Running, until
from workers.writer import commands_topic as module

pytestmark = pytest.mark.kafka


@asynccontextmanager
async def admin(kafka: SharedKafka) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def made_anew(kafka: SharedKafka, prefix: str) -> None:
    """The commands topic deleted, and created again."""
    name = f"{prefix}.commands"
    before = await topic_id(kafka.bootstrap, name)
    async with admin(kafka) as client:
        await client.delete_topics([name])
        async with asyncio.timeout(20):
            while name in await client.list_topics():  # noqa: ASYNC110 the broker has no event for it
                await asyncio.sleep(0.05)
    await provision(kafka.bootstrap, partitions=1, prefix=prefix)
    assert await topic_id(kafka.bootstrap, name) not in (None, before)


async def reigns(told: Running, wanted: bool) -> None:
    told.wanted = wanted
    told.writer.wake()
    await until(lambda: (told.writer.state == "reigning") is wanted)


async def read_some(topic_: Topic, *names: str) -> None:
    await topic_.publish(*(register(name, name) for name in names))
    assert await topic_.heard(len(names)) == [f"{name} accepted" for name in names]


async def test_commands_in_a_topic_that_was_made_anew_are_carried_out(
    kafka: SharedKafka, caplog: pytest.LogCaptureFixture
) -> None:
    async with topic(kafka) as (told, topic_, _):
        await read_some(topic_, "a1", "a2", "a3")
        await reigns(told, False)
        await made_anew(kafka, topic_.prefix)
        # More than were read of the one before: by their offsets alone, the first three would count as read.
        await topic_.publish(*(register(name, name) for name in ("b1", "b2", "b3", "b4")))
        await reigns(told, True)
        assert await topic_.heard(4) == [f"b{number} accepted" for number in range(1, 5)]
        assert "the topic was created anew" in (told.writer.commands_detail or "")
        assert "the topic was created anew" in caplog.text
        assert told.writer.commands_lost == 0
        assert told.partition.commands_offset == 4
        assert told.partition.commands_topic == await topic_id(kafka.bootstrap, f"{topic_.prefix}.commands")


async def test_a_topic_that_is_made_anew_during_a_reign_is_noticed(
    kafka: SharedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "look_every_seconds", 0.1)
    async with topic(kafka) as (told, topic_, _):
        await read_some(topic_, "a1", "a2")
        await made_anew(kafka, topic_.prefix)
        await topic_.publish(*(register(name, name) for name in ("b1", "b2", "b3")))
        assert await topic_.heard(3) == ["b1 accepted", "b2 accepted", "b3 accepted"]
        assert "created anew" in (told.writer.commands_detail or "")


async def test_who_reads_another_topic_than_it_began_with_begins_anew(
    kafka: SharedKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "look_every_seconds", 0.01)
    async with topic(kafka) as (told, topic_, _):
        consumed = module.CommandsTopic(kafka.bootstrap, told.writer, refusals(told), topic_.prefix)
        with pytest.raises(NotReady, match="was created anew"):
            async with asyncio.timeout(20):
                await consumed._look("the id of the one before")


async def test_commands_that_are_gone_unread_are_counted_and_told(
    kafka: SharedKafka, caplog: pytest.LogCaptureFixture
) -> None:
    async with topic(kafka) as (told, topic_, _):
        await read_some(topic_, "a1")
        await reigns(told, False)
        await topic_.publish(register("e1", "e1"), register("e2", "e2"), register("e3", "e3"))
        async with admin(kafka) as client:
            here = TopicPartition(f"{topic_.prefix}.commands", 0)
            await client.delete_records({here: RecordsToDelete(before_offset=3)})
        await reigns(told, True)
        assert await topic_.heard(1) == ["e3 accepted"]
        assert told.writer.commands_lost == 2
        assert told.writer.commands_detail == "the commands at offsets 1 to 2 are gone unread"
        assert "are gone unread" in caplog.text
