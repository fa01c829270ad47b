"""What a group's primary runs under faults: it looks whether it may, and appends its next entry to the file of all members.

    python writer.py FILE [--guard PATH] [--gate PATH] [--stubborn] [--escaped]

--guard      each append is made under this `muster.Guard`; refused, the writer says so in FILE.refused, and ends
--gate       while there is such a file, it stands still between its look and its append, and says so in PATH.reached
--stubborn   it does not stop when it is asked to
--escaped    a process that has left its session, and its parent, writes too
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from muster import Guard
from muster.wire.error import StaleEpoch

every_seconds = 0.004


class Writer:
    """The writer of one process, with the epoch that its runner has given it."""

    def __init__(self, file: Path, guard: Path | None, gate: Path | None) -> None:
        self.member, self.epoch = os.environ["MUSTER_MEMBER"], int(os.environ["MUSTER_EPOCH"])
        self.path, self.gate = file, gate
        # Patient: whoever is frozen in the middle of its append is waited for.
        self.guard = None if guard is None else Guard(guard, wait_seconds=120.0)
        self.file = file.open("ab", buffering=0)
        self.number = 0
        self.is_to_stop = False

    def run(self) -> int:
        """Write until it is asked to stop, or refused. Returns the exit code."""
        while not self.is_to_stop:
            self.wait_at_gate()
            try:
                with self.admitted():
                    self.append()
            except StaleEpoch as refused:
                with Path(f"{self.path}.refused").open("ab", buffering=0) as file:
                    file.write(f"{self.epoch} {self.member} {refused.context['epoch']}\n".encode())
                return 3
            time.sleep(every_seconds)
        return 0

    def wait_at_gate(self) -> None:
        """It has looked, and has not written: here a host may be frozen at any time."""
        if self.gate is not None and self.gate.exists():
            Path(f"{self.gate}.reached").write_text(f"{self.epoch}\n")
            while self.gate.exists():
                time.sleep(0.001)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """The check and the append are one step for newer checks."""
        if self.guard is None:
            yield
        else:
            with self.guard.holding(self.epoch):
                yield

    def append(self) -> None:
        """One write of a whole line: entries of several processes do not mix."""
        self.number += 1
        self.file.write(f"{self.epoch} {self.member} {self.number} {time.time()} {os.getpid()}\n".encode())


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--guard", type=Path)
    parser.add_argument("--gate", type=Path)
    parser.add_argument("--stubborn", action="store_true")
    parser.add_argument("--escaped", action="store_true")
    chosen = parser.parse_args()
    if chosen.escaped and os.fork() == 0:
        os.setsid()
        if os.fork() > 0:
            os._exit(0)
    writer = Writer(chosen.file, chosen.guard, chosen.gate)

    def stop(_number: int, _frame: object) -> None:
        writer.is_to_stop = not chosen.stubborn

    signal.signal(signal.SIGTERM, stop)
    return writer.run()


if __name__ == "__main__":
    sys.exit(main())
