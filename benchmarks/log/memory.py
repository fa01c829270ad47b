"""A controller's memory with many instances of the data set registered."""

import time
from collections.abc import Iterator
from statistics import median
from typing import Final

from benchmarks.bench import Bench
from benchmarks.registry.http import populate
from benchmarks.table import Row, at_most

_SETTLE_SECONDS: Final = 1.0
_CASES: Final = ((10_000, 180), (100_000, 600))


def run(bench: Bench) -> Iterator[Row]:
    """Resident memory after the registrations have come over HTTP."""
    for engine in bench.engines:
        for count, target in _CASES:
            instances, now, peak, empty = bench.size(count), [], [], []
            for _ in range(bench.runs):
                with bench.fresh(engine) as controller:
                    empty.append(controller.usage.memory_mb)
                    populate(controller, instances)
                    time.sleep(_SETTLE_SECONDS)
                    used = controller.usage
                now.append(used.memory_mb)
                peak.append(used.peak_mb)
            yield Row(
                "memory",
                f"memory with {instances:,} instances",
                engine,
                "resident",
                "MB",
                now,
                at_most(target),
                median(empty),
                "an empty controller",
                {"peak MB": median(peak)},
            )
