"""From a health report to a watcher: idle, under load, and to many watchers of a large service."""

from collections.abc import Iterator
from subprocess import PIPE
from typing import Any, Final

import orjson

from benchmarks.bench import Bench, middle
from benchmarks.controller import HOST
from benchmarks.data import spec
from benchmarks.floors import floor
from benchmarks.load import http_load
from benchmarks.process import job, python, running
from benchmarks.registry.http import notes, sent
from benchmarks.table import Row, at_most, below

SERVICE: Final = "watched"
_ANSWER: Final = b'{"status":"accepted","partition":0,"position":12345,"version":123,"incarnation":123}'
_WATCHED: Final = 100
_APPENDS: Final = 400
_PACES: Final = (("idle", 50.0, 400, 2.5, 8.0), ("under 500 flips/s", 500.0, 5_000, 4.0, 20.0))
_FANOUT_INSTANCES: Final = 4_000
_FANOUT_WATCHERS: Final = 200
_FANOUT_FLIPS: Final = 20


def run(bench: Bench) -> Iterator[Row]:
    """One watcher of a service of 100 instances."""
    for engine in bench.engines:
        results: dict[str, list[dict[str, Any]]] = {pace: [] for pace, *_ in _PACES}
        for _ in range(bench.runs):
            with bench.fresh(engine) as controller:
                register(controller.port, _WATCHED)
                for pace, per_second, flips, *_ in _PACES:
                    before = controller.usage.cpu_seconds
                    # An even number of rounds: the next pace begins with healthy instances again.
                    result = flipped(bench, controller.port, 1, _WATCHED, _rounds(bench.size(flips)), per_second)
                    used = controller.usage.cpu_seconds - before
                    results[pace].append(result | {"controller_core_percent": used / result["seconds"] * 100})
        stored = floor.records(8, bench.size(_APPENDS))
        append = floor.appended_ms(bench, engine, stored)
        with floor.plain_http(_ANSWER, bench.folder / "plain.log") as port:
            for pace, per_second, flips, p50, p99 in _PACES:
                plain = flipped(bench, port, 1, _WATCHED, _rounds(bench.size(flips)), per_second)
                slow = floor.paced_p99_ms(bench, engine, stored, per_second)
                costs = notes(results[pace]) | {"reporter late ms": middle(results[pace], "latest_ms")}
                for name, target, raw, besides in (("p50_ms", p50, append, costs), ("p99_ms", p99, slow, {})):
                    yield Row(
                        "watch",
                        f"health report to watcher, {pace}",
                        engine,
                        name.removesuffix("_ms"),
                        "ms",
                        [result[name] for result in results[pace]],
                        at_most(target),
                        plain[name] + raw,
                        f"plain HTTP {plain[name]:.2f} + raw append {raw:.2f}",
                        besides,
                    )


def run_fanout(bench: Bench) -> Iterator[Row]:
    """One flip in a service of 4,000 instances with 200 watchers."""
    instances, watchers = bench.size(_FANOUT_INSTANCES), bench.size(_FANOUT_WATCHERS)
    for engine in bench.engines:
        results = []
        for _ in range(bench.runs):
            with bench.fresh(engine) as controller:
                register(controller.port, instances)
                results.append(flipped(bench, controller.port, watchers, instances, _FANOUT_FLIPS, 4.0))
        with floor.plain_http(_ANSWER, bench.folder / "plain.log") as port:
            plain = flipped(bench, port, watchers, instances, _FANOUT_FLIPS, 4.0)
        title = f"one flip of {instances:,} instances, {watchers} watchers"
        last = [result["last_ms"] for result in results]
        sizes = [result["bytes_per_flip"] / 1e3 for result in results]
        yield Row(
            *("fanout", title, engine, "last watcher", "ms", last, at_most(20)),
            *(plain["last_ms"], "plain HTTP", notes(results)),
        )
        acknowledged = [result["acknowledged_ms"] for result in results]
        yield Row(
            *("fanout", title, engine, "acknowledged p50", "ms", acknowledged, at_most(6)),
            *(plain["acknowledged_ms"], "plain HTTP"),
        )
        yield Row(
            *("fanout", title, engine, "bytes in all", "KB", sizes, below(150), plain["bytes_per_flip"] / 1e3),
            "the changed fields alone",
        )


def _rounds(flips: int) -> int:
    return max(1, flips // (2 * _WATCHED)) * 2 * _WATCHED


def register(port: int, count: int) -> None:
    """Register so many instances of the service that is watched."""
    paths = (f"/v1/services/{SERVICE}/instances/i{number}" for number in range(count))
    sent(port, 8, [http_load.request("PUT", path, spec(number, checks=False)) for number, path in enumerate(paths)])


def flipped(bench: Bench, port: int, watchers: int, instances: int, flips: int, per_second: float) -> dict[str, Any]:
    """Watch from one process, report from another; what both say."""
    command = python("benchmarks.load.watcher", HOST, port, SERVICE, watchers, flips)
    with running(command, bench.folder / "watcher.log", stdout=PIPE) as watching:
        assert watching.stdout is not None
        if watching.stdout.readline() != b"ready\n":
            raise RuntimeError(f"the watchers failed: {(bench.folder / 'watcher.log').read_text()[-2000:]}")
        reported = job("benchmarks.load.reporter", HOST, port, SERVICE, instances, flips, per_second)
        if reported["statuses"] != {"200": flips}:
            raise RuntimeError(f"not every report was accepted: {reported['statuses']}")
        return reported | orjson.loads(watching.stdout.read())
