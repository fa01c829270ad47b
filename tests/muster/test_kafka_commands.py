"""Commands through a real broker: outcomes by id, refusals, silence. A small responder stands for the controller."""

import asyncio
import math
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from domain.registry.service import Heartbeat, RegisterInstance
from infra.settings import Settings
from muster import Client, KafkaCommands, to_service
from muster.wire.command import Envelope, PublishedCommand
from muster.wire.error import InstanceNotFound, InvalidCommand, NotReady, Timeout, TooLarge, Unreachable
from muster.wire.registry.spec import Spec
from muster.wire.route import partition_of
from tests.servers import SharedKafka
from workers.controller.process import running

pytestmark = pytest.mark.kafka
PARTITIONS = 3
Responder = Callable[[dict[str, Any], int, int], list[dict[str, Any]]]


def accept(command: dict[str, Any], partition: int, offset: int) -> list[dict[str, Any]]:
    told = {"partition": partition, "position": offset, "version": 0, "incarnation": 0, "error": None}
    return [{"id": command["id"], "status": "accepted", **told}]


@asynccontextmanager
async def controller(bootstrap: str, respond: Responder) -> AsyncIterator[str]:
    """Topics of this test's own, and a task that answers what is published there."""
    prefix = f"test-{secrets.token_hex(4)}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    topics = [f"{prefix}.commands", f"{prefix}.outcomes"]
    await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in topics])
    while any(topic["error_code"] or not topic["partitions"] for topic in await admin.describe_topics(topics)):  # noqa: ASYNC110
        await asyncio.sleep(0.02)  # a new topic tells nobody when it has its leaders
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=1, max_batch_size=512 * 1024)
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=50)
    await producer.start()
    await consumer.start()
    consumer.assign([TopicPartition(topics[0], partition) for partition in range(PARTITIONS)])

    async def serve() -> None:
        while True:
            for partition, records in (await consumer.getmany(timeout_ms=500)).items():
                for record in records:
                    for told in respond(orjson.loads(record.value), partition.partition, record.offset):
                        await producer.send(topics[1], orjson.dumps(told), partition=partition.partition)

    serving = asyncio.create_task(serve())
    try:
        yield prefix
    finally:
        serving.cancel()
        await asyncio.wait([serving])
        await consumer.stop()
        await producer.stop()


def beat(id_: str, service: str = "orders") -> Envelope:
    return Envelope(id_, f"service/{service}", Heartbeat(instance="a"), actor="tester", reason="why")


async def test_a_published_command_gets_its_outcome_and_lands_in_the_partition_of_its_stream(kafka: SharedKafka):
    seen: list[tuple[dict[str, Any], int]] = []

    def respond(command: dict[str, Any], partition: int, offset: int) -> list[dict[str, Any]]:
        seen.append((command, partition))
        return accept(command, partition, offset)

    async with controller(kafka.bootstrap, respond) as prefix, KafkaCommands(kafka.bootstrap, prefix) as commands:
        for service in ("orders", "users", "billing"):
            written = await commands.execute(beat(f"id-{service}", service))
            assert (written.status, written.partition) == ("accepted", partition_of(f"service/{service}", PARTITIONS))
    assert seen[0][0] == {
        "id": "id-orders",
        "type": "muster.instance.heartbeat.v1",
        "stream": "service/orders",
        "data": {"instance": "a", "incarnation": None},
        "actor": "tester",
        "reason": "why",
    }


async def test_a_refusal_is_raised_by_its_name_and_told_in_a_batch(kafka: SharedKafka):
    error = {"name": "InstanceNotFound", "detail": "gone", "status": 404}

    def refuse(command: dict[str, Any], partition: int, offset: int) -> list[dict[str, Any]]:
        told = accept(command, partition, offset)[0]
        return [{**told, "status": "refused", "error": error}] if command["id"].startswith("bad") else [told]

    async with controller(kafka.bootstrap, refuse) as prefix, KafkaCommands(kafka.bootstrap, prefix) as commands:
        with pytest.raises(InstanceNotFound, match="gone"):
            await commands.execute(beat("bad"))
        outcomes = await commands.execute_many([beat("good-1"), beat("bad-2"), beat("good-3")])
    assert [(told.id, told.status) for told in outcomes] == [
        ("good-1", "accepted"),
        ("bad-2", "refused"),
        ("good-3", "accepted"),
    ]


async def test_repeated_outcomes_and_foreign_bytes_do_no_harm(kafka: SharedKafka):
    def stutter(command: dict[str, Any], partition: int, offset: int) -> list[Any]:
        return ["no outcome", {"id": command["id"], "status": "?"}, *accept(command, partition, offset) * 3]

    async with controller(kafka.bootstrap, stutter) as prefix, KafkaCommands(kafka.bootstrap, prefix) as commands:
        outcomes = await commands.execute_many([beat(str(number)) for number in range(50)])
    assert {told.status for told in outcomes} == {"accepted"}


async def test_silence_is_a_timeout_and_the_same_id_may_be_published_again(kafka: SharedKafka):
    heard: list[str] = []

    def deaf_at_first(command: dict[str, Any], partition: int, offset: int) -> list[dict[str, Any]]:
        heard.append(command["id"])
        return accept(command, partition, offset) if len(heard) > 1 else []

    async with (
        controller(kafka.bootstrap, deaf_at_first) as prefix,
        KafkaCommands(kafka.bootstrap, prefix, timeout_seconds=1) as commands,
    ):
        with pytest.raises(Timeout) as caught:
            await commands.execute(beat("again"))
        assert caught.value.context["command_id"] == "again"
        assert (await commands.execute(beat("again"))).status == "accepted"
    assert heard == ["again", "again"]


async def test_the_same_id_at_once_is_published_once(kafka: SharedKafka):
    heard: list[str] = []

    def respond(command: dict[str, Any], partition: int, offset: int) -> list[dict[str, Any]]:
        heard.append(command["id"])
        return accept(command, partition, offset)

    async with controller(kafka.bootstrap, respond) as prefix, KafkaCommands(kafka.bootstrap, prefix) as commands:
        outcomes = await commands.execute_many([beat("one"), beat("one")])
    assert outcomes[0] == outcomes[1]
    assert heard == ["one"]


async def test_a_command_over_the_limit_is_not_published(kafka: SharedKafka):
    huge = RegisterInstance.model_construct(
        instance="a", spec=Spec(address="10.0.0.1", port=1, metadata={"key": "x" * 600_000})
    )
    async with controller(kafka.bootstrap, accept) as prefix, KafkaCommands(kafka.bootstrap, prefix) as commands:
        with pytest.raises(TooLarge):
            await commands.execute(Envelope("big", "service/orders", huge))


async def test_what_json_cannot_say_is_refused_by_itself_and_the_others_are_published(kafka: SharedKafka):
    heard: list[str] = []

    def respond(command: dict[str, Any], partition: int, offset: int) -> list[dict[str, Any]]:
        heard.append(command["id"])
        return accept(command, partition, offset)

    def asked(id_: str, share: float) -> PublishedCommand:
        data = {"policy": "random", "retry_share": share}
        return PublishedCommand(id=id_, type="muster.traffic.set.v1", stream="traffic/users", data=data)

    async with controller(kafka.bootstrap, respond) as prefix, KafkaCommands(kafka.bootstrap, prefix) as commands:
        # As null it would mean "not given", and the policy alone would be set.
        told = await commands.execute_many(
            [asked("1", 0.1), asked("2", math.nan), asked("3", 1 << 70), asked("4", 0.2)]
        )
        assert [one.status for one in told] == ["accepted", "refused", "refused", "accepted"]
        with pytest.raises(InvalidCommand, match=r"^data\.retry_share: must be a finite number"):
            await commands.execute(asked("5", math.inf))
    assert heard == ["1", "4"]


async def test_without_topics_or_without_a_broker_it_does_not_open(kafka: SharedKafka):
    with pytest.raises(NotReady, match="no topic"):
        async with KafkaCommands(kafka.bootstrap, "absent"):
            pass
    with pytest.raises(Unreachable):
        async with KafkaCommands("127.0.0.1:1"):
            pass


async def test_thousands_of_commands_a_second_get_their_outcomes(kafka: SharedKafka):
    beats = [beat(f"n-{number}", f"service-{number % 100}") for number in range(20_000)]
    async with controller(kafka.bootstrap, accept) as prefix, KafkaCommands(kafka.bootstrap, prefix) as commands:
        await commands.execute_many(beats[:100])
        started = asyncio.get_running_loop().time()
        outcomes = await commands.execute_many(beats[100:])
        seconds = asyncio.get_running_loop().time() - started
    print(f"{len(outcomes) / seconds:,.0f}/s")
    assert {told.status for told in outcomes} == {"accepted"}
    assert [told.id for told in outcomes] == [envelope.id for envelope in beats[100:]]


async def test_a_real_controller_answers_commands_of_the_topic_and_of_http_alike(kafka: SharedKafka, tmp_path: Path):
    prefix = f"test-{secrets.token_hex(4)}"
    settings = Settings(data=tmp_path, http="127.0.0.1:0", kafka=kafka.bootstrap, prefix=prefix, partitions=2)
    async with (
        running(settings) as started,
        KafkaCommands(kafka.bootstrap, prefix, timeout_seconds=30) as commands,
        Client(started.url) as client,
    ):
        spec = Spec(address="10.0.0.1", port=80)
        registrations = [
            to_service(f"s-{number % 7}", RegisterInstance(instance=f"i-{number}", spec=spec), actor="kafka")
            for number in range(5_000)
        ]
        outcomes = await commands.execute_many(registrations)
        assert {told.status for told in outcomes} == {"accepted"}
        again = await commands.execute(registrations[0])
        assert (again.duplicate, again.position) == (True, outcomes[0].position)
        with pytest.raises(InstanceNotFound):
            await commands.execute(to_service("s-1", Heartbeat(instance="missing")))
        written = outcomes[1].written()
        client.observe(f"{written.partition}:{written.position}")
        assert (await client.instance("s-1", "i-1")).incarnation == written.incarnation
        assert (await client.history("s-1", "i-1")).items[0].actor == "kafka"
