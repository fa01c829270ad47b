"""Instances whose heartbeats come by the topic: their registrations in the log, and their beats, 50 in a message.

    python -m benchmarks.telemetry.population BOOTSTRAP PREFIX PARTITIONS INSTANCES SILENT SILENT_AFTER_SECONDS

Beats once a second until SIGTERM. The first SILENT instances (whole messages of them) fall silent after so many seconds.
"""

import asyncio
import signal
import sys
from collections.abc import Iterator
from typing import Final

import uvloop
from aiokafka import AIOKafkaProducer

from benchmarks.log.history import Told
from domain.registry.instance import InstanceRegistered
from muster.wire.registry.spec import Spec
from muster.wire.route import partition_of
from muster.wire.telemetry.heartbeats import Beat, encode

SERVICE_INSTANCES: Final = 1_000
MESSAGE_BEATS: Final = 50
LEASE_SECONDS: Final = 10.0
SLICES: Final = 20
"""A second's messages leave in so many parts, as from many hosts."""


def service_of(number: int) -> str:
    """The service of an instance; a service has 1,000."""
    return f"s{number // SERVICE_INSTANCES}"


def registrations(instances: int) -> Iterator[Told]:
    """The events of the log; an instance's incarnation is its place in its service."""
    told = Spec(address="10.0.0.7", port=8080, lease_seconds=LEASE_SECONDS, heartbeats="topic")
    for number in range(instances):
        place = number % SERVICE_INSTANCES
        registered = InstanceRegistered(instance=f"i{number}", incarnation=place, spec=told, health="healthy")
        yield f"service/{service_of(number)}", registered


def messages(instances: int, partitions: int) -> list[tuple[int, bytes, bytes]]:
    """(partition, key, value) of each message: what it says is the same each second, so it is made once."""
    found = []
    for first in range(0, instances, MESSAGE_BEATS):
        service = service_of(first)
        some = range(first, min(first + MESSAGE_BEATS, instances))
        beats = [Beat(f"i{number}", number % SERVICE_INSTANCES, 12, 310.5, 0.5, 0.61) for number in some]
        key = f"service/{service}"
        found.append((partition_of(key, partitions), key.encode(), encode("bench", service, beats)))
    return found


async def beat(bootstrap: str, prefix: str, given: list[tuple[int, bytes, bytes]], silent: int, after: float) -> None:
    """Send all messages once a second, spread over it, until the process is told to stop."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    topic, began, turn = f"{prefix}.heartbeats", loop.time(), 0
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks=1, linger_ms=5, max_batch_size=512 * 1024)
    async with producer:
        while not stopped.is_set():
            quiet = silent // MESSAGE_BEATS if loop.time() - began >= after else 0
            for number in range(turn % SLICES, len(given), SLICES):
                partition, key, value = given[number]
                if number >= quiet:
                    await producer.send(topic, value, key, partition=partition)
            turn += 1
            await asyncio.sleep(max(0.0, began + turn / SLICES - loop.time()))


if __name__ == "__main__":
    _, to_bootstrap, to_prefix, of_partitions, how_many, are_silent, silent_after = sys.argv
    all_messages = messages(int(how_many), int(of_partitions))
    uvloop.run(beat(to_bootstrap, to_prefix, all_messages, int(are_silent), float(silent_after)))
