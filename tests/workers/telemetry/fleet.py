"""Instances that beat by the topic, workers as processes, and who listens to what they say: for tests on a real broker."""

import asyncio
import signal
import subprocess
import sys
from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from domain.message import Recorded
from domain.registry.instance import InstanceRegistered
from domain.registry.silence import ReportSilence
from infra.kafka.log import KafkaLog
from infra.kafka.provision import provision
from infra.log.codec import CloudEventMapper, Draft
from infra.log.engine import PartitionLog
from infra.log.port import START
from muster.wire.registry.spec import Spec
from muster.wire.route import partition_of
from muster.wire.stream import service_stream
from muster.wire.telemetry.heartbeats import Beat, encode
from tests.sample import NOON

ROOT: Final = Path(__file__).parents[3]
LEASE: Final = 10.0
"""The shortest lease that telemetry is given to keep. The log can have shorter ones, and tests that need no controller do."""

Instance = tuple[str, str]
"""A service and one of its instances."""

_ENTRY: Final = "from workers.cli.telemetry import telemetry; telemetry()"


async def register_all(
    log: PartitionLog, services: Mapping[str, Sequence[str]], spec_of: Callable[[int], Spec]
) -> None:
    """Write registrations into the log, as its writer would; an instance's incarnation is its number."""
    mapper = CloudEventMapper()
    cursor = await log.claim("tests", START)
    for service, names in services.items():
        drafts = []
        for number, name in enumerate(names):
            event = InstanceRegistered(instance=name, incarnation=number, spec=spec_of(number), health="healthy")
            position, stream = cursor.position + 1 + number, service_stream(service)
            id_ = f"{service}/{number}"
            recorded = Recorded(log.partition, position, stream, number, NOON, event, id_, id_, None, "tests", None)
            drafts.append(Draft(recorded, None, mapper.transcoder.encode(event)))
        batch, cursor = mapper.seal(drafts, cursor, None, None)
        await log.append(batch)


class Worker:
    """`muster telemetry` as a process, which can be killed."""

    def __init__(self, folder: Path, bootstrap: str, prefix: str, name: str, partitions: int) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        words = ["--kafka", bootstrap, "--prefix", prefix, "--name", name, "--partitions", str(partitions)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([sys.executable, "-c", _ENTRY, *words], stdout=log, stderr=log, cwd=ROOT)

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, which: signal.Signals) -> None:
        self._process.send_signal(which)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(timeout=30)

    def wait(self, seconds: float) -> int:
        return self._process.wait(timeout=seconds)

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def log(self) -> str:
        return self._log.read_text(errors="replace")


@dataclass
class Told:
    """A command that a worker published: when it was recorded, and what it says."""

    partition: int
    recorded_ms: int
    id: str
    command: ReportSilence


@dataclass
class Fleet:
    """Instances of some services under a prefix: registered in the log, beating once a second, 50 in a message.

    `lease_of` gives the lease of the instance of a number; `beats` are the instants (ms) at which Kafka has recorded each one's.
    """

    bootstrap: str
    prefix: str
    partitions: int
    services: Sequence[str]
    each: int
    lease_of: Callable[[int], float] = lambda _number: LEASE
    told: list[Told] = field(default_factory=list)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    silent: set[Instance] = field(default_factory=set)
    beats: dict[Instance, list[int]] = field(default_factory=lambda: defaultdict(list))

    def names(self, service: str) -> list[str]:
        return [f"{service}-{number}" for number in range(self.each)]

    def lease(self, instance: Instance) -> float:
        return self.lease_of(int(instance[1].rpartition("-")[2]))

    async def register(self) -> None:
        """Make the topics and write the registrations: no controller is needed to see what workers find."""
        await provision(self.bootstrap, partitions=self.partitions, prefix=self.prefix)

        def spec_of(number: int) -> Spec:
            return Spec(address="10.0.0.7", port=80, lease_seconds=self.lease_of(number), heartbeats="topic")

        for number in range(self.partitions):
            here = [one for one in self.services if partition_of(service_stream(one), self.partitions) == number]
            async with KafkaLog(self.bootstrap, number, prefix=self.prefix, source="/muster/test") as log:
                await register_all(log, {service: self.names(service) for service in here}, spec_of)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """The instances beat, and what the workers say is heard, for the length of the block."""
        tasks = [asyncio.create_task(self._beat()), asyncio.create_task(self._listen())]
        try:
            yield self
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks=1, linger_ms=5) as producer:
            due = loop.time()
            while True:
                await asyncio.gather(*(self._send(producer, service) for service in self.services))
                due = max(due + 1.0, loop.time())
                await asyncio.sleep(due - loop.time())

    async def _send(self, producer: AIOKafkaProducer, service: str) -> None:
        stream = service_stream(service)
        alive = [
            Beat(name, number, 1, 10.0, 0.0, 0.5)
            for number, name in enumerate(self.names(service))
            if (service, name) not in self.silent
        ]
        for start in range(0, len(alive), 50):
            some = alive[start : start + 50]
            try:
                told = await producer.send_and_wait(
                    f"{self.prefix}.heartbeats",
                    encode("host", service, some),
                    stream.encode(),
                    partition_of(stream, self.partitions),
                )
            except KafkaError:
                continue  # As a host does: what cannot be sent now is said anew in a second.
            for beat in some:
                self.beats[service, beat.instance].append(told.timestamp)

    def fall_silent(self, some: Collection[Instance]) -> None:
        """These beat no more."""
        self.silent |= set(some)

    async def _listen(self) -> None:
        topics = [f"{self.prefix}.{name}" for name in ("commands", "loads")]
        here = [TopicPartition(topic, number) for topic in topics for number in range(self.partitions)]
        async with AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
        ) as consumer:
            consumer.assign(here)
            while True:
                for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                    for record in records:
                        self._heard(tp, record)

    def _heard(self, tp: TopicPartition, record: Any) -> None:
        document = orjson.loads(record.value)
        if tp.topic.endswith(".loads"):
            self.rows[record.key.decode()] = document
            return
        command = ReportSilence.model_validate(document["data"])
        self.told.append(Told(tp.partition, record.timestamp, document["id"], command))

    def _silences(self) -> Iterator[tuple[Instance, int, int]]:
        """Who was told to be silent, since when, and when that was told, by Kafka's own instants in ms."""
        for told in self.told:
            for entry in told.command.silent:
                since_ms = round(entry.since.timestamp() * 1000)
                yield (entry.instance.rpartition("-")[0], entry.instance), since_ms, told.recorded_ms

    @property
    def found(self) -> dict[Instance, float]:
        """Who was told to be silent, and so many seconds after its last beat."""
        found: dict[Instance, float] = {}
        for instance, since_ms, recorded_ms in self._silences():
            found.setdefault(instance, (recorded_ms - since_ms) / 1000)
        return found

    @property
    def falsely(self) -> set[Instance]:
        """Who was told to be silent and is not, or before its lease was over, or though it was heard within that."""
        falsely = set(self.found) - self.silent
        for instance, since_ms, recorded_ms in self._silences():
            beats, over_ms = self.beats[instance], since_ms + self.lease(instance) * 1000
            after = bisect_right(beats, since_ms)
            if recorded_ms < over_ms or (after < len(beats) and beats[after] <= over_ms):
                falsely.add(instance)
        return falsely

    def told_after(self, some: Collection[Instance]) -> float:
        """So many seconds after its last beat the last of these was told, by Kafka's instants."""
        told: dict[Instance, int] = {}
        for instance, _, recorded_ms in self._silences():
            told.setdefault(instance, recorded_ms)
        return max(told[instance] - self.beats[instance][-1] for instance in some) / 1000

    def check_ids(self) -> None:
        """No id says two things: who repeats one, says the same again."""
        said: dict[str, str] = {}
        for told in self.told:
            content = told.command.model_dump_json()
            assert said.setdefault(told.id, content) == content

    async def until(self, what: str, seconds: float, condition: Any) -> None:
        """Wait until the condition holds."""
        try:
            async with asyncio.timeout(seconds):
                while not condition():  # noqa: ASYNC110 what is asked is elsewhere, and sets no event
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"not within {seconds:g} s: {what}") from None

    async def settled(self, *workers: Worker, seconds: float = 40.0) -> None:
        """All partitions are with these workers, and each of them has read what was before."""

        def is_settled() -> bool:
            rows = [self.rows.get(f"telemetry/{worker.name}") for worker in workers]
            if any(row is None or row["reading"] or not row["partitions"] for row in rows):
                return False
            shared = [number for row in rows if row is not None for number in row["partitions"]]
            return sorted(shared) == list(range(self.partitions))

        for worker in workers:
            assert not worker.has_ended, worker.log()
        await self.until(f"settled: {self.rows}", seconds, is_settled)

    async def heard(self, some: Collection[Instance], *workers: Worker) -> None:
        """The last beats of these, which are silent, have been read by those workers."""
        last_ms = max(self.beats[instance][-1] for instance in some)
        await self.until("the last beats are heard", 20.0, lambda: self._read_to(workers) > last_ms)

    async def judged(self, seconds: float, *workers: Worker) -> None:
        """So much time has passed from now on in the topic, and those workers have judged it."""
        end_ms = max(beats[-1] for beats in self.beats.values()) + seconds * 1000
        await self.until("it was judged", seconds + 20.0, lambda: self._read_to(workers) > end_ms)

    def _read_to(self, workers: Sequence[Worker]) -> float:
        """The instant (ms) up to which all of these have read their partitions, as they say themselves."""
        read = []
        for worker in workers:
            row = self.rows[f"telemetry/{worker.name}"]
            behind = None if row["reading"] else row["lag_seconds"]
            said = datetime.fromisoformat(row["at"]).timestamp()
            read.append(-1.0 if behind is None else (said - behind) * 1000)
        return min(read)

    async def left_by_all(self) -> None:
        """The broker misses all workers: nobody is in their group."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            async with asyncio.timeout(30):
                while await self._members(admin):  # noqa: ASYNC110 it is elsewhere
                    await asyncio.sleep(0.2)
        finally:
            await admin.close()

    async def _members(self, admin: AIOKafkaAdminClient) -> list[Any]:
        (answer,) = await admin.describe_consumer_groups([f"{self.prefix}.telemetry"])
        ((_error, _name, _state, _kind, _protocol, members, *_),) = answer.groups
        return list(members)
