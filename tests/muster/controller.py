"""A real controller on the embedded engine: in this process, or as a process of its own that can be killed."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from infra.settings import Settings
from muster import Client
from workers.controller.process import running


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def controller(data: Path, port: int = 0) -> AsyncIterator[str]:
    """The controller's url, for the length of the block."""
    async with running(Settings(data=data, http=f"127.0.0.1:{port}")) as started:
        yield started.url


class ControllerProcess:
    """`muster up` as a user starts it."""

    def __init__(self, data: Path, port: int, *more: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.data = data
        self._command = [sys.executable, "-m", "muster", "up", "--data", str(data), "--http", f"127.0.0.1:{port}"]
        self._command += more
        self._log = data.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.to_thread(
                subprocess.Popen, self._command, stderr=log, stdout=log, cwd=Path(__file__).parents[2]
            )
        async with Client(self.url, timeout_seconds=30) as client:
            await client.services()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        assert self._process is not None
        os.kill(self._process.pid, how)
        return self._process.wait(timeout=30)
