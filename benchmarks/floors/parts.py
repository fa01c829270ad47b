"""What a failover of a group consists of, each part by itself, in the same run.

    a killed command, and what it has left behind, are seen to have ended ▸ a report is in the log and reaches a watcher
    ▸ a renewal and its answer ▸ a hook says its first line

Each by the cheapest means for its work. Ends are seen through descriptors of the processes, without a search. The end and the
promotion are one batch of the log, so the report is that of one health check: one append and one push, asked and watched by
lean clients in processes of their own. For the renewal stands a strong read, which is answered after the writer has proven its
reign, as a claim is, and at once, as a claim is: heartbeats that come one by one wait for others to share a proof. The hook is
started with the programs and the shell's checks that a runner starts it with, but by a process that does nothing else.

Each comes after a pause, as failovers do: what has done nothing for an eighth of a second finds less of its own in the caches of
the processor.
"""

import math
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.bench import Bench
from benchmarks.controller import HOST, Controller
from benchmarks.load import http_load
from benchmarks.registry.watch import SERVICE, flipped, register
from muster.group.process.shell import SHELL, checked

_TIMES: Final = 60
_PER_SECOND: Final = 8.0
_STRONG: Final = http_load.request("GET", f"/v1/services/{SERVICE}/instances/i0?consistency=strong")


@dataclass(frozen=True, slots=True)
class Parts:
    """The medians of the parts of a failover, in milliseconds."""

    end: float
    report: float
    renewal: float
    hook: float

    @property
    def ms(self) -> float:
        """One failover: its end is reported, and the promotion that comes of it is told; then the lease is taken."""
        return self.end + self.report + self.renewal + self.hook

    def __str__(self) -> str:
        return (
            f"end seen {self.end:.1f} + report to watcher {self.report:.1f} + renewal {self.renewal:.1f}"
            f" + hook's start {self.hook:.1f}"
        )


def measured(bench: Bench, controller: Controller) -> Parts:
    """The parts, as they are done now; at this controller, beside all that runs there."""
    times = bench.size(_TIMES)
    register(controller.port, 1)
    report = flipped(bench, controller.port, 1, 1, times, _PER_SECOND)["p50_ms"]
    with socket.create_connection((HOST, controller.port)) as connection:
        renewal = _often(times, lambda: _proven(connection))
    return Parts(_often(times, _end_seen), report, renewal, _often(times, lambda: _started(bench.folder)))


def measured_alone(bench: Bench, engine: str) -> Parts:
    """The parts at a controller of their own."""
    with bench.fresh(engine) as controller:
        return measured(bench, controller)


def _often(times: int, timed: Callable[[], float]) -> float:
    def rested() -> float:
        time.sleep(1 / _PER_SECOND)
        return timed()

    return median(rested() for _ in range(times)) * 1e3


def _proven(connection: socket.socket) -> float:
    """A strong read, until its answer is there: it is a small one."""
    began = time.perf_counter()
    connection.sendall(_STRONG)
    answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 200"), answer[:100]
    return time.perf_counter() - began


def _end_seen() -> float:
    """SIGKILL of a shell, until its end was seen; then of what it has started, until that has ended too."""
    with subprocess.Popen([SHELL, "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        left = int(shell.stdout.readline())
        ends = [os.pidfd_open(pid) for pid in (shell.pid, left)]
        try:
            began = time.perf_counter()
            for pid, end in zip((shell.pid, left), ends, strict=True):
                os.kill(pid, signal.SIGKILL)
                select.select([end], [], [])
            return time.perf_counter() - began
        finally:
            for end in ends:
                os.close(end)


def _started(folder: Path) -> float:
    """A hook that says a line: from its start until that was read."""
    pipe = folder / f"floor-{os.getpid()}.pipe"
    os.mkfifo(pipe)
    # Both ends: so neither waits for the other one to open it.
    descriptor = os.open(pipe, os.O_RDWR)
    hook = [SHELL, "-c", f"echo started > {pipe}"]
    started = checked(hook, os.environ, math.inf) or hook
    try:
        began = time.perf_counter()
        with subprocess.Popen(started, stdin=subprocess.DEVNULL, start_new_session=True):
            os.read(descriptor, 100)
            return time.perf_counter() - began
    finally:
        os.close(descriptor)
        pipe.unlink()


def hook_ms(command: str) -> float:
    """The median of a hook of this kind by itself: from its start until its end was seen."""

    def once() -> float:
        began = time.perf_counter()
        subprocess.run([SHELL, "-c", command], check=True)
        return time.perf_counter() - began

    return _often(_TIMES, once)
