"""Heartbeats of many instances in batches over HTTP, which are another process."""

from collections.abc import Iterator
from typing import Any, Final

from benchmarks.bench import Bench, middle
from benchmarks.controller import HOST
from benchmarks.floors import floor
from benchmarks.process import job
from benchmarks.registry.beater import REQUEST
from benchmarks.table import Row, at_least

INSTANCES: Final = 20_000
SECONDS: Final = 10


def run(bench: Bench) -> Iterator[Row]:
    """How many instances a second one controller hears."""
    instances, seconds = bench.size(INSTANCES), max(2, int(SECONDS * bench.scale))
    for engine in bench.engines:
        results = []
        for _ in range(bench.runs):
            with bench.fresh(engine) as controller:
                results.append(_measured(controller.port, controller.process.pid, instances, seconds))
        with floor.plain_server(b'{"renewed":500,"refused":[]}', bench.folder / "plain.log") as (port, pid):
            plain = _measured(port, pid, instances, seconds, "floor")
        names = {
            "controller_us": "controller µs each",
            "controller_core_percent": "controller % core",
            "generator_core_percent": "generator % core",
            "p99_ms": "request p99 ms",
        }
        yield Row(
            "heartbeats",
            f"{instances:,} instances with a lease and a ttl check, {REQUEST} in a request",
            engine,
            "heard",
            "instances/s",
            [result["beats_per_second"] for result in results],
            at_least(50_000),
            plain["beats_per_second"],
            "plain HTTP",
            {told: middle(results, name) for name, told in names.items()},
        )


def _measured(port: int, pid: int, instances: int, seconds: int, what: str = "controller") -> dict[str, Any]:
    return job("benchmarks.registry.beater", HOST, port, pid, instances, seconds, what)
