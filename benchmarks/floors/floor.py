"""What the machine does without muster, with the same bytes: appends, produced batches, commits, answered requests."""

import asyncio
import http.client
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from subprocess import PIPE
from typing import Final

import lmdb
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from eventsourcing.persistence import StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

from benchmarks.bench import KAFKA, Bench
from benchmarks.controller import HOST
from benchmarks.data import key, value
from benchmarks.log import history
from benchmarks.process import python, running
from domain.message import Event, Recorded, to_json
from infra.local.child import free_port
from infra.log.chain import Chain, term_started
from infra.log.codec import CloudEventMapper, Draft
from infra.log.port import START

BATCHES: Final = 300
_BATCH_BYTES_MAX: Final = 4 * 1024 * 1024
_MAP_BYTES: Final = 4 << 30


@contextmanager
def plain_http(answer: bytes, log: Path) -> Iterator[int]:
    """The port of a server that answers everything with these bytes."""
    with plain_server(answer, log) as (port, _):
        yield port


@contextmanager
def plain_server(answer: bytes, log: Path) -> Iterator[tuple[int, int]]:
    """The same, and its process id."""
    port = free_port()
    with running(python("benchmarks.floors.plain", port), log, stdin=PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(answer)
        process.stdin.close()
        for _ in range(1_000):
            with (
                suppress(OSError, http.client.HTTPException),
                closing(http.client.HTTPConnection(HOST, port)) as client,
            ):
                client.request("GET", "/")
                client.getresponse()
                break
            time.sleep(0.02)
        yield port, process.pid


def records(registrations: int, flips: int) -> list[StoredEvent]:
    """Sealed records of the data set as muster writes them, each alone in its batch."""
    return sealed(history.events(registrations, flips))


def sealed(events: Iterable[tuple[str, Event]]) -> list[StoredEvent]:
    """Sealed records of these events of streams as muster writes them, each alone in its batch."""
    mapper, now = CloudEventMapper(), datetime.now(UTC)
    marker = term_started(START, "floor", now, mapper.source)
    [batch] = Chain(0, START).follow([(0, None, marker.state)])
    cursor, stored = batch.cursor, [marker]
    for index, (stream, event) in enumerate(events):
        told = Recorded(
            0, index + 1, stream, index, now, event, f"{index:032x}:0", f"{index:032x}", None, "bench", None
        )
        more, cursor = mapper.seal([Draft(told, f"{index:016x}", to_json(event))], cursor, None)
        stored += more
    return stored


def committed_ms(bench: Bench, per_transaction: int) -> float:
    """The median time of one durable LMDB transaction of this many keys and values by itself, in milliseconds."""
    taken, numbers = [], range(bench.size(BATCHES) * per_transaction)
    folder = bench.folder / f"floor-{time.monotonic_ns()}.lmdb"
    with lmdb.open(str(folder), map_size=_MAP_BYTES) as environment:
        for at in range(0, len(numbers), per_transaction):
            pairs = [(key(number).encode(), value(number)) for number in numbers[at : at + per_transaction]]
            began = time.perf_counter()
            with environment.begin(write=True) as transaction:
                for name, content in pairs:
                    transaction.put(name, content)
            taken.append(time.perf_counter() - began)
    return median(taken) * 1e3


def appended_ms(bench: Bench, engine: str, stored: Sequence[StoredEvent], per_batch: int = 1) -> float:
    """The median of what one durable batch of these records takes by itself, in milliseconds."""
    batches = [stored[at : at + per_batch] for at in range(0, len(stored), per_batch)][:BATCHES]
    return median(_appended(bench, engine, batches, pause_seconds=0.0)) * 1e3


def paced_p99_ms(bench: Bench, engine: str, stored: Sequence[StoredEvent], per_second: float) -> float:
    """The slow hundredth of what one durable record takes by itself, at this pace, in milliseconds."""
    taken = _appended(bench, engine, [[record] for record in stored], pause_seconds=1 / per_second)
    return sorted(taken)[int(len(taken) * 0.99)] * 1e3


def _appended(bench: Bench, engine: str, batches: Sequence[Sequence[StoredEvent]], pause_seconds: float) -> list[float]:
    if engine == KAFKA:
        return asyncio.run(_produced(bench.broker.bootstrap, f"floor-{time.monotonic_ns()}", batches, pause_seconds))
    return _inserted(bench.folder / f"floor-{time.monotonic_ns()}.sqlite", batches, pause_seconds)


def _inserted(file: Path, batches: Sequence[Sequence[StoredEvent]], pause_seconds: float) -> list[float]:
    recorder = SQLiteApplicationRecorder(SQLiteDatastore(str(file), originator_id_type="text"))
    recorder.create_table()
    taken, position = [], 0
    for batch in batches:
        rows = [StoredEvent("floor", position + at, event.topic, event.state) for at, event in enumerate(batch)]
        position += len(rows)
        began = time.perf_counter()
        recorder.insert_events(rows)
        taken.append(time.perf_counter() - began)
        time.sleep(pause_seconds)
    return taken


async def _produced(
    bootstrap: str, topic: str, batches: Sequence[Sequence[StoredEvent]], pause_seconds: float
) -> list[float]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        settings = {"max.message.bytes": str(_BATCH_BYTES_MAX)}
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1, topic_configs=settings)])
    finally:
        await admin.close()
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",  # as muster's log
        enable_idempotence=True,
        linger_ms=0,
        max_batch_size=_BATCH_BYTES_MAX,
        max_request_size=_BATCH_BYTES_MAX,
    )
    await producer.start()
    taken = []
    try:
        for records in batches:
            batch = producer.create_batch()
            for record in records:
                batch.append(timestamp=None, key=str(record.originator_id).encode(), value=record.state)
            batch.close()
            began = time.perf_counter()
            await (await producer.send_batch(batch, topic, partition=0))
            taken.append(time.perf_counter() - began)
            await asyncio.sleep(pause_seconds)
    finally:
        await producer.stop()
    return taken
