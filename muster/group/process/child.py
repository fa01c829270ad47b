"""One process that a runner has started: in a session of its own, killed by the system when the runner dies, its end heard of at
once. It does not begin at all when the right to run it is over by then.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Final

from muster.clock import elapsed_seconds
from muster.group.process.shell import TOO_LATE, checked

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def adopt_orphans() -> None:
    """Become the parent of every process below whose own parent ends (Linux)."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


RUNNING: Final[set[int]] = set()
"""The processes that are waited for here."""


class StartedProcess:
    """A process. `ended` is its exit code, below zero for a signal that has killed it. To be made in the loop's own thread:
    Linux takes the end of the thread that has started it for the parent's death.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        until: float,
        stdin: IO[bytes] | int = subprocess.DEVNULL,
        output: int | None = None,
    ) -> None:
        """Start it, if it is not `until` yet (an instant of `elapsed_seconds`). Raises OSError if that cannot be."""
        parent = os.getpid()

        def begin() -> None:
            # In the child, as late as can be: this process may have been stopped since it last looked at the clock.
            if sys.platform == "linux":
                _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                if os.getppid() != parent:
                    os._exit(TOO_LATE)
            if elapsed_seconds() >= until:
                os._exit(TOO_LATE)

        # A shell looks for itself: a fork of this process would take many times as long.
        quick = checked(command, environment, until)
        self._process = subprocess.Popen(
            command if quick is None else quick,
            env=environment,
            stdin=stdin,
            stdout=output,
            stderr=output,
            preexec_fn=begin if quick is None else None,
            start_new_session=True,
        )
        self.pid: Final = self._process.pid
        RUNNING.add(self.pid)
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._watching: asyncio.Task[None] | None = None
        self._watch()

    def signal_group(self, number: signal.Signals) -> None:
        """Send the signal to it and to all of its process group."""
        if not self.ended.done():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    async def stopped(self, seconds: float) -> bool:
        """Ask it to end (SIGTERM). Returns whether it has, within the time."""
        self.signal_group(signal.SIGTERM)
        await asyncio.wait([self.ended], timeout=seconds)
        return self.ended.done()

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # an older Linux, or another system
            self._watching = asyncio.create_task(self._wait_in_thread())
            return

        def has_ended() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            self._note(self._process.wait())

        loop.add_reader(descriptor, has_ended)

    async def _wait_in_thread(self) -> None:
        self._note(await asyncio.to_thread(self._process.wait))

    def _note(self, code: int) -> None:
        RUNNING.discard(self.pid)
        if not self.ended.done():
            self.ended.set_result(code)


async def any_ended(pids: Iterable[int], seconds: float) -> None:
    """Return as soon as one of these processes has ended, or after so long."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    descriptors = list[int]()
    try:
        # An older Linux has none, and a process may have ended, or be one too many: then the time is what ends this.
        with suppress(AttributeError, OSError):
            for pid in pids:
                descriptors.append(os.pidfd_open(pid))
                loop.add_reader(descriptors[-1], _end, ended)
        await asyncio.wait([ended], timeout=seconds)
    finally:
        for descriptor in descriptors:
            loop.remove_reader(descriptor)
            os.close(descriptor)


def _end(ended: "asyncio.Future[None]") -> None:
    if not ended.done():
        ended.set_result(None)


def told_of(code: int) -> str:
    """The exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
