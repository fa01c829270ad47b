"""What all local servers have in common: they start, stop, and can be treated as crashes and stalls treat them."""

import asyncio
import logging
import signal
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar, Final, Self

from infra.local.child import ChildProcess
from infra.local.failure import LocalServerFailed
from muster.wire.backoff import pause_seconds

_LOG: Final = logging.getLogger("muster.local")
look_seconds: Final = 0.25
pause_seconds_min: Final = 0.5
pause_seconds_max: Final = 30.0
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

    async def keep(self) -> None:
        """Start the server again whenever it has ended, for ever: with longer pauses while it does not come up, each told."""
        tries = 0
        while True:
            await asyncio.sleep(look_seconds)
            if self.pid is not None:
                continue
            _LOG.error("a local server has ended: it is started again", extra={"server": self.name, "tries": tries})
            try:
                await self.start()
            except (LocalServerFailed, OSError) as failed:
                pause = pause_seconds(tries, pause_seconds_min, pause_seconds_max)
                facts = {"server": self.name, "reason": str(failed), "again_in_seconds": round(pause, 1)}
                _LOG.error("a local server does not start", extra=facts)
                await asyncio.sleep(pause)
                tries += 1
                continue
            _LOG.warning("a local server runs again", extra={"server": self.name})
            tries = 0

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[Self]:
        """Started for the length of the block, and kept running in it."""
        async with self:
            keeping = asyncio.create_task(self.keep(), name=f"keeps {self.name}")
            try:
                yield self
            finally:
                keeping.cancel()
                await asyncio.wait([keeping])

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
