"""Who has no cluster key is no controller: forged and recorded signs of life, and requests in a peer's name."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from infra.cluster_key import own_key
from infra.settings import Settings
from muster import Client
from tests.processes.process_on_kafka import KafkaController, cluster_key
from tests.servers import SharedKafka
from workers.controller.process import running
from workers.peers.cluster_key import ClusterKey
from workers.peers.credentials import PROOF_HEADER, Credentials
from workers.peers.members import Member
from workers.peers.roll_call import RollCall

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
EXECUTE = "/v1/peer/execute"
SERVICES = [f"service-{number}" for number in range(12)]
GIVEN_AWAY = {
    "id": "forged",
    "type": "muster.instance.register.v1",
    "stream": "service/forged",
    "data": {"instance": "a", "spec": {"address": "10.0.0.1", "port": 80}},
}


class Cluster:
    """The topics of one cluster, and what somebody who may use them can do."""

    def __init__(self, kafka: SharedKafka, folder: Path) -> None:
        self.bootstrap, self.folder = kafka.bootstrap, folder
        self.prefix = f"hostile-{secrets.token_hex(4)}"
        self.topic = f"{self.prefix}.controllers"
        self.key = ClusterKey(own_key(folder))

    @asynccontextmanager
    async def controller(self, name: str = "one") -> AsyncIterator[str]:
        """The url of a controller in this process, which has the key."""
        settings = Settings(
            data=self.folder / name,
            http="127.0.0.1:0",
            kafka=self.bootstrap,
            prefix=self.prefix,
            cluster_key=cluster_key(self.folder),
        )
        async with running(settings) as found:
            await self.written(found.url)
            yield found.url

    async def written(self, url: str) -> None:
        """Something is written to every partition, at its first try once it is taken at all."""
        async with Client(url, timeout_seconds=40) as client:
            for service in SERVICES:
                await client.register(service, "a", "10.0.0.1", 80)

    @asynccontextmanager
    async def signs(self) -> AsyncIterator[AIOKafkaConsumer]:
        """Whoever may read the topic has these."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="earliest")
        async with consumer:
            consumer.assign([TopicPartition(self.topic, 0)])
            await consumer.seek_to_beginning()
            yield consumer

    async def all_signs(self) -> list[bytes]:
        """The signs of life so far, the oldest first."""
        async with self.signs() as consumer:
            here = TopicPartition(self.topic, 0)
            end = (await consumer.end_offsets([here]))[here]
            return [(await consumer.getone()).value for _ in range(end)]

    async def newest_sign(self) -> dict[str, Any]:
        """The newest sign of life."""
        return orjson.loads((await self.all_signs())[-1])  # type: ignore[no-any-return]

    @asynccontextmanager
    async def flooded(self, signs: Callable[[int], bytes]) -> AsyncIterator[None]:
        """Meanwhile somebody says such signs, as fast as the broker takes them."""
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks=1) as producer:

            async def flood() -> None:
                number = 0
                while True:
                    sent = await producer.send(self.topic, signs(number), partition=0)
                    number += 1
                    if number % 50 == 0:
                        await sent

            flooding = asyncio.create_task(flood())
            try:
                yield
            finally:
                flooding.cancel()
                await asyncio.wait([flooding])


@pytest.fixture
def cluster(kafka: SharedKafka, tmp_path: Path) -> Cluster:
    return Cluster(kafka, tmp_path)


async def told(url: str, path: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url + path) as answer:
        return await (answer.json() if "json" in answer.content_type else answer.text())


async def named(url: str) -> int:
    """How many controllers it knows."""
    return len((await told(url, "/v1/controllers"))["items"])


async def terms(url: str) -> list[int]:
    return [one["term"] for one in (await told(url, "/v1/status"))["partitions"]]


async def until(holds: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(30):
        while not (found := await holds()):  # noqa: ASYNC110 what is asked is elsewhere, and sets no event
            await asyncio.sleep(0.02)
        return found


async def test_a_request_in_a_peers_name_is_refused_unless_it_has_the_key_for_this_process_and_body(
    cluster: Cluster,
) -> None:
    body = orjson.dumps(GIVEN_AWAY)
    async with cluster.controller() as url, aiohttp.ClientSession() as session:

        async def ask(header: str | None, sent: bytes = body, path: str = EXECUTE) -> tuple[int, dict[str, Any]]:
            headers = {"Content-Type": "application/json"} | ({} if header is None else {PROOF_HEADER: header})
            async with session.post(url + path, data=sent, headers=headers) as answer:
                return answer.status, await answer.json()

        sign = await cluster.newest_sign()
        attacker = RollCall(cluster.key, cluster.topic, Member("attacker", "http://attacker"))
        attacker.hear(orjson.dumps(sign))
        credentials = Credentials(cluster.key, attacker)
        good = credentials.request(sign["controller"], "POST", EXECUTE, body)
        forged = {
            "without a proof": (None, body, EXECUTE),
            "an empty one": ("", body, EXECUTE),
            "of another key": (
                Credentials(ClusterKey(b"?" * 32), attacker).request(sign["controller"], "POST", EXECUTE, body),
                body,
                EXECUTE,
            ),
            "for another process": (credentials.request("host/00000000", "POST", EXECUTE, body), body, EXECUTE),
            "for another path": (good, b"", "/v1/peer/prove/0"),
            "with another body": (good, body.replace(b"10.0.0.1", b"10.6.6.6"), EXECUTE),
        }
        for what, (header, sent, path) in forged.items():
            status, problem = await ask(header, sent, path)
            assert (status, problem["type"]) == (403, "urn:muster:NotAPeer"), what
            assert problem["detail"]
        async with Client(url) as client:
            assert "forged" not in {one.service for one in (await client.services(consistency="strong")).items}
            status, answer = await ask(good)
            assert (status, answer["status"]) == (200, "accepted")
            # Said again at once it is the same command: it has the answer that it had.
            assert (await ask(good))[1]["duplicate"]
            assert "forged" in {one.service for one in (await client.services(consistency="strong")).items}


async def test_a_body_without_a_proof_is_not_even_read(cluster: Cluster) -> None:
    async with cluster.controller() as url:
        host, port = url.removeprefix("http://").rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        head = (
            f"POST {EXECUTE} HTTP/1.1",
            f"Host: {host}:{port}",
            "Content-Type: application/json",
            "Content-Length: 9999999",
        )
        writer.write("\r\n".join([*head, "", ""]).encode())
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 403")
        writer.close()


def forgery(url: str) -> Callable[[int], bytes]:
    """Signs of who has no key: with another one, with none, and in the names of many."""
    evil = RollCall(ClusterKey(b"?" * 32), "any", Member("evil/00000000", url))
    makers: list[Callable[[int], bytes]] = [
        lambda _: evil.sign("ready"),
        lambda number: orjson.dumps({"controller": f"evil/{number}", "url": url, "state": "ready"}),
        lambda _: orjson.dumps({"controller": "evil/\x1b[31m", "url": url, "state": "ready", "hmac": "0" * 64}),
        lambda number: b"{" * (number % 100),
    ]
    return lambda number: makers[number % len(makers)](number)


async def test_a_flood_of_forged_signs_takes_no_partition_gets_no_command_and_is_told(cluster: Cluster) -> None:
    asked: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    url_of_evil = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, cluster.controller() as url:
        before = await terms(url)
        async with cluster.flooded(forgery(url_of_evil)):

            async def noticed() -> list[dict[str, Any]]:
                conditions = (await told(url, "/v1/status"))["conditions"]
                return [one for one in conditions if one["subject"] == "controller evil/00000000"]

            [condition] = await until(noticed)
            assert (condition["kind"], condition["url"]) == ("stranger", url_of_evil)
            assert "--cluster-key FILE" in condition["reason"]
            async with Client(url, timeout_seconds=10) as client:
                for number in range(20):
                    for service in SERVICES:
                        await client.heartbeat(service, "a")
                    assert await named(url) == 1, number
        metrics = await told(url, "/metrics")
        assert 'muster_conditions{kind="stranger"} 0.0' not in metrics
        [counted] = [line for line in metrics.splitlines() if line.startswith("muster_strange_signs_total ")]
        assert float(counted.split()[1]) > 0
        assert (asked, await terms(url)) == ([], before)


async def test_recorded_signs_of_a_dead_controller_do_not_bring_it_back(cluster: Cluster) -> None:
    """Neither to who has heard it, nor to who has started since; though somebody listens at its address."""
    async with cluster.controller() as url:
        async with cluster.controller("two") as second:
            await until(lambda: _both(url, second))
        of_the_dead = [sign for sign in await cluster.all_signs() if orjson.loads(sign)["url"] == second]
        assert of_the_dead
        host, port = second.removeprefix("http://").rsplit(":", 1)
        listens = await asyncio.start_server(lambda reader, writer: reader.read(1), host, int(port))
        async with listens, cluster.flooded(lambda number: of_the_dead[number % len(of_the_dead)]):
            await cluster.written(url)
            before = await terms(url)
            async with cluster.controller("three") as newcomer:
                await until(lambda: _both(url, newcomer))
                names = {one["url"] for one in (await told(newcomer, "/v1/controllers"))["items"]}
                assert names == {url, newcomer}
                await cluster.written(newcomer)
            await cluster.written(url)
            # The newcomer had some of the partitions, and gave them back: nobody else has begun a term.
            after = await terms(url)
            assert all(now - was <= 2 for now, was in zip(after, before, strict=True)), (before, after)


async def _both(one: str, other: str) -> bool:
    return await named(one) == await named(other) == 2


@pytest.mark.process
async def test_forged_signs_of_a_dead_writer_do_not_keep_its_partitions_for_it(cluster: Cluster) -> None:
    """Also not from a controller that has started since, and cannot tell whether the dead one had its key."""
    first = KafkaController(cluster.folder, cluster.bootstrap, cluster.prefix, "first")
    try:
        await cluster.written(first.url)
        sign = await cluster.newest_sign()
    finally:
        first.end()
    sign |= {"hmac": "0" * 64}
    async with cluster.flooded(lambda _: orjson.dumps(sign)), cluster.controller("second") as url:
        assert await named(url) == 1
