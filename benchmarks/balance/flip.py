"""An instance is reported unhealthy among calls: until the last call that a balancer still sends there, beside a watcher."""

from collections.abc import Iterator
from typing import Any, Final

from benchmarks.balance.stage import SERVICE, Kind, instances, registered
from benchmarks.bench import EMBEDDED, Bench, middle
from benchmarks.controller import HOST
from benchmarks.process import job
from benchmarks.table import Row, at_most

_FLIPS: Final = 100
_PER_SECOND: Final = 300.0
_TITLE: Final = "report of an unhealthy instance → the last call that it gets"


def run(bench: Bench) -> Iterator[Row]:
    """p50 and p99, and how many times those of the watcher they are. The floor is that watcher."""
    found = [_measured(bench) for _ in range(bench.runs)]
    failed = {"failed calls": sum(one["failed"] for one in found), "real strays": sum(one["calls"] for one in found)}
    for percent in ("p50", "p99"):
        runs = [one[f"stray_{percent}_ms"] for one in found]
        floor, notes = middle(found, f"watcher_{percent}_ms"), failed if percent == "p50" else {}
        yield Row("balance_flip", _TITLE, EMBEDDED, percent, "ms", runs, None, floor, "report to watcher", notes)
        times = [one[f"stray_{percent}_ms"] / one[f"watcher_{percent}_ms"] for one in found]
        yield Row("balance_flip", _TITLE, EMBEDDED, percent, "× report to watcher", times, at_most(3))


def _measured(bench: Bench) -> dict[str, Any]:
    with instances(bench, [Kind().command()] * 2) as ports, registered(bench, ports) as controller:
        flips = bench.size(_FLIPS)
        return job("benchmarks.balance.load.stray", HOST, controller.port, SERVICE, flips, _PER_SECOND)
