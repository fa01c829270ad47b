"""Failover on Kafka: the writer of a partition is killed; how long until the other controller acknowledges a write."""

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from benchmarks.bench import KAFKA, Bench, Place
from benchmarks.controller import HOST, Controller, controller
from benchmarks.data import spec
from benchmarks.load.http_load import request
from benchmarks.table import Row
from infra.cluster_key import KEY_FILE
from muster.wire.route import partition_of
from workers.peers.members import Member, Members

_EVERY_SECONDS: Final = 0.005
_ANSWER_SECONDS_MAX: Final = 30.0
_SHARE_SECONDS_MAX: Final = 30.0


def run(bench: Bench) -> Iterator[Row]:
    """Two controllers with partitions each; no target was set."""
    if KAFKA not in bench.engines:
        return
    yield Row(
        "failover",
        "SIGKILL of the writer to the next acknowledged write",
        KAFKA,
        "through the other",
        "s",
        [_survived(bench) for _ in range(bench.runs)],
    )


def _survived(bench: Bench) -> float:
    with pair(bench) as (victim, survivor):
        name = name_in("service/", min(victim.reigned()), partition_count(victim))
        written: float = asyncio.run(_written(victim, survivor, name))
        return written


@contextmanager
def pair(bench: Bench) -> Iterator[tuple[Controller, Controller]]:
    """Two controllers on Kafka that share the partitions; the first one writes more of them."""
    with ExitStack() as stack:
        place = stack.enter_context(bench.place(KAFKA))
        one = stack.enter_context(place.controller())
        one.wait_until_reigning()
        other = _partner(stack, place, one)
        victim = _shared(one, other)
        yield (one, other) if victim is one else (other, one)


def _partner(stack: ExitStack, place: Place, one: Controller) -> Controller:
    """Another controller, whose name is one by which both are given partitions."""
    key = ("--cluster-key", str(place.data / KEY_FILE))  # The one that the first controller has made.
    folders = (place.data / f"other{number}" for number in itertools.count())
    while True:
        other = stack.enter_context(controller(next(folders), *place.options(), *key))
        other.wait(lambda: len(_heard(one)) == 2)
        if len(_owners(_heard(one), partition_count(one))) == 2:
            return other
        # Names are made by chance, and of two controllers on 8 partitions one is given all of them at one start in 128.
        other.stop()
        one.wait(lambda: len(_heard(one)) == 1)


def _heard(one: Controller) -> list[Member]:
    """The live controllers, as it knows them."""
    return [Member(told["controller"], told["url"]) for told in one.status()["controllers"]]


def _owners(controllers: Sequence[Member], partitions: int) -> set[Member | None]:
    """Those of them to whom partitions belong, once all are ready."""
    members = Members(controllers[0])
    for each in controllers:
        members.heard(each, 0.0, ready=True)
    return {members.owner(partition) for partition in range(partitions)}


def name_in(prefix: str, partition: int, partitions: int) -> str:
    """A name whose stream, behind this prefix, lives in the partition."""
    names = (f"s{number}" for number in itertools.count())
    return next(name for name in names if partition_of(f"{prefix}{name}", partitions) == partition)


def partition_count(one: Controller) -> int:
    """Of the cluster."""
    return len(one.status()["partitions"])


def _shared(one: Controller, other: Controller) -> Controller:
    """Wait until both write; the one that writes more: its partitions take longest."""
    deadline = time.monotonic() + _SHARE_SECONDS_MAX
    while time.monotonic() < deadline:
        with suppress(OSError):
            shares = one.reigned(), other.reigned()
            if all(shares) and len(shares[0]) + len(shares[1]) == partition_count(one):
                return max(zip(map(len, shares), (0, 1), (one, other), strict=True))[2]
        time.sleep(0.1)
    raise RuntimeError("the two controllers do not share the partitions")


async def _written(victim: Controller, survivor: Controller, service: str) -> float:
    """Kill; then a new write every 5 ms, each on a connection of its own, until one is acknowledged."""
    if not await _put(survivor.port, service, 0):
        raise RuntimeError("the write through the other controller is refused while both live")
    acknowledged = asyncio.get_running_loop().create_future()

    async def attempt(number: int) -> None:
        with suppress(OSError):
            if await _put(survivor.port, service, number) and not acknowledged.done():
                acknowledged.set_result(time.perf_counter())

    victim.process.kill()
    began = time.perf_counter()
    attempts = set()
    async with asyncio.timeout(_ANSWER_SECONDS_MAX):
        while not acknowledged.done():
            attempts.add(asyncio.create_task(attempt(len(attempts) + 1)))
            await asyncio.wait([acknowledged], timeout=_EVERY_SECONDS)
    for task in attempts:
        task.cancel()
    await asyncio.gather(*attempts, return_exceptions=True)
    return float(acknowledged.result()) - began


async def _put(port: int, service: str, number: int) -> bool:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(request("PUT", f"/v1/services/{service}/instances/i{number}", spec(number)))
        return (await reader.readline()).split()[1:2] == [b"200"]
    finally:
        writer.close()
