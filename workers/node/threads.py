"""The threads in which a node's store is read and written, so that the event loop never waits for the disk."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

from muster.wire.error import DataUnavailable

threads_max: Final = 16
P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """Runs the blocking calls of one node; belongs to its event loop. After `close` it takes no more calls."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(threads_max, "node")
        self._closed = False

    def start(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> "asyncio.Future[T]":
        """Begin the call; the future brings its result. Raises DataUnavailable when the node is stopping."""
        if self._closed:
            raise DataUnavailable("the node is stopping")
        return asyncio.wrap_future(self._executor.submit(function, *arguments, **named))

    async def run(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """The call's result. A caller that is cancelled returns only after the call has ended: a thread cannot be stopped."""
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
    """Return when it has ended, with a result, an error or a cancellation."""
    if not running.done():
        await asyncio.wait([running])
    if not running.cancelled():
        running.exception()
