"""Registrations on a broker that writes each batch to its disk before it answers, as etcd and ZooKeeper do.

Kafka answers from the page cache otherwise, and leaves durability to the other brokers.
"""

import asyncio
import shutil
from collections.abc import Iterator
from typing import Any, Final

from benchmarks.bench import KAFKA, WARM_SECONDS, Bench, Place, warm
from benchmarks.registry.http import registrations, sent
from benchmarks.table import Row
from infra.local.kafka import LocalKafka

FLUSHES: Final = {"log.flush.interval.messages": "1"}
_SIZES: Final = {1: 3_000, 8: 15_000}


def run(bench: Bench) -> Iterator[Row]:
    """One client's latency, and writes per second with eight in flight, with a flush for each batch."""
    if KAFKA not in bench.engines:
        return
    broker = LocalKafka(bench.folder / "kafka-flushing", config=FLUSHES)
    asyncio.run(broker.start())
    try:
        asyncio.run(warm(broker.bootstrap, bench.scale * WARM_SECONDS))
        runs = [_measured(bench, broker, number) for number in range(bench.runs)]
    finally:
        asyncio.run(broker.stop())
    for title, figure, unit in (
        ("registrations over HTTP, 1 client, a flush per batch", "p50_ms", "ms"),
        ("registrations over HTTP, 1 client, a flush per batch", "p99_ms", "ms"),
        ("the same, 8 in flight", "per_second", "/s"),
    ):
        name = figure.removesuffix("_ms").replace("_", " ")
        yield Row("flushed", title, KAFKA, name, unit, [found[figure] for found in runs])


def _measured(bench: Bench, broker: LocalKafka, number: int) -> dict[str, Any]:
    data = bench.folder / f"flushed-{number}"
    data.mkdir()
    try:
        with Place(KAFKA, data, broker.bootstrap, partitions=1).controller() as controller:
            controller.wait_until_reigning()
            sent(controller.port, 8, registrations(0, bench.size(500)))
            one = sent(controller.port, 1, registrations(500, bench.size(_SIZES[1])))
            eight = sent(controller.port, 8, registrations(5_000, bench.size(_SIZES[8])))
    finally:
        shutil.rmtree(data, ignore_errors=True)
    return {**one, "per_second": eight["per_second"]}
