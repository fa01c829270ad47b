"""The controller of a writer, of a watcher and of a data node is killed: none of them is told an error, and no lease is lost."""

import asyncio
import re
import secrets
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from examples.demo.stage import all_events
from muster import Appeared, Client, Event, Keyspace, Snapshot
from muster.client.controllers import learning
from tests.processes.process_on_kafka import KafkaController, MusterProcess, controllers
from tests.processes.shard_cluster import eventually
from tests.servers import SharedKafka

pytestmark = [pytest.mark.kafka, pytest.mark.process, pytest.mark.timeout(180)]

WRITERS, BEFORE, BEHIND = 8, 10, 15
LEASE_SECONDS = 2.0


def fresh() -> str:
    return f"failover-{secrets.token_hex(4)}"


async def write(client: Client, writer: int, half: Callable[[], None]) -> dict[str, int]:
    """Register instances, one after the other. Returns the positions of those that were acknowledged."""
    positions = {}
    for number in range(BEFORE + BEHIND):
        written = await client.register(f"service-{writer}", f"i-{writer}-{number}", "127.0.0.1", 80)
        assert written.status == "accepted"
        positions[f"i-{writer}-{number}"] = written.position
        if number == BEFORE:
            half()
    return positions


async def watch(client: Client, told: list[str]) -> None:
    async for change in client.watch():
        assert isinstance(change, Snapshot | Appeared), change
        if isinstance(change, Appeared):
            told.append(change.instance.instance)


async def test_writers_and_a_watcher_go_on_at_the_other_controller_without_an_error(
    kafka: SharedKafka, tmp_path: Path
) -> None:
    async with controllers(tmp_path, kafka.bootstrap, fresh(), 2) as (one, other):
        under_way, told = asyncio.Semaphore(0), list[str]()
        async with Client(f"{one.url},{other.url}") as client, Client([one.url, other.url]) as watcher:
            watching = asyncio.create_task(watch(watcher, told))
            await eventually(_watched(one))
            writing = [asyncio.create_task(write(client, writer, under_way.release)) for writer in range(WRITERS)]
            for _ in writing:
                await under_way.acquire()
            one.signal(signal.SIGKILL)
            acknowledged = {name: at for written in await asyncio.gather(*writing) for name, at in written.items()}

            async def all_told() -> bool:
                return set(told) >= acknowledged.keys()

            await eventually(all_told)
            watching.cancel()
            assert client.url == watcher.url == other.url
            assert (len(acknowledged), Counter(told).most_common(1)[0][1]) == (WRITERS * (BEFORE + BEHIND), 1)
            assert recorded(await all_events(client)) == acknowledged


def recorded(events: list[Event]) -> dict[str, int]:
    """The registrations in the log, each by its instance: the position of its only event."""
    found = [event for event in events if event.stream.startswith("service/service-")]
    names = Counter(str(event.data["instance"]) for event in found)
    assert set(names.values()) == {1}
    return {str(event.data["instance"]): event.position for event in found}


def _watched(controller: KafkaController) -> Callable[[], object]:
    async def watched() -> bool:
        return await counted(controller, r"^muster_watchers (\d+)") > 0

    return watched


async def counted(controller: KafkaController, pattern: str) -> int:
    """What a metric of the controller says."""
    async with aiohttp.ClientSession() as session, session.get(f"{controller.url}/metrics") as answer:
        text = await answer.text()
    return sum(int(float(value)) for value in re.findall(pattern, text, flags=re.MULTILINE))


async def test_a_watch_is_resumed_by_its_token_at_another_controller(kafka: SharedKafka, tmp_path: Path) -> None:
    async with (
        controllers(tmp_path, kafka.bootstrap, fresh(), 2) as (one, other),
        Client(one.url) as client,
        aiohttp.ClientSession() as session,
    ):
        for number in range(5):
            await client.register(f"service-{number}", "i", "127.0.0.1", 80)
        async with session.get(f"{one.url}/v1/watch?consistency=strong") as begun:
            token = (await begun.content.readline()).decode().removeprefix("id: ").strip()
        for number in range(5):
            await client.register(f"service-{number}", "j", "127.0.0.1", 81)
        one.signal(signal.SIGKILL)
        told = b""
        async with session.get(f"{other.url}/v1/watch", headers={"Last-Event-ID": token}) as resumed:
            async with asyncio.timeout(20):
                while told.count(b'"instance":"j"') < 5:
                    told += await resumed.content.readany()
        assert b"event: reset" not in told
        assert b"event: snapshot" not in told
        assert b'"instance":"i"' not in told


async def test_writers_and_a_watcher_leave_a_controller_that_is_stopped(
    kafka: SharedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hangs, and keeps all of its connections open."""
    monkeypatch.setattr(learning, "LEARN_EVERY_SECONDS", 0.2)
    monkeypatch.setattr(learning, "ASK_SECONDS_MAX", 0.5)
    several = controllers(tmp_path, kafka.bootstrap, fresh(), 2)
    async with several as (one, other), Client([one.url, other.url], timeout_seconds=8) as client:
        told = list[str]()
        watching = asyncio.create_task(watch(client, told))
        await eventually(_watched(one))
        await client.register("service", "before", "127.0.0.1", 80)
        one.signal(signal.SIGSTOP)
        await client.register("service", "behind", "127.0.0.1", 80)

        async def all_told() -> bool:
            return told == ["before", "behind"]

        await eventually(all_told)
        watching.cancel()
        assert client.url == other.url


async def test_controllers_name_each_other_until_one_is_gone(kafka: SharedKafka, tmp_path: Path) -> None:
    async with controllers(tmp_path, kafka.bootstrap, fresh(), 2) as (one, other), aiohttp.ClientSession() as session:

        async def named(where: KafkaController) -> set[str]:
            async with session.get(f"{where.url}/v1/controllers") as answer:
                found = await answer.json()
            assert found["cluster"] == "default"
            return {item["url"] for item in found["items"]}

        async def both() -> bool:
            return await named(one) == await named(other) == {one.url, other.url}

        async def alone() -> bool:
            return await named(other) == {other.url}

        await eventually(both)
        one.signal(signal.SIGKILL)
        await eventually(alone)
        async with Client(other.url) as client:
            assert [row["url"] for row in (await client.status())["controllers"]] == [other.url]


@asynccontextmanager
async def data_node(folder: Path, url: str) -> AsyncIterator[MusterProcess]:
    """A data node that knows one controller."""
    options = ["--id", "n1", "--data", str(folder / "n1"), "--lease-seconds", str(LEASE_SECONDS), "--url", url]
    node = MusterProcess(folder / "n1.log", "node", "run", *options)
    try:
        yield node
    finally:
        node.end()


async def put_for(users: Keyspace, seconds: float, writer: int) -> int:
    """Put values, one after the other, for so long. Returns how many were acknowledged."""
    ends_at, count = time.monotonic() + seconds, 0
    while time.monotonic() < ends_at:
        await users.put(f"key-{writer}-{count}", b"value")
        count += 1
        await asyncio.sleep(0.005)
    return count


async def test_a_data_node_and_its_writers_learn_of_the_other_controller_and_no_lease_is_lost(
    kafka: SharedKafka, tmp_path: Path
) -> None:
    """They are given one controller alone. It is killed as soon as each of them has asked it who else is there."""
    several = controllers(tmp_path, kafka.bootstrap, fresh(), 2)
    async with several as (one, other), data_node(tmp_path, one.url) as node, Client(one.url) as client:

        async def joined() -> bool:
            return bool((await client.shards.nodes()).items)

        async def served() -> bool:
            return (await client.shards.keyspace("users")).active == 4

        await eventually(joined)
        await client.shards.create_keyspace("users", 4)
        await eventually(served)
        async with Keyspace("users", one.url) as users:

            async def all_have_learned() -> bool:
                learned = f"the controllers are now {one.url}, {other.url}" in node.log()
                return learned and {one.url, other.url} == set(client.urls) == set(users._transport.controllers.urls)

            await eventually(all_have_learned)
            putting = [asyncio.create_task(put_for(users, 1.5 * LEASE_SECONDS, writer)) for writer in range(4)]
            await users.put("first", b"value")
            one.signal(signal.SIGKILL)
            assert min(await asyncio.gather(*putting)) > 0
            assert await users.get("key-0-0") == b"value"
        [row] = (await client.shards.nodes(consistency="strong")).items
        assert (row.node, row.alive, row.incarnation) == ("n1", True, 0)
        types = {event.type for event in await all_events(client)}
        assert {name for name in types if name.startswith("muster.node.")} == {"muster.node.joined.v1"}, node.log()
        assert f"the controller at {other.url} answers; before, it was {one.url}" in node.log()
