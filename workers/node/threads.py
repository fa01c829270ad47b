"""The threads in which a node's store is read and written, so that its event loop never waits for the disk."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

from muster.wire.error import DataUnavailable

threads_max: Final = 16
P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """Runs the blocking calls of one node; belongs to its event loop. After `close` there are none any more."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(threads_max, "node")
        self._closed = False

    def start(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> "asyncio.Future[T]":
        """The call's result to come. Raises DataUnavailable when the node is stopping."""
        if self._closed:
            raise DataUnavailable("the node is stopping")
        return asyncio.wrap_future(self._executor.submit(function, *arguments, **named))

    async def run(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """The call's result. Who is cancelled meanwhile leaves when the call has ended, so that nothing goes on behind it."""
        running = self.start(function, *arguments, **named)
        try:
            return await asyncio.shield(running)
        finally:
            await ended(running)

    async def close(self) -> None:
        """Return when the last call has ended."""
        self._closed = True
        await asyncio.to_thread(self._executor.shutdown)


async def ended(running: "asyncio.Future[Any]") -> None:
    """Return when it has ended, however it has."""
    if not running.done():
        await asyncio.wait([running])
    if not running.cancelled():
        running.exception()
