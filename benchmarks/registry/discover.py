"""Discovery: a service of 10 instances, again and again; and one of 4,000, unchanged and just changed."""

import time
from collections.abc import Iterator
from statistics import median
from typing import Final

from benchmarks.bench import EMBEDDED, Bench
from benchmarks.controller import Controller
from benchmarks.data import spec
from benchmarks.floors import floor
from benchmarks.load import http_load
from benchmarks.registry.http import measured, notes, sent
from benchmarks.table import Row, Target, at_least, at_most

_SMALL: Final = 10
_LARGE: Final = 4_000
_PLAIN: Final = "plain HTTP, the same bytes"


def run(bench: Bench) -> Iterator[Row]:
    """The embedded engine only: reads are answered from views, which know no engine."""
    yield from _repeated(bench, _SMALL, 8, 20_000, "per_second", "/s", at_least(4_000))
    yield from _repeated(bench, _LARGE, 1, 40, "p50_ms", "ms", at_most(10))
    yield _changed(bench)


def _repeated(
    bench: Bench, instances: int, connections: int, count: int, name: str, unit: str, target: Target
) -> Iterator[Row]:
    asked = [http_load.request("GET", "/v1/discover/bench")] * bench.size(count)
    results = []
    for _ in range(bench.runs):
        with bench.fresh(EMBEDDED) as controller:
            _register(controller, bench.size(instances))
            sent(controller.port, 1, asked[:8])
            results.append(measured(bench, controller, EMBEDDED, connections, asked))
            answer = controller.ask("GET", "/v1/discover/bench")[1]
    with floor.plain_http(answer, bench.folder / "plain.log") as port:
        plain = sent(port, connections, asked)
    yield Row(
        "discover",
        f"discover of {bench.size(instances):,} instances ({len(answer) / 1e3:,.0f} KB)",
        EMBEDDED,
        name.removesuffix("_ms").replace("_", " "),
        unit,
        [result[name] for result in results],
        target,
        plain[name],
        _PLAIN,
        notes(results),
    )


def _changed(bench: Bench) -> Row:
    """The answer must be made anew: one instance has flipped since it was last asked for."""
    instances, runs = bench.size(_LARGE), []
    for _ in range(bench.runs):
        with bench.fresh(EMBEDDED) as controller:
            _register(controller, instances)
            controller.ask("GET", "/v1/discover/bench")
            taken = []
            for flip in range(bench.size(40)):
                body = {"status": "healthy" if flip % 2 else "unhealthy", "cause": "bench"}
                controller.ask("PUT", "/v1/services/bench/instances/i0/health", body)
                began = time.perf_counter()
                controller.ask("GET", "/v1/discover/bench")
                taken.append(time.perf_counter() - began)
            runs.append(median(taken) * 1e3)
    title = f"the same of {instances:,}, one of them just flipped"
    return Row("discover", title, EMBEDDED, "p50", "ms", runs, at_most(10), notes={})


def _register(controller: Controller, count: int) -> None:
    paths = (f"/v1/services/bench/instances/i{number}" for number in range(count))
    sent(
        controller.port,
        8,
        [http_load.request("PUT", path, spec(number, checks=False)) for number, path in enumerate(paths)],
    )
