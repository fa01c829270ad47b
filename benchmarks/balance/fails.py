"""Five instances, one of which answers every call with 500 at once: the errors that callers see, from the first call on."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from benchmarks.balance.load.caller import Calls
from benchmarks.balance.stage import Kind, ours_and_theirs, share
from benchmarks.bench import Bench
from benchmarks.rivals.proxies import BEST, ENVOY_LEAST, TURNS, there
from benchmarks.table import Row, at_most

_WELL: Final = Kind(takes_seconds=0.02, at_once=16)
_FAILS: Final = Kind(status=500)
_PER_SECOND: Final = 200.0
_SECONDS: Final = 10.0
_CLIENTS: Final = 5
_TITLE: Final = "five instances, one fails every call at once"
_SHARE: Final = 1 / 5


def run(bench: Bench) -> Iterator[Row]:
    """POST, which nothing repeats, ours and theirs; and GET, which our hook repeats at another instance."""
    posts = Calls(((_PER_SECOND, max(1.0, _SECONDS * bench.scale)),), _CLIENTS, method="POST")
    ways, kinds = there([*BEST, *TURNS]) if bench.proxies else [], [*[_WELL] * 4, _FAILS]
    found: dict[str, list[float]] = {}
    for _ in range(bench.runs):
        told = ours_and_theirs(bench, kinds, posts, ("round_robin", "least_cost"), ways)
        repeated = ours_and_theirs(bench, kinds, replace(posts, method="GET"), ("least_cost",), ())
        told["least_cost, GET"] = repeated["least_cost"]
        for name, phases in told.items():
            found.setdefault(name, []).append(share(phases[0], "failed"))
    envoy = found.get(ENVOY_LEAST.name)
    for name, runs in found.items():
        yield Row("balance_fails", _TITLE, name, "errors", "% of calls", runs)
        if envoy and name.startswith("least_cost"):
            times = [ours / theirs for ours, theirs in zip(runs, envoy, strict=True)]
            yield Row("balance_fails", _TITLE, name, "errors", f"× {ENVOY_LEAST.name}", times, at_most(_SHARE))
