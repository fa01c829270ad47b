"""SIGKILL of one instance after the other among 500 calls a second that may be repeated: how many calls fail."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from subprocess import PIPE
from typing import Any, Final

import orjson

from benchmarks.balance.load.caller import Calls, given
from benchmarks.balance.stage import Kind, port_of, registered, url_of
from benchmarks.bench import EMBEDDED, Bench
from benchmarks.process import python, running
from benchmarks.table import Row, at_most

_INSTANCES: Final = 5
_KIND: Final = Kind(takes_seconds=0.01)
_PER_SECOND: Final = 500.0
_KILLS: Final = 5
_PAUSE_SECONDS: Final = 1.0
_TITLE: Final = "SIGKILL of an instance at 500 calls/s, aiohttp"


def run(bench: Bench) -> Iterator[Row]:
    """The failed calls of each run. Nobody tells the controller of the kills: it goes on naming the instance that is dead."""
    kills = min(_KILLS, max(1, round(_KILLS * bench.scale)))
    found = [_measured(bench, kills) for _ in range(bench.runs)]
    notes = {
        "kills each run": float(kills),
        "calls": float(sum(sum(one["sent"].values()) for one in found)),
        "p99 ms": max(one["p99_ms"] for one in found),
    }
    failed = [float(sum(one["failed"].values())) for one in found]
    yield Row("balance_kill", _TITLE, EMBEDDED, "failed calls", "", failed, at_most(0), notes=notes)


def _measured(bench: Bench, kills: int) -> dict[str, Any]:
    log = bench.folder / "backend.log"
    with ExitStack() as stack:
        started = [stack.enter_context(running(_KIND.command(), log, stdout=PIPE)) for _ in range(_INSTANCES)]
        ports = [port_of(bench, process) for process in started]
        controller = stack.enter_context(registered(bench, ports))
        seconds = _PAUSE_SECONDS * (2 * kills + 1)
        calls = Calls(((_PER_SECOND, seconds),), clients=1, controller=url_of(controller), says_begun=True)
        command = python("benchmarks.balance.load.caller")
        caller = stack.enter_context(running(command, bench.folder / "caller.log", stdin=PIPE, stdout=PIPE))
        assert caller.stdin is not None, "it is a pipe"
        assert caller.stdout is not None, "it is a pipe"
        caller.stdin.write(given(calls))
        caller.stdin.close()
        if caller.stdout.readline() != b"begun\n":
            raise RuntimeError(f"the caller failed: {(bench.folder / 'caller.log').read_text()[-2000:]}")
        for number in range(kills):
            time.sleep(_PAUSE_SECONDS)
            started[number].kill()
            time.sleep(_PAUSE_SECONDS)
            # At its old address, as a supervisor does it.
            again = stack.enter_context(running(_KIND.command(ports[number]), log, stdout=PIPE))
            port_of(bench, again)
        phases: list[dict[str, Any]] = orjson.loads(caller.stdout.read())["phases"]
    return phases[0]
