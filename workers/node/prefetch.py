"""Reads messages ahead, while those before them are worked on."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from workers.node.throttle import Throttle, Waits, silently


class SizedMessage(Protocol):
    """A gRPC message."""

    def ByteSize(self) -> int:  # noqa: N802
        """Its size on the wire."""


M = TypeVar("M", bound=SizedMessage)


async def gathered(
    messages: AsyncIterable[M], throttle: Throttle, bytes_max: int, waits: Waits = silently
) -> AsyncGenerator[list[M], None]:
    """The messages in lists, each with all that have come since the last. Reads up to `bytes_max` ahead, throttled; `waits` is
    called while the throttle holds a message back.
    """
    ahead = _Ahead[M](bytes_max)
    reading = asyncio.create_task(ahead.read(messages, throttle, waits))
    try:
        while some := await ahead.take():
            yield some
        await reading
    finally:
        reading.cancel()
        await asyncio.wait([reading])
        with suppress(asyncio.CancelledError):
            reading.exception()


class _Ahead(Generic[M]):
    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._waiting: list[M] = []
        self._bytes = 0
        self._ended = False
        self._changed = asyncio.Condition()

    async def read(self, messages: AsyncIterable[M], throttle: Throttle, waits: Waits) -> None:
        try:
            async for message in messages:
                size = message.ByteSize()
                await throttle.take(size, waits)
                await self._add(message, size)
        finally:
            async with self._changed:
                self._ended = True
                self._changed.notify_all()

    async def _add(self, message: M, size: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._waiting or self._bytes + size <= self._bytes_max)
            self._waiting.append(message)
            self._bytes += size
            self._changed.notify_all()

    async def take(self) -> list[M]:
        """Wait for messages and return all that have come; an empty list: there are no more."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting or self._ended)
            some, self._waiting, self._bytes = self._waiting, [], 0
            self._changed.notify_all()
        return some
