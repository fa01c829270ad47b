"""A server that runs as our child: it dies with us, stops within a bound, and holds its folder while it lives.

    folder/lock         locked by every process of the server, through a descriptor they inherit; says the pid
    folder/server.log   what the server wrote to stdout and stderr, all starts one after the other

The lock is let go when the last process of the server is gone, however it went; so the next holder knows that
nothing of an earlier server still writes to the folder.
"""

import asyncio
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from infra.folder_lock import FolderHeld, hold, write_holder
from infra.local.failure import LocalServerFailed

POLL_SECONDS: Final = 0.03
LOCK_WAIT_SECONDS: Final = 2.0
LOG_LINES_MAX: Final = 20
STOPPED_SECONDS_MAX: Final = 5.0
_PR_SET_PDEATHSIG: Final = 1

_libc: Final = ctypes.CDLL(None, use_errno=True)


class ChildProcess:
    """The one process of server `name` over `folder` (created if missing), started any number of times.

    Spawn from a thread that lives as long as the server is wanted: Linux takes the end of that *thread* for
    the parent's death.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder.absolute()
        self.log = self.folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The process id while the server runs, else None."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @contextmanager
    def folder_held(self) -> Iterator[None]:
        """Hold the folder to prepare it and to spawn; raises LocalServerFailed if a running server has it, or it is of no use."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._take_lock()
            yield
        except OSError as error:
            which = f" ({error.filename})" if error.filename else ""
            detail = f"{self.name}: the folder {self.folder} cannot be used: {error.strerror}{which}"
            raise LocalServerFailed(detail) from error
        finally:
            if self._lock is not None:
                os.close(self._lock)  # a spawned server goes on holding its own copy
                self._lock = None

    def spawn(self, command: Sequence[str | Path], *, prepare: Callable[[], None] | None = None) -> None:
        """Start `command` in the folder, within `folder_held`; `prepare` runs first, in the child."""
        assert self._lock is not None, "spawn without the folder's lock"
        parent = os.getpid()

        def in_child() -> None:
            if prepare:
                prepare()
            _die_with_parent(parent)  # after `prepare`: a change of user would clear it

        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self._lock],
                preexec_fn=in_child,
                start_new_session=True,  # Ctrl-C is for us; we then stop the server in order
            )
        write_holder(self._lock, self._process.pid)

    async def ready(
        self, ask: Callable[[], Awaitable[None]], not_yet: tuple[type[Exception], ...], timeout_seconds: float
    ) -> None:
        """Call `ask` until it raises no `not_yet`; else kill the server and raise LocalServerFailed with its log."""
        refusal: Exception | None = None
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    try:
                        return await ask()
                    except not_yet as error:
                        refusal = error
                    if self.pid is None:
                        raise self.failure("ended before it was ready")
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            self.kill()
            raise self.failure(f"was not ready within {timeout_seconds:g} s ({refusal!r})") from refusal
        except BaseException:  # cancelled, too
            self.kill()
            raise

    async def stop(self, number: signal.Signals, timeout_seconds: float) -> None:
        """Ask the server to end with signal `number`, and kill it if it has not within `timeout_seconds`."""
        if self._process is None:
            return
        self._send(signal.SIGCONT)  # a suspended server would never hear the next one
        self._send(number)
        try:
            await asyncio.to_thread(self._process.wait, timeout_seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, and wait for the end; nothing happens if the server does not run."""
        if self._process:
            self._send(signal.SIGKILL)
            self._process.wait()

    def suspend(self) -> None:
        """SIGSTOP: the server keeps its sockets and says nothing any more when this returns."""
        self._send(signal.SIGSTOP)
        # The signal is only on its way now: until each thread has taken notice, another one may still answer.
        until = time.monotonic() + STOPPED_SECONDS_MAX
        while self._process is not None and not is_stopped(self._process.pid) and time.monotonic() < until:
            time.sleep(0.001)

    def resume(self) -> None:
        """SIGCONT: the server goes on where it was."""
        self._send(signal.SIGCONT)

    def failure(self, what: str) -> LocalServerFailed:
        """The error "server `what`", with what the server wrote since it was last spawned."""
        written = b""
        if self.log.exists():
            with self.log.open("rb") as log:
                log.seek(self._log_start)
                written = log.read()
        lines = written.decode(errors="replace").splitlines()[-LOG_LINES_MAX:]
        said = "\n  ".join([f". The last lines of {self.log}:", *lines]) if lines else ". It wrote nothing."
        return LocalServerFailed(f"{self.name} in {self.folder} {what}{said}")

    def _send(self, number: signal.Signals) -> None:
        if self._process:
            self._process.send_signal(number)

    def _take_lock(self) -> int:
        try:
            # A server that was just killed needs a moment to let go.
            return hold(self.folder / "lock", LOCK_WAIT_SECONDS)
        except FolderHeld as held:
            raise LocalServerFailed(
                f"{self.name}: the folder {self.folder} is in use by a server that runs (pid {held.holder}). "
                "Stop that one, or choose another folder."
            ) from None


def free_port() -> int:
    """A free TCP port of the loopback address, below those that the system gives to clients (32768 and up).

    Thus no client's connection can take it between this call and the server's own bind.
    """
    for port in random.sample(range(15_000, 32_000), 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise LocalServerFailed("no free TCP port on 127.0.0.1 between 15000 and 32000")


def _die_with_parent(parent: int) -> None:
    """In the child: be killed when `parent` dies (Linux; elsewhere only an orderly end stops the server)."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)


def is_stopped(pid: int) -> bool:
    """Whether no thread of the process runs; where the system has no /proc, what was sent must do."""
    for thread in Path(f"/proc/{pid}/task").glob("*/stat"):
        try:
            # The state follows the name in brackets, which may hold blanks.
            state = thread.read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
            continue
        if state not in "TtZX":
            return False
    return True
