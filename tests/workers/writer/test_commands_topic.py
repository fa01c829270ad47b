"""The commands topic on a real broker, behind a writer whose log can be made to fail."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from eventsourcing.popo import POPOApplicationRecorder

from domain.registry.service import Heartbeat
from domain.shards.keyspace import CreateKeyspace, MoveShard
from domain.shards.node import JoinNode, RemoveNode
from infra.kafka.provision import provision
from infra.log.recorder import RecorderLog
from muster.wire.command import Envelope, document_of
from tests.sample import envelope, register
from tests.servers import SharedKafka
from tests.workers.writer.test_writer import Running, running, until
from workers.gateway import Gateway
from workers.writer import writer as module
from workers.writer.commands_topic import CommandsTopic, Refusals, read_ms_max

pytestmark = pytest.mark.kafka


@pytest.fixture(autouse=True)
def _no_beats_of_its_own(monkeypatch):
    """A beat that nobody asked for would wait at the held log in the place of the append that a test waits for."""
    monkeypatch.setattr(module, "beat_every_seconds", 3_600.0)


class Topic:
    """What a client sees of it."""

    def __init__(self, prefix: str, producer: AIOKafkaProducer, outcomes: AIOKafkaConsumer) -> None:
        self.prefix, self.producer, self.outcomes = prefix, producer, outcomes

    async def publish(self, *commands: Envelope | bytes) -> None:
        """As one batch, which is read as one."""
        batch = self.producer.create_batch()
        for command in commands:
            value = orjson.dumps(document_of(command)) if isinstance(command, Envelope) else command
            batch.append(timestamp=None, key=b"service/orders", value=value)
        await (await self.producer.send_batch(batch, f"{self.prefix}.commands", partition=0))

    async def heard(self, count: int) -> list[str]:
        """The next outcomes: id, and what became of it."""
        found: list[str] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                told: dict[str, Any] = orjson.loads((await self.outcomes.getone()).value)
                found.append(f"{told['id']} {told['error']['name'] if told['error'] else told['status']}")
        return found


def refusals(told: Running) -> Refusals:
    """What a controller with this one writer refuses."""
    views, writers = told.views, {0: told.writer}
    return Gateway("c", "c", 1, views, writers, {}, dict, lambda stream, instance: {}).refusals


@asynccontextmanager
async def topic(kafka: SharedKafka) -> AsyncIterator[tuple[Running, Topic, "asyncio.Task[None]"]]:
    """A reigning writer, its topic, and the task that consumes it."""
    prefix = f"topic-{secrets.token_hex(4)}"
    await provision(kafka.bootstrap, partitions=1, prefix=prefix)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
    outcomes = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=50)
    async with producer, outcomes, running(RecorderLog(POPOApplicationRecorder(), 0)) as told:
        outcomes.assign([TopicPartition(f"{prefix}.outcomes", 0)])
        consumed = CommandsTopic(kafka.bootstrap, told.writer, refusals(told), prefix)
        told.writer.observers.append(consumed)
        await told.reigns()
        consumed.began({})
        consuming = asyncio.create_task(consumed.run())
        try:
            yield told, Topic(prefix, producer, outcomes), consuming
        finally:
            consuming.cancel()
            await asyncio.wait([consuming])


async def test_outcomes_come_in_the_order_of_the_commands_whatever_is_wrong_with_some(kafka: SharedKafka):
    async with topic(kafka) as (told, topic_, _):
        await topic_.publish(
            register("a", "1"),
            b"no json",
            envelope("3", Heartbeat(instance="x")),
            b'{"id":"4","type":"muster.instance.heartbeat.v1","stream":"keyspace/x","data":{"instance":"a"}}',
            envelope("5", Heartbeat(instance="a")),
            b'{"id":"6","type":"muster.instance.heartbeat.v1","stream":"service/orders","data":{"instance":"a\\u0000"}}',
        )
        assert await topic_.heard(6) == [
            "1 accepted",
            f"{topic_.prefix}.commands/0/1 InvalidCommand",
            "3 InstanceNotFound",
            "4 InvalidCommand",
            "5 unchanged",
            "6 InvalidCommand",
        ]
        assert told.partition.commands_offset == 5


async def test_what_was_answered_before_the_reign_ended_is_told_and_the_rest_by_the_next_one(kafka, monkeypatch):
    monkeypatch.setattr(module, "group_commands_max", 2)
    async with topic(kafka) as (told, topic_, consuming):
        told.log.open.clear()
        await topic_.publish(*(register(name, name) for name in "abcd"))
        await told.log.waiting.wait()
        told.log.step()
        await told.log.waiting.wait()
        told.wanted = False
        told.log.faults.append("lost")
        told.log.open.set()
        await topic_.publish(register("e", "e"))
        assert await topic_.heard(2) == ["a accepted", "b accepted"]
        assert not consuming.done()

        told.wanted = True
        told.writer.wake()
        await until(lambda: told.writer.state == "reigning")
        assert await topic_.heard(3) == ["c accepted", "d accepted", "e accepted"]


async def test_who_reigns_again_answers_what_was_read_before(kafka, monkeypatch):
    monkeypatch.setattr(module, "group_commands_max", 2)
    async with topic(kafka) as (told, topic_, consuming):
        told.log.open.clear()
        await topic_.publish(register("a", "a"), envelope("b", Heartbeat(instance="x")), register("c", "c"))
        await told.log.waiting.wait()
        told.log.faults.append("landed")
        told.log.open.set()
        assert await topic_.heard(3) == ["a accepted", "b InstanceNotFound", "c accepted"]
        assert not consuming.done()


async def test_what_the_log_says_behind_the_reign_is_told_before_it_consumes_no_more(kafka, monkeypatch):
    monkeypatch.setattr(module, "pause_seconds_min", 3 * read_ms_max / 1000)
    async with topic(kafka) as (told, topic_, _):
        told.log.open.clear()
        await topic_.publish(register("a", "a"))
        await told.log.waiting.wait()
        told.wanted = False
        told.log.faults.append("landed")
        told.log.open.set()
        assert await topic_.heard(1) == ["a accepted"]


async def test_what_is_published_between_two_reigns_is_left_to_the_second(kafka):
    async with topic(kafka) as (told, topic_, _):
        told.wanted = False
        told.writer.wake()
        await until(lambda: told.writer.state == "following")
        await asyncio.sleep(2 * read_ms_max / 1000)
        await topic_.publish(register("a", "a"))
        await asyncio.sleep(2 * read_ms_max / 1000)
        told.wanted = True
        told.writer.wake()
        assert await topic_.heard(1) == ["a accepted"]


async def test_what_a_verb_refuses_is_refused_here_too_and_the_others_go_on(kafka: SharedKafka):
    async with topic(kafka) as (_, topic_, _):
        await topic_.publish(
            Envelope("join", "cluster", JoinNode(node="n1", address="h:1", lease_seconds=60, process="p", store="s")),
            Envelope("create", "keyspace/k", CreateKeyspace(shards=2, nodes=("n1",))),
        )
        assert await topic_.heard(2) == ["join accepted", "create accepted"]
        await topic_.publish(
            register("a", "first"),
            Envelope("remove", "cluster", RemoveNode(node="n1")),
            Envelope("move", "keyspace/k", MoveShard(shard=0, target="n9")),
            register("b", "last"),
        )
        assert await topic_.heard(4) == [
            "first accepted",
            "remove VerbNotAllowed",
            "move NodeNotFound",
            "last accepted",
        ]
