"""A token bucket: a limit of bytes per second on average, with short bursts.

A large value at a low rate waits for longer than anybody is patient: so who waits says now and then that it does.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

burst_seconds: Final = 0.1
part_seconds: Final = 0.5
part_bytes_min: Final = 4_096
told_seconds: Final = 1.0

Waits = Callable[[], Awaitable[None]]
"""Called while bytes wait for their turn, about every `told_seconds`."""


async def silently() -> None:
    """Tell nobody."""


class Throttle:
    """Lets through at most `bytes_per_second` (None: no limit). All that share it share the rate."""

    def __init__(self, bytes_per_second: float | None) -> None:
        self._bytes_per_second = bytes_per_second
        self._free_at = 0.0

    def part_bytes(self, most: int) -> int:
        """The size of parts, up to `most`, so that each passes in about half a second and the reader sees that it goes on."""
        if self._bytes_per_second is None:
            return most
        return max(part_bytes_min, min(most, int(self._bytes_per_second * part_seconds)))

    async def take(self, size: int, waits: Waits = silently) -> None:
        """Return when `size` more bytes may pass. Callers pass in the order of their calls; each is told that it `waits`."""
        if self._bytes_per_second is None:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now - burst_seconds) + size / self._bytes_per_second
        free_at = self._free_at
        while (left := free_at - time.monotonic()) > 0:
            await asyncio.sleep(min(left, told_seconds))
            if left > told_seconds:
                await waits()
