"""Health checks at their full number; see `benchmarks.load.checks`, which can be run by itself."""

from collections.abc import Iterator

from benchmarks.bench import Bench, middle
from benchmarks.load import checks
from benchmarks.table import Row, at_most


def run(bench: Bench) -> Iterator[Row]:
    """10,000 http checks every 10 s, in a process that does nothing else."""
    instances = bench.size(10_000)
    results = [checks.measure(instances=instances, seconds=max(2.0, 12.0 * bench.scale)) for _ in range(bench.runs)]
    if any(result["flips"] or result["unjudged"] for result in results):
        raise RuntimeError(f"checks of healthy targets have failed: {results}")
    yield Row(
        "checks",
        f"{instances:,} http checks every 10 s",
        "any",
        "of a core",
        "%",
        [result["core_percent"] for result in results],
        at_most(40),
        notes={
            "checks/s": middle(results, "checks_per_second"),
            "µs per check": middle(results, "cpu_us_per_check"),
            "late p99 ms": middle(results, "late_p99_ms"),
            "MB": middle(results, "memory_mb"),
        },
    )
