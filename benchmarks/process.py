"""Processes of a benchmark: started, watched through /proc, and stopped by their own pid."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.pace import PACE

ROOT: Final = Path(__file__).parent.parent
JOB_SECONDS_MAX: Final = 300.0
STOP_SECONDS_MAX: Final = 60.0
_LOOK_SECONDS: Final = 0.02
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used: processor time and memory, now and at its most."""

    cpu_seconds: float
    memory_mb: float
    peak_mb: float


def usage(pid: int) -> Usage:
    """The process's usage as of now."""
    # The name in brackets may hold blanks; utime and stime are fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("Vm")
    )
    return Usage(
        (int(fields[11]) + int(fields[12])) / _TICKS,
        int(status["VmRSS"].split()[0]) / 1024,
        int(status["VmHWM"].split()[0]) / 1024,
    )


@contextmanager
def running(command: Sequence[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The process for the length of the block; then it is killed if it still runs. Its standard error goes to `log`."""
    # As pip installs it, with its byte code beside it: compiling it anew takes 0.2 s of each start.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with log.open("ab") as errors:
        process = subprocess.Popen(list(command), cwd=ROOT, stderr=errors, env=environment, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def python(module: str, *arguments: object) -> list[str]:
    """The command that runs a module of ours."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def job(module: str, *arguments: object, given: bytes = b"") -> dict[str, Any]:
    """Run a module to its end in a process of its own, at the machine's best pace; the JSON that it prints."""
    PACE.wait()
    ended = subprocess.run(
        python(module, *arguments), cwd=ROOT, input=given, stdout=subprocess.PIPE, check=True, timeout=JOB_SECONDS_MAX
    )
    result: dict[str, Any] = orjson.loads(ended.stdout)
    return result


def watched(command: Sequence[str]) -> tuple[float, float, float, bytes]:
    """Run the command to its end: seconds, share of a core in percent, peak memory in MB, and the little that it printed.

    Its own processes count too; what they share in memory counts for each.
    """
    before, began, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0.0
    process = subprocess.Popen(list(command), cwd=ROOT, stdout=subprocess.PIPE)
    try:
        while process.poll() is None:
            # Not getrusage: to Linux a child's largest size includes what its parent had when it was made.
            with suppress(OSError, KeyError):
                peak = max(peak, sum(usage(pid).memory_mb for pid in family(process.pid)))
            time.sleep(_LOOK_SECONDS)
        seconds = time.perf_counter() - began
        assert process.stdout is not None
        printed = process.stdout.read()
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, printed)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used / seconds * 100, peak, printed


def family(pid: int) -> Iterator[int]:
    """The process and all that it has started, it itself first."""
    yield pid
    children: list[str] = []
    # What has ended meanwhile has no more children here.
    with suppress(OSError):
        children = [
            child
            for thread in Path(f"/proc/{pid}/task").iterdir()
            for child in (thread / "children").read_text().split()
        ]
    for child in children:
        yield from family(int(child))
