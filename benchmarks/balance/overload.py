"""Half as much again as the instances can do, a quarter of it at each priority, and then as before: what is answered.

The instances answer 503 beyond a short queue, as services do that want to live. There are twenty clients with several calls each,
and then a hundred with one or two; each of them finds out for itself that there is too much: that takes the first second of the
peak, or two, which count as well.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from benchmarks.balance.load.caller import Calls
from benchmarks.balance.stage import Kind, ours_and_theirs, share
from benchmarks.bench import Bench
from benchmarks.rivals.proxies import TURNS, Way, there
from benchmarks.table import Row, at_least

_TAKES_SECONDS, _AT_ONCE, _INSTANCES = 0.2, 16, 5
_KIND: Final = Kind(_TAKES_SECONDS, _AT_ONCE, waiting=_AT_ONCE)
_CAPACITY: Final = _INSTANCES * _AT_ONCE / _TAKES_SECONDS
_CALM, _PEAK = 0.6 * _CAPACITY, 1.5 * _CAPACITY
_FEW_CLIENTS, _MANY_CLIENTS = 20, 100
_PRIORITIES: Final = ("low", "normal", "high", "critical")
_TITLE: Final = "150 % of what five instances can do, for 10 s"


def run(bench: Bench) -> Iterator[Row]:
    """Ours and theirs: what was answered at the peak, and from 2 s behind it on."""
    ways = there(TURNS) if bench.proxies else []
    yield from _compared(bench, _TITLE, _FEW_CLIENTS, ways)
    # A proxy sees the calls of all clients: to it they are the same.
    yield from _compared(bench, f"{_TITLE}, a hundred clients", _MANY_CLIENTS, [])


def _compared(bench: Bench, title: str, clients: int, ways: Sequence[Way]) -> Iterator[Row]:
    short = max(0.2, min(1.0, bench.scale))
    phases = ((_CALM, 2 * short), (_PEAK, 10 * short), (_CALM, 2 * short), (_CALM, 3 * short))
    calls = Calls(phases, clients, priorities=_PRIORITIES)
    found = [ours_and_theirs(bench, [_KIND] * _INSTANCES, calls, ("least_cost",), ways) for _ in range(bench.runs)]
    for name in found[0]:
        runs, ours = [run[name] for run in found], name == "least_cost"
        critical = [share(run[1], priority="critical") for run in runs]
        target, after = (at_least(85), at_least(95)) if ours else (None, None)
        yield Row("balance_overload", title, name, "critical answered", "%", critical, target, notes=_notes(runs))
        behind = [share(run[3]) for run in runs]
        yield Row("balance_overload", title, name, "answered from 2 s behind it on", "%", behind, after)


def _notes(runs: list[list[dict[str, Any]]]) -> dict[str, float]:
    """Of the run in the middle by what was answered: each other priority, all, and how much of the capacity was used."""
    peak = sorted((run[1] for run in runs), key=share)[len(runs) // 2]
    useful = sum(peak["answered"].values()) / sum(peak["sent"].values()) * _PEAK / _CAPACITY * 100
    others = {f"{priority} %": share(peak, priority=priority) for priority in _PRIORITIES[:-1]}
    return {**others, "all %": share(peak), "of capacity %": useful}
