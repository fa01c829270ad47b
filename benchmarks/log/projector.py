"""The projector catching up: from a long embedded log into PostgreSQL, in a process of its own.

python -m benchmarks.log.projector DATA DSN SCHEMA
"""

import asyncio
import gc
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import asyncpg
import orjson
import uvloop

from benchmarks.bench import EMBEDDED, Bench, Place, middle
from benchmarks.process import job, usage
from benchmarks.table import Row, at_least
from infra.log.codec import CloudEventMapper
from infra.log.port import START
from infra.postgres.store import ReadStore
from infra.sqlite.engine import open_embedded
from workers.projector.projector import Projector

_POLL_SECONDS: Final = 0.005
_CASES: Final = (
    ("registrations of distinct instances", 100_000, 0, 25_000),
    ("flips over 10,000 instances", 10_000, 190_000, 50_000),
)


def run(bench: Bench) -> Iterator[Row]:
    """Distinct instances, then flips (5 % of that log are the registrations)."""
    for title, registrations, flips, target in _CASES:
        place = bench.written(EMBEDDED, bench.size(registrations), bench.size(flips) if flips else 0)
        schemas = [f"bench_{registrations}_{number}" for number in range(bench.runs)]
        dsn = bench.database.dsn
        results = [job("benchmarks.log.projector", place.data, dsn, schema) for schema in schemas]
        copied: float = asyncio.run(_copied(place, dsn))
        yield Row(
            "projector",
            f"projector catching up, {title}",
            "PostgreSQL",
            "per second",
            "/s",
            [result["per_second"] for result in results],
            at_least(target),
            copied,
            "COPY of the same documents into a bare table",
            {
                "projector % core": middle(results, "core_percent"),
                "projector peak MB": middle(results, "peak_mb"),
                "events": middle(results, "events"),
            },
        )


async def _copied(place: Place, dsn: str) -> float:
    """Documents per second."""
    async with open_embedded(place.data, read_only=True) as engine:
        documents = [
            (position, orjson.dumps(document).decode())
            async for batch in engine.logs[0].read(START)
            for position, document in batch.records
        ]
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "DROP TABLE IF EXISTS bare; CREATE TABLE bare (position bigint PRIMARY KEY, data jsonb)"
        )
        began = time.perf_counter()
        for first in range(0, len(documents), 10_000):
            await connection.copy_records_to_table("bare", records=documents[first : first + 10_000])
        return len(documents) / (time.perf_counter() - began)
    finally:
        await connection.close()


async def _caught_up(data: Path, dsn: str, schema: str) -> dict[str, float]:
    async with open_embedded(data, read_only=True) as engine, ReadStore(dsn, schema=schema) as store:
        projector = Projector(list(engine.logs.values()), store, CloudEventMapper())
        # As a controller does it; with the interpreter's own thresholds half of the time goes into collections.
        gc.freeze()
        gc.set_threshold(50_000, 50, 100)
        cpu, began = time.process_time(), time.perf_counter()
        task = asyncio.create_task(projector.run())
        while not task.done() and not _current(projector):  # noqa: ASYNC110 the projector tells nobody
            await asyncio.sleep(_POLL_SECONDS)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        events = max(told["position"] for told in projector.status()["0"].values())
    return {
        "per_second": events / seconds,
        "events": events,
        "core_percent": cpu / seconds * 100,
        "peak_mb": usage(os.getpid()).peak_mb,
    }


def _current(projector: Projector) -> bool:
    return all(told["state"] == "current" and told["lag"] == 0 for told in projector.status()["0"].values())


if __name__ == "__main__":
    print(orjson.dumps(uvloop.run(_caught_up(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))).decode())
