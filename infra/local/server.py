"""What all local servers have in common: they start, stop, and can be treated as crashes and stalls treat them."""

import signal
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Final, Self

from infra.local.child import ChildProcess

STOP_TIMEOUT_SECONDS: Final = 10.0


class LocalServer(ABC):
    """A server over the folder `data`, started any number of times. `async with` starts and stops it."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    """The one by which it stops in order, disconnecting its clients."""

    def __init__(self, data: Path) -> None:
        self._child = ChildProcess(self.name, data)

    @abstractmethod
    async def start(self) -> None:
        """Start the server on whatever `data` holds, and return when it answers. Does nothing if it runs.

        Raises LocalServerUnavailable when what it is made of cannot be had, else LocalServerFailed.
        """

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs, else None."""
        return self._child.pid

    async def stop(self) -> None:
        """Stop in order, by force after 10 s. The data stays."""
        await self._child.stop(self.stop_signal, STOP_TIMEOUT_SECONDS)

    async def restart(self) -> None:
        """Stop, then start on the same data and port."""
        await self.stop()
        await self.start()

    def kill(self) -> None:
        """SIGKILL, as a crash would; `start` brings the server back on the same data and port."""
        self._child.kill()

    def suspend(self) -> None:
        """SIGSTOP: connections stay open, and the process that was started answers nothing."""
        self._child.suspend()

    def resume(self) -> None:
        """SIGCONT, after `suspend`."""
        self._child.resume()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
