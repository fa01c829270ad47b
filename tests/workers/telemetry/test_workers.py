"""Workers on a real broker, killed, stopped, joined, left, and the broker killed: all silent ones are found, none falsely."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from secrets import token_hex

import pytest

from infra.local.kafka import LocalKafka
from muster import Client
from muster.wire.registry.answers import HistoryEntry
from tests.processes.process_on_kafka import controllers
from tests.servers import SharedKafka
from tests.workers.telemetry.fleet import LEASE, Fleet, Worker
from workers.doctor.telemetry import examine_telemetry

pytestmark = [pytest.mark.kafka, pytest.mark.process, pytest.mark.timeout(180)]

PARTITIONS = 4
SHORT = 4.0
"""A lease of which a beat a second may miss some, on a machine that has other things to do."""

Start = Callable[[str], Worker]


@asynccontextmanager
async def started(
    bootstrap: str, folder: Path, lease_of: Callable[[int], float] = lambda _number: SHORT
) -> AsyncIterator[tuple[Fleet, Start]]:
    """200 instances of 8 services that beat, and what starts a worker; all of them are killed at the end."""
    services = [f"s{number}" for number in range(8)]
    fleet = Fleet(bootstrap, f"t{token_hex(4)}", PARTITIONS, services, 25, lease_of)
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


async def nobody_else_is_found(fleet: Fleet, *workers: Worker) -> None:
    """Nor is anybody within a lease from now on, in which those whom a worker took for silent would be told."""
    await fleet.settled(*workers)
    await fleet.judged(SHORT, *workers)
    assert fleet.falsely == set()


async def test_who_falls_silent_is_found_when_the_lease_is_over(kafka: SharedKafka, tmp_path: Path) -> None:
    async with started(kafka.bootstrap, tmp_path) as (fleet, start):
        worker = start("one")
        await fleet.settled(worker)
        fleet.fall_silent(some_of_each(fleet, 0, 3))
        await all_found(fleet, SHORT + 5)
        assert min(fleet.found.values()) >= SHORT
        # A tick is 0.1 s; the rest is a machine that has other things to do.
        assert max(fleet.found.values()) < SHORT + 2
        # 24 instances of 8 services: a command for each service and message, and none for each instance.
        assert len(fleet.told) <= 2 * len(fleet.services)
        load = fleet.rows["service/s0"]
        assert (load["instances"], load["heard"], load["in_flight"]) == (25, 25, 25.0)


async def test_a_worker_that_is_killed_leaves_no_silence_behind(kafka: SharedKafka, tmp_path: Path) -> None:
    # The first three of each are silent for longer than it takes to miss a worker.
    async with started(kafka.bootstrap, tmp_path, lambda number: LEASE if number < 3 else SHORT) as (fleet, start):
        one, two = start("one"), start("two")
        await fleet.settled(one, two)
        fleet.fall_silent(some_of_each(fleet, 0, 3))
        # Both have seen the last beats; then one takes what it knows with it.
        first = set(fleet.silent)
        await fleet.heard(first, one, two)
        one.kill()
        killed = time.monotonic()
        await fleet.settled(two)
        taken_over = time.monotonic() - killed
        fleet.fall_silent(some_of_each(fleet, 3, 2))
        await all_found(fleet, LEASE + 5)
        # What the other one had seen was read again: the silence is as long as if nobody had been killed.
        assert fleet.told_after(first) < max(LEASE, taken_over) + 4


async def test_a_worker_joins_and_another_leaves_in_order(kafka: SharedKafka, tmp_path: Path) -> None:
    # The lease is over when both has happened.
    async with started(kafka.bootstrap, tmp_path, lambda number: 8.0 if number < 3 else SHORT) as (fleet, start):
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
        await nobody_else_is_found(fleet, two)


async def test_a_worker_that_hung_takes_nobody_for_silent(kafka: SharedKafka, tmp_path: Path) -> None:
    async with started(kafka.bootstrap, tmp_path) as (fleet, start):
        one = start("one")
        await fleet.settled(one)
        one.signal(signal.SIGSTOP)
        fleet.fall_silent(some_of_each(fleet, 0, 3))
        # It is missed after 6 s, which is longer than the lease.
        await fleet.left_by_all()
        assert not fleet.found
        one.signal(signal.SIGCONT)
        await all_found(fleet, SHORT + 20)
        await nobody_else_is_found(fleet, one)


async def test_a_broker_that_was_away_takes_nobody_for_silent(kafka_alone: LocalKafka, tmp_path: Path) -> None:
    async with started(kafka_alone.bootstrap, tmp_path) as (fleet, start):
        one = start("one")
        await fleet.settled(one)
        kafka_alone.kill()
        fleet.fall_silent(some_of_each(fleet, 0, 3))
        # Away for longer than the lease: nobody could be heard, and nothing else can be waited for.
        await asyncio.sleep(SHORT)
        await kafka_alone.start()
        await all_found(fleet, SHORT + 50)
        await nobody_else_is_found(fleet, one)
        assert longest_pause(fleet) > SHORT


def longest_pause(fleet: Fleet) -> float:
    """The seconds between two beats of those that beat."""
    beats = fleet.beats["s0", "s0-24"]
    return max(after - before for before, after in pairwise(beats)) / 1000


async def test_the_writer_removes_who_is_silent_and_shows_the_worker(kafka: SharedKafka, tmp_path: Path) -> None:
    prefix = f"t{token_hex(4)}"
    async with controllers(tmp_path, kafka.bootstrap, prefix, 1) as (controller,):
        fleet = Fleet(kafka.bootstrap, prefix, 8, ["orders"], 2)
        worker = Worker(tmp_path, kafka.bootstrap, prefix, "one", 8)
        try:
            async with Client(controller.url) as client, fleet.running():
                for number in range(2):
                    written = await client.register(
                        "orders", f"orders-{number}", "10.0.0.7", 80, lease_seconds=LEASE, heartbeats="topic"
                    )
                    assert written.incarnation == number
                await fleet.settled(worker)
                fleet.fall_silent([("orders", "orders-1")])
                (seen,) = (await client.status())["telemetry"]
                assert (seen["worker"], seen["state"], seen["instances"]) == ("one", "running", 2)
                examined = await examine_telemetry(kafka.bootstrap, 8, prefix)
                assert [(found.verdict, found.subject) for found in examined] == [("ok", "telemetry one")]
                last = await gone(client)
                # The other one beats, and is there though it has not renewed its lease otherwise.
                assert (await client.instance("orders", "orders-0")).heartbeats == "topic"
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
    assert fleet.falsely == set()


async def gone(client: Client) -> HistoryEntry:
    async with asyncio.timeout(LEASE + 10):
        while True:
            last = (await client.history("orders", "orders-1")).items[-1]
            if last.type == "muster.instance.deregistered.v1":
                return last
            await asyncio.sleep(0.2)


async def silent_worker(client: Client) -> None:
    async with asyncio.timeout(20):
        while not (await client.status())["conditions"]:  # noqa: ASYNC110 it is elsewhere
            await asyncio.sleep(0.2)
