"""What the balancer's hooks cost: calls through aiohttp, httpx and grpc.aio as they are, and balanced, in turns."""

from collections.abc import Iterator
from typing import Any, Final

from benchmarks.balance.stage import SERVICE, instances, registered, url_of
from benchmarks.bench import EMBEDDED, Bench, middle
from benchmarks.controller import HOST
from benchmarks.process import job, python
from benchmarks.table import Row, at_most

_INSTANCES: Final = 3
_CALLS: Final = 50
_BURSTS: Final = 80
_SERVERS: Final = {
    "aiohttp": python("benchmarks.balance.load.service"),
    "httpx": python("benchmarks.balance.load.service"),
    "grpc": python("benchmarks.floors.echo"),
}
_TITLES: Final = {
    "aiohttp": ("aiohttp with muster.balanced", 1.10),
    "httpx": ("httpx with muster.BalancedTransport", 1.15),
    "grpc": ("grpc.aio with muster.BalancedChannel", 1.15),
}


def run(bench: Bench) -> Iterator[Row]:
    """Of each client the median call and the processor time of one, balanced ÷ bare. The floor is the bare client."""
    for kind, (title, times) in _TITLES.items():
        found = [_measured(bench, kind) for _ in range(bench.runs)]
        for name, figure in (("p50", "p50 of a call"), ("cpu", "CPU of a call")):
            notes = {f"{which} µs": middle(found, f"{which}_{name}_us") for which in ("bare", "hooked")}
            runs = [one[f"{name}_times"] for one in found]
            yield Row("balance_clients", title, EMBEDDED, figure, "× bare", runs, at_most(times), notes=notes)


def _measured(bench: Bench, kind: str) -> dict[str, Any]:
    with instances(bench, [_SERVERS[kind]] * _INSTANCES) as ports, registered(bench, ports) as controller:
        addresses = [f"{HOST}:{port}" for port in ports]
        bursts = bench.size(_BURSTS)
        return job("benchmarks.balance.load.hooked", kind, url_of(controller), SERVICE, bursts, _CALLS, *addresses)
