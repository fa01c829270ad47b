"""What all cases share: the servers that they run against, folders, how often and how much."""

import asyncio
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.controller import Controller, controller
from benchmarks.log import history
from benchmarks.process import Usage, usage
from infra.kafka.engine import open_kafka
from infra.kafka.topic import TOPICS, topic_name
from infra.local.kafka import LocalKafka
from infra.local.postgres import LocalPostgres
from infra.sqlite.engine import open_embedded

EMBEDDED: Final = "embedded"
KAFKA: Final = "Kafka"
ENGINES: Final = (EMBEDDED, KAFKA)
WARM_SECONDS: Final = 25.0


@dataclass(slots=True)
class Place:
    """One engine's empty or filled log: a folder, and on Kafka topics of its own."""

    engine: str
    data: Path
    bootstrap: str | None = None
    partitions: int | None = None

    @property
    def prefix(self) -> str:
        """Of the topics."""
        return self.data.name

    def options(self) -> list[str]:
        """The options of `muster` that name it, besides the folder."""
        kafka = [] if self.bootstrap is None else ["--kafka", self.bootstrap, "--prefix", self.prefix]
        return kafka if self.partitions is None else [*kafka, "--partitions", str(self.partitions)]

    def controller(self, port: int | None = None) -> AbstractContextManager[Controller]:
        """A controller on this log, just spawned."""
        return controller(self.data, *self.options(), port=port)


@dataclass(slots=True)
class Bench:
    """`runs` of each case, in `folder`; `scale` makes all sizes smaller (targets hold at 1).

    `proxies`: cases about balancing measure nginx, HAProxy and Envoy too.
    """

    folder: Path
    runs: int = 3
    scale: float = 1.0
    engines: tuple[str, ...] = ENGINES
    proxies: bool = False
    _broker: LocalKafka | None = None
    _database: LocalPostgres | None = None
    _places: int = 0
    _written: dict[tuple[str, int, int], Place] = field(default_factory=dict)

    def size(self, count: int) -> int:
        """This number, at the scale of the run."""
        return max(8, int(count * self.scale))

    @property
    def broker(self) -> LocalKafka:
        """The run's Kafka, started when it is first asked for, and as warm as one that has run for a while."""
        if self._broker is None:
            self._broker = LocalKafka(self.folder / "kafka")
            asyncio.run(self._broker.start())
            asyncio.run(warm(self._broker.bootstrap, self.scale * WARM_SECONDS))
        return self._broker

    @property
    def database(self) -> LocalPostgres:
        """The run's PostgreSQL, started when it is first asked for."""
        if self._database is None:
            self._database = LocalPostgres(self.folder / "postgres")
            asyncio.run(self._database.start())
        return self._database

    def broker_usage(self) -> Usage:
        """What the broker has used so far."""
        assert self.broker.pid is not None, "the broker has ended"
        return usage(self.broker.pid)

    @contextmanager
    def place(self, engine: str, partitions: int | None = None) -> Iterator[Place]:
        """An empty log, thrown away afterwards: a broker that keeps them all becomes slow."""
        place = self._new_place(engine)
        place.partitions = partitions
        try:
            yield place
        finally:
            shutil.rmtree(place.data, ignore_errors=True)
            if place.bootstrap is not None:
                asyncio.run(delete_topics(place, [topic.name for topic in TOPICS]))

    def _new_place(self, engine: str) -> Place:
        os.sync()  # What the runs before left to be written and freed would come between the fsyncs of this one.
        self._places += 1
        data = self.folder / f"bench-{self._places}"
        data.mkdir()
        return Place(engine, data, self.broker.bootstrap if engine == KAFKA else None)

    @contextmanager
    def fresh(self, engine: str, partitions: int | None = None) -> Iterator[Controller]:
        """A controller that writes every partition of an empty log."""
        with self.place(engine, partitions) as place, place.controller() as started:
            started.wait_until_reigning()
            yield started

    def written(self, engine: str, registrations: int, flips: int) -> Place:
        """A log with these events, written once and kept for all cases."""
        key = (engine, registrations, flips)
        if key not in self._written:
            place = self._written[key] = self._new_place(engine)
            asyncio.run(_write(place, registrations, flips))
        return self._written[key]

    def close(self) -> None:
        """Stop the servers."""
        for server in (self._broker, self._database):
            if server is not None:
                asyncio.run(server.stop())


async def warm(bootstrap: str, seconds: float) -> None:
    """Produce for so long: until Java has compiled what it is made of, that takes a quarter of a core beside the broker."""
    topic, end = "warm", time.monotonic() + seconds
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
        async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True) as producer:
            while time.monotonic() < end:
                await producer.send_and_wait(topic, bytes(8_192), partition=0)
        await admin.delete_topics([topic])
    finally:
        await admin.close()


async def delete_topics(place: Place, names: Sequence[str]) -> None:
    """Delete these of the place's topics."""
    admin = AIOKafkaAdminClient(bootstrap_servers=place.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topic_name(name, place.prefix) for name in names])
    finally:
        await admin.close()


async def _write(place: Place, registrations: int, flips: int) -> None:
    events = history.events(registrations, flips)
    if place.bootstrap is None:
        async with open_embedded(place.data) as engine:
            await history.write(engine.logs, events)
    else:
        async with open_kafka(place.bootstrap, prefix=place.prefix) as engine:
            await history.write(engine.logs, events)


def middle(values: list[dict[str, Any]], name: str) -> float:
    """The median of one figure of several results."""
    return float(median(value[name] for value in values))
