"""100,000 instances that beat once a second, 50 in a message: what one worker costs, and how soon it finds who is silent;
then two workers, one of which is killed each minute: who is found silent falsely.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any, Final

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.bench import KAFKA, Bench, Place
from benchmarks.log import history
from benchmarks.process import python, running, usage
from benchmarks.table import Row, at_most
from benchmarks.telemetry.population import LEASE_SECONDS, MESSAGE_BEATS, registrations
from domain.registry.silence import ReportSilence
from infra.kafka.engine import open_kafka

PARTITIONS: Final = 8
INSTANCES: Final = 100_000
SILENT: Final = 500
STEADY_SECONDS: Final = 60.0
SETTLING_SECONDS: Final = 20.0
KILLS: Final = 10
KILL_EVERY_SECONDS: Final = 60.0
SETTLED_SECONDS_MAX: Final = 120.0
_TELEMETRY: Final = "from workers.cli.telemetry import telemetry; telemetry()"


class Found:
    """What workers have said: who is silent and how long after its last beat, and the newest row of each worker."""

    def __init__(self) -> None:
        self.after: dict[str, float] = {}
        self.workers: dict[str, dict[str, Any]] = {}

    async def listen(self, place: Place) -> None:
        """Follow commands and loads for ever."""
        topics = [f"{place.prefix}.{name}" for name in ("commands", "loads")]
        async with AIOKafkaConsumer(bootstrap_servers=place.bootstrap, auto_offset_reset="earliest") as consumer:
            consumer.assign([TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)])
            while True:
                for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                    for record in records:
                        self._hear(partition.topic, record)

    def _hear(self, topic: str, record: Any) -> None:
        document = orjson.loads(record.value)
        if topic.endswith(".commands"):
            for entry in ReportSilence.model_validate(document["data"]).silent:
                self.after.setdefault(entry.instance, record.timestamp / 1000 - entry.since.timestamp())
        elif record.key.startswith(b"telemetry/"):
            self.workers[document["worker"]] = document

    async def settled(self, *names: str) -> None:
        """Wait until these workers have all partitions, and have read what was before."""
        async with asyncio.timeout(SETTLED_SECONDS_MAX):
            while True:
                rows = [self.workers.get(name, {}) for name in names]
                if sum(len(row.get("partitions", ())) for row in rows) == PARTITIONS and not any(
                    row.get("reading", (0,)) for row in rows
                ):
                    return
                await asyncio.sleep(0.1)


def run(bench: Bench) -> Iterator[Row]:
    """One worker in peace, then workers that are killed."""
    if KAFKA not in bench.engines:
        return
    instances = bench.size(INSTANCES)
    silent = max(MESSAGE_BEATS, bench.size(SILENT) // MESSAGE_BEATS * MESSAGE_BEATS)
    with bench.place(KAFKA) as place:
        steady = asyncio.run(_steady(place, instances, silent, max(STEADY_SECONDS * bench.scale, 10.0)))
    title = f"telemetry, {instances:,} instances, 1 beat/s, 50 in a message"
    yield Row("telemetry", title, KAFKA, "one worker", "core", [steady["core"]], at_most(0.8))
    yield Row("telemetry", title, KAFKA, "memory", "MB", [steady["mb"]], at_most(200.0))
    notes = {"found": steady["found"], "of": float(silent)}
    yield Row("telemetry", title, KAFKA, "silence behind the lease, p50", "s", [steady["p50"]], notes=notes)
    yield Row("telemetry", title, KAFKA, "silence behind the lease, max", "s", [steady["max"]], at_most(0.3))
    kills, every = max(1, round(KILLS * bench.scale)), max(KILL_EVERY_SECONDS * bench.scale, 25.0)
    with bench.place(KAFKA) as place:
        falsely, missed, slowest = asyncio.run(_killed(place, instances, silent, kills, every))
    told = {"kills": float(kills), "missed": missed, "slowest s behind the lease": slowest}
    yield Row(
        "telemetry",
        title,
        KAFKA,
        "falsely silent, a worker killed each minute",
        "",
        [falsely],
        at_most(0.0),
        notes=told,
    )


async def _steady(place: Place, instances: int, silent: int, seconds: float) -> dict[str, float]:
    """One worker: what it costs while all beat for so long, then how soon it finds those that fall silent."""
    async with _population(place, instances, silent, silent_after=seconds + SETTLING_SECONDS) as found:
        with _worker(place, "one") as worker:
            await found.settled("one")
            before, began = usage(worker.pid), time.monotonic()
            await asyncio.sleep(seconds)
            after, passed = usage(worker.pid), time.monotonic() - began
            await _wait(lambda: len(found.after) >= silent, SETTLING_SECONDS + 3 * LEASE_SECONDS)
            behind = sorted(one - LEASE_SECONDS for one in found.after.values()) or [999.0]
            return {
                "core": (after.cpu_seconds - before.cpu_seconds) / passed,
                "mb": usage(worker.pid).peak_mb,
                "found": float(len(found.after)),
                "p50": behind[len(behind) // 2],
                "max": behind[-1],
            }


async def _killed(place: Place, instances: int, silent: int, kills: int, every: float) -> tuple[float, float, float]:
    """How many were found falsely, how many were missed, and how long the slowest took behind its lease."""
    # Some fall silent in the middle of it, and what a worker knew of them goes with it.
    after = SETTLING_SECONDS + every * kills / 2
    with ExitStack() as stack:
        async with _population(place, instances, silent, silent_after=after) as found:
            names = ["w0", "w1"]
            workers = [stack.enter_context(_worker(place, name)) for name in names]
            await found.settled(*names)
            for number in range(kills):
                workers[0].kill()
                del workers[0], names[0]
                names.append(f"w{number + 2}")
                workers.append(stack.enter_context(_worker(place, names[-1])))
                await asyncio.sleep(every)
                await found.settled(*names)
            await _wait(lambda: len(found.after) >= silent, SETTLING_SECONDS + 3 * LEASE_SECONDS)
            truly = {f"i{number}" for number in range(silent)}
            slowest = max((late for name, late in found.after.items() if name in truly), default=999.0)
            return (
                float(len(found.after.keys() - truly)),
                float(len(truly - found.after.keys())),
                slowest - LEASE_SECONDS,
            )


@asynccontextmanager
async def _population(place: Place, instances: int, silent: int, silent_after: float) -> AsyncIterator[Found]:
    """The instances are registered and beat, and what workers say is heard."""
    assert place.bootstrap is not None
    async with open_kafka(place.bootstrap, partitions=PARTITIONS, prefix=place.prefix) as engine:
        await history.write(engine.logs, registrations(instances))
    arguments = (place.bootstrap, place.prefix, PARTITIONS, instances, silent, silent_after)
    found = Found()
    with running(python("benchmarks.telemetry.population", *arguments), place.data / "population.log"):
        listening = asyncio.create_task(found.listen(place))
        try:
            yield found
        finally:
            listening.cancel()
            await asyncio.wait([listening])


@contextmanager
def _worker(place: Place, name: str) -> Iterator["Popen[bytes]"]:
    log: Path = place.data / f"{name}.log"
    options = ("--kafka", str(place.bootstrap), "--prefix", place.prefix, "--name", name)
    with running([sys.executable, "-c", _TELEMETRY, *options], log) as process:
        yield process


async def _wait(condition: Any, seconds: float) -> None:
    """Until the condition holds, or the time is over: the figures say which."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:  # noqa: ASYNC110 what is asked sets no event
        await asyncio.sleep(0.1)
