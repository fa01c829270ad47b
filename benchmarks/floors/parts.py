"""What a failover of a group consists of, each part by itself, in the same run.

    a killed process's end is seen ▸ a report reaches a watcher ▸ an append ▸ a renewal and its answer ▸ a hook through /bin/sh

Reports and renewals are muster's own parts: a controller is asked by lean clients in processes of their own. The rest is the
machine's.
"""

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.bench import Bench
from benchmarks.floors import floor
from benchmarks.load import http_load
from benchmarks.registry.http import sent
from benchmarks.registry.watch import SERVICE, flipped, register

_TIMES: Final = 100
_PER_SECOND: Final = 50.0
_RECORDS_PER_BATCH: Final = 4


@dataclass(frozen=True, slots=True)
class Parts:
    """The medians of the parts of a failover, in milliseconds."""

    end: float
    report: float
    append: float
    renewal: float
    hook: float

    @property
    def ms(self) -> float:
        """One failover: its end is a batch that is reported, its promotion another one; then the lease is taken."""
        return self.end + self.report + self.append + self.renewal + self.hook

    def __str__(self) -> str:
        return (
            f"end seen {self.end:.1f} + report to watcher {self.report:.1f} + raw append {self.append:.1f}"
            f" + renewal {self.renewal:.1f} + hook's start {self.hook:.1f}"
        )


def measured(bench: Bench, engine: str) -> Parts:
    """The parts, as they are done now."""
    times = bench.size(_TIMES)
    stored = floor.records(_RECORDS_PER_BATCH, _RECORDS_PER_BATCH * times)
    append = floor.appended_ms(bench, engine, stored, _RECORDS_PER_BATCH)
    with bench.fresh(engine) as controller:
        register(controller.port, 1)
        report = flipped(bench, controller.port, 1, 1, times, _PER_SECOND)["p50_ms"]
        beats = [http_load.request("POST", f"/v1/services/{SERVICE}/instances/i0/heartbeat")] * times
        renewal = sent(controller.port, 1, beats)["p50_ms"]
    return Parts(_often(times, _end_seen), report, append, renewal, _often(times, lambda: _started(bench.folder)))


def _often(times: int, timed: Callable[[], float]) -> float:
    return median(timed() for _ in range(times)) * 1e3


def _end_seen() -> float:
    """SIGKILL of a process, until its parent has seen its end."""
    process = subprocess.Popen(["sleep", "1000"])
    process.kill()
    began = time.perf_counter()
    process.wait()
    return time.perf_counter() - began


def _started(folder: Path) -> float:
    """A hook that says a line: from its start until that was read."""
    pipe = folder / f"floor-{os.getpid()}.pipe"
    os.mkfifo(pipe)
    # Both ends: so neither waits for the other one to open it.
    descriptor = os.open(pipe, os.O_RDWR)
    try:
        began = time.perf_counter()
        with subprocess.Popen(["/bin/sh", "-c", f"echo started > {pipe}"]):
            os.read(descriptor, 100)
            return time.perf_counter() - began
    finally:
        os.close(descriptor)
        pipe.unlink()


def hook_ms(command: str) -> float:
    """The median of a hook of this kind by itself: from its start until its end was seen."""

    def once() -> float:
        began = time.perf_counter()
        subprocess.run(["/bin/sh", "-c", command], check=True)
        return time.perf_counter() - began

    return _often(_TIMES, once)
