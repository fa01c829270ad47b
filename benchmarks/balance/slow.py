"""Five instances, one of them ten times slower: the slowest hundredth of all calls, by policy, and behind real proxies."""

from collections.abc import Iterator
from typing import Final

from benchmarks.balance.load.caller import Calls
from benchmarks.balance.stage import Kind, ours_and_theirs, share
from benchmarks.bench import EMBEDDED, Bench
from benchmarks.rivals.proxies import BEST, TURNS, there
from benchmarks.table import Row, at_most

_QUICK: Final = Kind(takes_seconds=0.02, at_once=16)
_SLOW: Final = Kind(takes_seconds=0.2, at_once=16)
_PER_SECOND: Final = 250.0
_WARM_SECONDS, _SECONDS = 2.0, 8.0
_CLIENTS: Final = 5
_POLICIES: Final = ("round_robin", "least_cost")
_TITLE: Final = "five instances, one ten times slower"


def run(bench: Bench) -> Iterator[Row]:
    """Each of ours and of theirs; then ours as a part of our turns, and of the best of theirs."""
    phases = tuple((_PER_SECOND, max(0.5, seconds * bench.scale)) for seconds in (_WARM_SECONDS, _SECONDS))
    calls, ways = Calls(phases, _CLIENTS), there([*BEST, *TURNS]) if bench.proxies else []
    kinds = [*[_QUICK] * 4, _SLOW]
    found = [ours_and_theirs(bench, kinds, calls, _POLICIES, ways) for _ in range(bench.runs)]
    p99: dict[str, list[float]] = {name: [run[name][1]["p99_ms"] for run in found] for name in found[0]}
    for name, runs in p99.items():
        notes = {
            "p50 ms": min(run[name][1]["p50_ms"] for run in found),
            "errors %": max(share(run[name][1], "failed") for run in found),
        }
        yield Row("balance_slow", _TITLE, name, "p99", "ms", runs, notes=notes)
    ours, turns = p99["least_cost"], p99["round_robin"]
    times = [one / other for one, other in zip(ours, turns, strict=True)]
    yield Row("balance_slow", _TITLE, EMBEDDED, "p99, least_cost", "× round_robin", times, at_most(1 / 3))
    if ways:
        best = [min(p99[way.name][run] for way in ways) for run in range(bench.runs)]
        times = [one / other for one, other in zip(ours, best, strict=True)]
        yield Row("balance_slow", _TITLE, EMBEDDED, "p99, least_cost", "× the best proxy", times, at_most(1.1))
