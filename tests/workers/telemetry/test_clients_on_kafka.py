"""What clients saw, on a real broker: told to any controller, or to telemetry, it is weighed where the service is written."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer

from muster import Client, Instance, Observation, Observations, ServiceLoad, TcpCheck
from muster.wire.route import partition_of
from muster.wire.stream import service_stream
from muster.wire.telemetry.observations import document_of, encode
from tests.processes.process_on_kafka import KafkaController, controllers
from tests.servers import SharedKafka
from tests.workers.http.registry.test_doubts import Relay
from tests.workers.telemetry.fleet import Worker

pytestmark = [pytest.mark.kafka, pytest.mark.process, pytest.mark.timeout(180)]
NAMES = ("a", "b", "c")
Tell = Callable[[Sequence[Observation]], Awaitable[None]]


async def rows_until(client: Client, holds: Callable[[Sequence[Instance]], bool]) -> Sequence[Instance]:
    async with asyncio.timeout(25):
        while True:
            rows = (await client.instances("users")).items
            if holds(rows):
                return rows
            await asyncio.sleep(0.05)


@asynccontextmanager
async def over_http(controller: KafkaController, address: str) -> AsyncIterator[Tell]:
    """A host with this address, which tells it to this controller."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(address, 0))) as session:

        async def tell(seen: Sequence[Observation]) -> None:
            message = Observations(f"on-{address}", "users", 5.0, list(seen))
            body = {"observations": [document_of(message)]}
            async with session.post(f"{controller.url}/v1/observations", json=body) as answer:
                answer.raise_for_status()

        yield tell


@asynccontextmanager
async def by_topic(bootstrap: str, prefix: str, host: str) -> AsyncIterator[Tell]:
    """A host that tells it to telemetry."""
    stream = service_stream("users")
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks=1) as producer:

        async def tell(seen: Sequence[Observation]) -> None:
            message = encode(Observations(f"on-{host}", "users", 5.0, list(seen), host))
            await producer.send_and_wait(f"{prefix}.heartbeats", message, stream.encode(), partition_of(stream, 8))

        yield tell


async def settled(client: Client) -> None:
    """A telemetry worker runs, and has read what was before."""
    async with asyncio.timeout(40):
        while True:
            workers = (await client.status())["telemetry"]
            if workers and not workers[0]["reading"]:
                return
            await asyncio.sleep(0.2)


async def believed(client: Client, *hosts: Tell) -> None:
    """Three instances whose checks fail together go at once when these hosts see them fail, each of which is needed."""
    relay = Relay()
    for name in NAMES:
        check = TcpCheck(host="127.0.0.1", port=await relay.open(name), name="port", interval_seconds=1.0)
        await client.register("users", name, "10.0.0.7", 80, checks=[check])
    await rows_until(client, lambda rows: all(row.health == "healthy" for row in rows))
    rows = (await client.instances("users")).items
    # All of them are known to call the instances, so that no two of them are enough.
    await asyncio.gather(
        *(tell([Observation(row.instance, row.incarnation, 9, 0, 0) for row in rows]) for tell in hosts)
    )
    relay.cut(*NAMES)
    rows = await rows_until(client, lambda rows: all(row.suspect is not None for row in rows))
    seen = [Observation(row.instance, row.incarnation, 10, 10, 10) for row in rows]
    async with asyncio.timeout(25):
        while any(row.discoverable for row in rows):
            await asyncio.gather(*(tell(seen) for tell in hosts))
            await asyncio.sleep(0.3)
            rows = (await client.instances("users")).items
    last = (await client.history("users", "a")).items[-1]
    assert last.data == {"instance": "a", "because": "observed", "clients": 3, "failing": 3}


async def test_what_is_told_to_several_controllers_is_one_opinion(kafka: SharedKafka, tmp_path: Path) -> None:
    prefix = f"t{token_hex(4)}"
    async with (
        controllers(tmp_path, kafka.bootstrap, prefix, 2) as (one, two),
        Client(one.url) as client,
        over_http(one, "127.0.0.2") as first,
        over_http(two, "127.0.0.3") as second,
        over_http(two, "127.0.0.4") as third,
    ):
        await believed(client, first, second, third)


async def test_what_is_told_to_telemetry_is_added_to_it(kafka: SharedKafka, tmp_path: Path) -> None:
    prefix = f"t{token_hex(4)}"
    async with (
        controllers(tmp_path, kafka.bootstrap, prefix, 1) as (controller,),
        Client(controller.url) as client,
        by_topic(kafka.bootstrap, prefix, "h1") as first,
        by_topic(kafka.bootstrap, prefix, "h2") as second,
        over_http(controller, "127.0.0.2") as third,
    ):
        worker = Worker(tmp_path, kafka.bootstrap, prefix, "one", 8)
        try:
            await settled(client)
            await believed(client, first, second, third)
            loads: Sequence[ServiceLoad] = await client.loads("users")
            assert [(load.observers, load.failure_share) for load in loads] == [(3, 1.0)]
            rows = (await client.instances("users")).items
            seen = [Observation(row.instance, row.incarnation, 10, 10, 10) for row in rows]
            async with asyncio.timeout(20):
                # Telemetry tells of instances every five seconds.
                while [row.observers for row in await client.instance_loads("users")] != [3] * 3:
                    await asyncio.gather(*(tell(seen) for tell in (first, second, third)))
                    await asyncio.sleep(0.2)
        finally:
            worker.kill()
