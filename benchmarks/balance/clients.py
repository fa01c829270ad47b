"""What the balancer's hooks cost: calls through aiohttp, httpx and grpc.aio as they are, and balanced, in turns."""

from collections.abc import Iterator
from contextlib import ExitStack
from subprocess import PIPE
from typing import Any, Final

from benchmarks.balance.load.hooked import WARM_BURSTS
from benchmarks.balance.stage import SERVICE, port_of, registered, url_of
from benchmarks.bench import EMBEDDED, Bench, middle
from benchmarks.controller import HOST
from benchmarks.process import job, python, running, usage
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
    """Of each client the median call, and the processor time of one, in the caller and in the server, balanced ÷ bare."""
    for kind, (title, times) in _TITLES.items():
        found = [_measured(bench, kind) for _ in range(bench.runs)]
        for name, figure in (("p50", "p50 of a call"), ("both_cpu", "CPU of a call")):
            notes = {f"{which} µs": middle(found, f"{which}_{name}_us") for which in ("bare", "hooked")}
            if name == "both_cpu":
                notes |= {"× in the caller alone": middle(found, "cpu_times")}
            runs = [one[f"{name}_times"] for one in found]
            yield Row("balance_clients", title, EMBEDDED, figure, "× bare", runs, at_most(times), notes=notes)


def _measured(bench: Bench, kind: str) -> dict[str, Any]:
    with ExitStack() as stack:
        log = bench.folder / "backend.log"
        servers = [stack.enter_context(running(_SERVERS[kind], log, stdout=PIPE)) for _ in range(_INSTANCES)]
        ports = [port_of(bench, server) for server in servers]
        controller = stack.enter_context(registered(bench, ports))
        bursts, addresses = bench.size(_BURSTS), [f"{HOST}:{port}" for port in ports]
        before = sum(usage(server.pid).cpu_seconds for server in servers)
        found = job("benchmarks.balance.load.hooked", kind, url_of(controller), SERVICE, bursts, _CALLS, *addresses)
        used = sum(usage(server.pid).cpu_seconds for server in servers) - before
    # A server does the same for a call, whoever has picked it: so it is not told apart.
    served_us = used / (2 * (bursts + WARM_BURSTS) * _CALLS) * 1e6
    both = {f"{which}_both_cpu_us": found[f"{which}_cpu_us"] + served_us for which in ("bare", "hooked")}
    return found | both | {"both_cpu_times": both["hooked_both_cpu_us"] / both["bare_both_cpu_us"]}
