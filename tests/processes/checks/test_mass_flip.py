"""Checks that fail together, on `muster up` as an operator starts it: alone, and two on a Kafka of which one is killed."""

import asyncio
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infra.local.child import free_port
from muster import Client
from muster.wire.registry.answers import HistoryEntry, Instance
from muster.wire.registry.check import TcpCheck
from muster.wire.route import partition_of
from tests.processes.process_on_kafka import MusterProcess, controllers
from tests.servers import SharedKafka

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

NAMES = ("a", "b", "c", "d")
INTERVAL = 0.2
DISPUTED, BELIEVED = "muster.instance.checks_disputed.v1", "muster.instance.checks_believed.v1"


@asynccontextmanager
async def one_controller(folder: Path, *options: str) -> AsyncIterator[Client]:
    """A client of a controller that has been started with these options."""
    address = f"127.0.0.1:{free_port()}"
    process = MusterProcess(folder / "up.log", "up", "--data", str(folder / "data"), "--http", address, *options)
    try:
        async with Client(f"http://{address}", timeout_seconds=30) as client:
            yield client
    finally:
        process.end()


@asynccontextmanager
async def targets(client: Client) -> AsyncIterator[Callable[[], None]]:
    """Four healthy instances of `orders`, each with a server of its own that is checked, and what ends all servers at once."""
    servers = [await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0) for _ in NAMES]
    for name, server in zip(NAMES, servers, strict=True):
        port = int(server.sockets[0].getsockname()[1])
        check = TcpCheck(host="127.0.0.1", port=port, name="port", interval_seconds=INTERVAL, unhealthy_after=2)
        await client.register("orders", name, "127.0.0.1", port, checks=(check,))

    def end() -> None:
        for server in servers:
            server.close()

    await until(client, lambda rows: all(row.health == "healthy" for row in rows))
    yield end
    end()


async def until(client: Client, holds: Callable[[Sequence[Instance]], bool]) -> Sequence[Instance]:
    """The instances, once it holds of them."""
    async with asyncio.timeout(40):
        while True:
            rows = (await client.instances("orders")).items
            if holds(rows):
                return rows
            await asyncio.sleep(0.05)


async def events_of(client: Client, name: str) -> Sequence[HistoryEntry]:
    return (await client.history("orders", name)).items


def all_suspect(rows: Sequence[Instance]) -> bool:
    return len(rows) == len(NAMES) and all(row.suspect for row in rows)


def nobody_is_served(rows: Sequence[Instance]) -> bool:
    return not any(row.discoverable for row in rows)


async def on_command_line(client: Client, *words: str) -> str:
    """What `muster` says to these words."""
    command = [sys.executable, "-m", "muster", *words, "--url", client.url]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_all_that_stop_to_answer_at_once_are_served_and_marked_until_an_operator_believes_it(
    tmp_path: Path,
) -> None:
    async with one_controller(tmp_path, "--mass-flip-seconds", "600") as client, targets(client) as end:
        end()
        rows = await until(client, all_suspect)
        assert {(row.health, row.suspect) for row in rows} == {("unhealthy", "checks fail together")}
        assert [one.instance for one in await client.discover("orders")] == list(NAMES)

        async def is_a_condition() -> bool:
            return bool((await client.status())["conditions"])

        await comes(is_a_condition)
        (condition,) = (await client.status())["conditions"]
        assert (condition["kind"], condition["subject"], condition["instances"]) == ("suspect", "service orders", 4)
        assert (await on_command_line(client, "instances", "orders")).count("suspect: checks fail together") == 4

        await on_command_line(client, "believe", "orders", "a", "--reason", "the rack is dark", "--actor", "ann")
        rows = await until(client, lambda rows: not rows[0].discoverable)
        assert [(row.discoverable, bool(row.suspect)) for row in rows] == [(False, False), *[(True, True)] * 3]
        *_, last = await events_of(client, "a")
        assert (last.type, last.data["because"], last.actor, last.reason) == (
            BELIEVED,
            "told",
            "ann",
            "the rack is dark",
        )

        await on_command_line(client, "believe", "orders")
        assert not any(row.suspect for row in await until(client, nobody_is_served))


async def test_where_it_is_turned_off_all_of_them_go_at_once(tmp_path: Path) -> None:
    async with one_controller(tmp_path, "--mass-flip-seconds", "0") as client, targets(client) as end:
        end()
        await until(client, nobody_is_served)
        for name in NAMES:
            assert DISPUTED not in [event.type for event in await events_of(client, name)]


@pytest.mark.kafka
async def test_of_two_controllers_the_second_ends_the_doubt_that_began_under_the_first_when_its_time_is_over(
    kafka: SharedKafka, tmp_path: Path
) -> None:
    seconds, prefix = 15.0, f"flip-{secrets.token_hex(4)}"
    options = ("--mass-flip-seconds", str(seconds))
    async with controllers(tmp_path, kafka.bootstrap, prefix, 2, *options) as both:
        async with Client(both[0].url) as client:
            killed, left = both if await writes_orders(client) else reversed(both)
        async with Client(left.url, timeout_seconds=30) as client, targets(client) as end:
            assert not await writes_orders(client)
            end()
            await until(client, all_suspect)
            killed.end()
            await comes(lambda: writes_orders(client))
            # The doubt stands, and all are served, under the second one too.
            rows = (await client.instances("orders")).items
            assert all(row.suspect and row.discoverable for row in rows)
            assert not any(row.suspect for row in await until(client, nobody_is_served))
            for name in NAMES:
                began, ended = [one for one in await events_of(client, name) if one.type in (DISPUTED, BELIEVED)]
                assert (ended.type, ended.data["because"]) == (BELIEVED, "time")
                # By the instants in the log; its full length anew, from the takeover on, would be over 5 s more.
                assert seconds <= (ended.at - began.at).total_seconds() < seconds + 3


async def writes_orders(client: Client) -> bool:
    """Whether the controller of this client writes the partition of the service."""
    number = partition_of("service/orders", 8)
    (found,) = [one for one in (await client.status())["partitions"] if one["partition"] == number]
    return bool(found["state"] == "reigning")


async def comes(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(40):
        while not await condition():  # noqa: ASYNC110 it is another process
            await asyncio.sleep(0.1)
