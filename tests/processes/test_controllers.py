"""Several controllers on one Kafka: shared partitions, hot standbys, and what a deposed one may say (nothing)."""

import asyncio
import secrets
import signal
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from domain.registry.service import Heartbeat
from muster import Client, to_service
from tests.processes.process_on_kafka import controllers
from tests.servers import SharedKafka

pytestmark = [pytest.mark.kafka, pytest.mark.process, pytest.mark.timeout(180)]


def fresh() -> str:
    return f"several-{secrets.token_hex(4)}"


async def writers(client: Client) -> dict[int, str]:
    """By partition, who reigns, as this controller sees it."""
    return {one["partition"]: one["writer"] for one in (await client.status())["partitions"]}


async def until(condition: Any, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_two_controllers_share_the_partitions_and_answer_for_each_other(
    kafka: SharedKafka, tmp_path: Path
) -> None:
    async with (
        controllers(tmp_path, kafka.bootstrap, fresh(), 2) as (one, other),
        Client(one.url) as left,
        Client(other.url) as right,
    ):

        async def shared() -> bool:
            seen = await writers(left)
            return len(set(seen.values())) == 2 and seen == await writers(right)

        await until(shared)
        for number in range(20):
            await left.register(f"service-{number}", "i1", "127.0.0.1", 80)
        right.observe(left.token)
        assert {f"service-{number}" for number in range(20)} <= {
            service.service for service in (await right.services()).items
        }
        beats = [to_service(f"service-{number}", Heartbeat(instance="i1"), id=f"b{number}") for number in range(20)]
        told = await right.commands([*beats, to_service("nowhere", Heartbeat(instance="i1"), id="nowhere")])
        assert [(outcome.id, outcome.status) for outcome in told] == [
            *((f"b{number}", "unchanged") for number in range(20)),
            ("nowhere", "refused"),
        ]


async def test_a_killed_controller_is_replaced_and_nothing_is_lost(kafka: SharedKafka, tmp_path: Path) -> None:
    async with (
        controllers(tmp_path, kafka.bootstrap, fresh(), 2) as (one, other),
        Client(other.url, timeout_seconds=30) as client,
    ):
        for number in range(30):
            await client.register(f"service-{number}", "i1", "127.0.0.1", 80)
        one.signal(signal.SIGKILL)
        for number in range(30):
            await client.heartbeat(f"service-{number}", "i1")
            await client.register(f"service-{number}", "i2", "127.0.0.1", 81)
        for number in range(30):
            found = {instance.instance for instance in (await client.instances(f"service-{number}")).items}
            assert found == {"i1", "i2"}
        assert len(set((await writers(client)).values())) == 1


async def test_a_stopped_controller_that_wakes_up_answers_nothing_from_its_past(
    kafka: SharedKafka, tmp_path: Path
) -> None:
    """SIGSTOP, its partitions are taken over and changed, SIGCONT: what it still had to say never reaches a client."""
    async with (
        controllers(tmp_path, kafka.bootstrap, fresh(), 2) as (one, other),
        Client(other.url, timeout_seconds=40) as client,
        aiohttp.ClientSession() as session,
    ):
        names = [f"service-{number}" for number in range(16)]
        for name in names:
            await client.register(name, "i1", "127.0.0.1", 80)
        one.signal(signal.SIGSTOP)

        async def ask(name: str, path: str, method: str, body: object) -> tuple[int, dict[str, Any]]:
            url = f"{one.url}/v1/services/{name}/instances/i1{path}"
            async with session.request(method, url, json=body) as response:
                return response.status, orjson.loads(await response.read())

        # Each of these would be answered otherwise by the state that the sleeper remembers: unchanged, or accepted.
        late = [asyncio.create_task(ask(name, "/heartbeat", "POST", {})) for name in names]
        await asyncio.sleep(0)
        for name in names:
            await client.deregister(name, "i1")
        one.signal(signal.SIGCONT)
        for status, told in await asyncio.gather(*late):
            assert status != 200, told
            assert told["type"] in ("urn:muster:ServiceNotFound", "urn:muster:NotReady", "urn:muster:Timeout"), told


async def test_commands_published_around_a_kill_all_find_one_outcome(kafka: SharedKafka, tmp_path: Path) -> None:
    prefix, commands = fresh(), 400
    async with controllers(tmp_path, kafka.bootstrap, prefix, 2) as (one, _other):
        producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap)
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
        async with producer, consumer:
            partitions = await producer.partitions_for(f"{prefix}.outcomes")
            consumer.assign([TopicPartition(f"{prefix}.outcomes", number) for number in partitions])
            for number in range(commands):
                stream = f"service/s{number % 16}"
                command = {
                    "id": f"c{number}",
                    "type": "muster.instance.register.v1",
                    "stream": stream,
                    "data": {"instance": f"i{number}", "spec": {"address": "127.0.0.1", "port": 80}},
                }
                await producer.send(f"{prefix}.commands", orjson.dumps(command), stream.encode())
                if number == commands // 2:
                    one.signal(signal.SIGKILL)
            await producer.flush()
            told: dict[str, set[bytes]] = {}
            async with asyncio.timeout(60):
                while len(told) < commands:
                    outcome = orjson.loads((await consumer.getone()).value)
                    fields = (outcome["status"], outcome["position"], outcome["version"], outcome["incarnation"])
                    told.setdefault(outcome["id"], set()).add(orjson.dumps(fields))
        assert {len(outcomes) for outcomes in told.values()} == {1}
