"""Workers on a real broker, killed, stopped, joined, left, and the broker killed: all silent ones are found, none falsely."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex

import pytest

from infra.local.kafka import LocalKafka
from muster import Client
from tests.processes.process_on_kafka import controllers
from tests.servers import SharedKafka
from tests.workers.telemetry.fleet import LEASE, Fleet, Worker
from workers.doctor.telemetry import examine_telemetry

pytestmark = [pytest.mark.kafka, pytest.mark.process, pytest.mark.timeout(180)]

PARTITIONS = 4
Start = Callable[[str], Worker]


@asynccontextmanager
async def started(bootstrap: str, folder: Path) -> AsyncIterator[tuple[Fleet, Start]]:
    """200 instances of 8 services that beat, and what starts a worker; all of them are killed at the end."""
    fleet = Fleet(bootstrap, f"t{token_hex(4)}", PARTITIONS, [f"s{number}" for number in range(8)], 25)
    workers: list[Worker] = []

    def start(name: str) -> Worker:
        workers.append(Worker(folder, bootstrap, fleet.prefix, name, PARTITIONS))
        return workers[-1]

    await fleet.register()
    try:
        async with fleet.running():
            yield fleet, start
    finally:
        for worker in workers:
            worker.kill()


def some_of_each(fleet: Fleet, first: int, count: int) -> list[tuple[str, str]]:
    """Some instances of each service: so of every partition."""
    return [(service, name) for service in fleet.services for name in fleet.names(service)[first : first + count]]


async def all_found(fleet: Fleet, seconds: float) -> None:
    """All that are silent are found within so many seconds, nobody else is, and no id is used twice."""
    await fleet.until("all silent ones are found", seconds, lambda: set(fleet.found) >= fleet.silent)
    assert fleet.falsely == set()
    fleet.check_ids()


async def test_who_falls_silent_is_found_when_the_lease_is_over(kafka: SharedKafka, tmp_path: Path) -> None:
    async with started(kafka.bootstrap, tmp_path) as (fleet, start):
        worker = start("one")
        await fleet.settled(worker)
        fleet.fall_silent(some_of_each(fleet, 0, 3))
        await all_found(fleet, LEASE + 5)
        assert min(fleet.found.values()) >= LEASE
        # A tick is 0.1 s; the rest is a machine that has other things to do.
        assert max(fleet.found.values()) < LEASE + 2
        # 24 instances of 8 services: a command for each service and message, and none for each instance.
        assert len(fleet.told) <= 2 * len(fleet.services)
        load = fleet.rows["service/s0"]
        assert (load["instances"], load["heard"], load["in_flight"]) == (25, 25, 25.0)


async def test_a_worker_that_is_killed_leaves_no_silence_behind(kafka: SharedKafka, tmp_path: Path) -> None:
    async with started(kafka.bootstrap, tmp_path) as (fleet, start):
        one, two = start("one"), start("two")
        await fleet.settled(one, two)
        fleet.fall_silent(some_of_each(fleet, 0, 3))
        await asyncio.sleep(1.7)  # So that both have seen the last beats; then one takes what it knows with it.
        one.kill()
        await all_found(fleet, LEASE + 15)
        await fleet.settled(two)
        fleet.fall_silent(some_of_each(fleet, 3, 2))
        await all_found(fleet, LEASE + 5)


async def test_a_worker_joins_and_another_leaves_in_order(kafka: SharedKafka, tmp_path: Path) -> None:
    async with started(kafka.bootstrap, tmp_path) as (fleet, start):
        one = start("one")
        await fleet.settled(one)
        fleet.fall_silent(some_of_each(fleet, 0, 3))
        two = start("two")
        await fleet.settled(one, two)
        one.signal(signal.SIGTERM)
        assert await asyncio.to_thread(one.wait, 20) == 0, one.log()
        assert fleet.rows["telemetry/one"]["state"] == "leaving"
        await fleet.settled(two, seconds=15)
        await all_found(fleet, LEASE + 5)
        await asyncio.sleep(3)
        assert fleet.falsely == set()


async def test_a_worker_that_hung_takes_nobody_for_silent(kafka: SharedKafka, tmp_path: Path) -> None:
    async with started(kafka.bootstrap, tmp_path) as (fleet, start):
        one = start("one")
        await fleet.settled(one)
        one.signal(signal.SIGSTOP)
        fleet.fall_silent(some_of_each(fleet, 0, 3))
        await asyncio.sleep(LEASE + 2)
        one.signal(signal.SIGCONT)
        await all_found(fleet, LEASE + 20)
        await fleet.settled(one)
        await asyncio.sleep(3)
        assert fleet.falsely == set()


async def test_a_broker_that_was_away_takes_nobody_for_silent(kafka_alone: LocalKafka, tmp_path: Path) -> None:
    async with started(kafka_alone.bootstrap, tmp_path) as (fleet, start):
        one = start("one")
        await fleet.settled(one)
        kafka_alone.kill()
        fleet.fall_silent(some_of_each(fleet, 0, 3))
        await asyncio.sleep(LEASE + 2)
        await kafka_alone.start()
        await all_found(fleet, 2 * LEASE + 40)
        await fleet.settled(one)
        await asyncio.sleep(3)
        assert fleet.falsely == set()


async def test_the_writer_removes_who_is_silent_and_shows_the_worker(kafka: SharedKafka, tmp_path: Path) -> None:
    prefix = f"t{token_hex(4)}"
    async with controllers(tmp_path, kafka.bootstrap, prefix, 1) as (controller,):
        fleet = Fleet(kafka.bootstrap, prefix, 8, ["orders"], 1)
        async with Client(controller.url) as client:
            written = await client.register(
                "orders", "orders-0", "10.0.0.7", 80, lease_seconds=LEASE, heartbeats="topic"
            )
            assert written.incarnation == 0
            worker = Worker(tmp_path, kafka.bootstrap, prefix, "one", 8)
            try:
                async with fleet.running():
                    await fleet.settled(worker)
                    await asyncio.sleep(LEASE + 2)
                    assert (await client.instance("orders", "orders-0")).heartbeats == "topic"
                    (seen,) = (await client.status())["telemetry"]
                    assert (seen["worker"], seen["state"], seen["instances"]) == ("one", "running", 1)
                    examined = await examine_telemetry(kafka.bootstrap, 8, prefix)
                    assert [(found.verdict, found.subject) for found in examined] == [("ok", "telemetry one")]
                    fleet.fall_silent([("orders", "orders-0")])
                    last = await gone(client)
                worker.kill()
                await silent_worker(client)
                conditions = (await client.status())["conditions"]
                assert [(each["kind"], each["subject"]) for each in conditions] == [("unwatched", "telemetry")]
                (examined,) = await examine_telemetry(kafka.bootstrap, 8, prefix)
                assert examined.verdict == "warning"
            finally:
                worker.kill()
        assert (last.type, last.data["cause"], last.actor) == (
            "muster.instance.deregistered.v1",
            "lease_expired",
            "telemetry/one",
        )


async def gone(client: Client):
    async with asyncio.timeout(LEASE + 10):
        while True:
            last = (await client.history("orders", "orders-0")).items[-1]
            if last.type == "muster.instance.deregistered.v1":
                return last
            await asyncio.sleep(0.2)


async def silent_worker(client: Client) -> None:
    async with asyncio.timeout(20):
        while not (await client.status())["conditions"]:  # noqa: ASYNC110 it is elsewhere
            await asyncio.sleep(0.2)
