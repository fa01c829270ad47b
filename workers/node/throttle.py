"""A token bucket: a limit of bytes per second on average, with short bursts."""

import asyncio
import time
from typing import Final

burst_seconds: Final = 0.1
part_seconds: Final = 0.5
part_bytes_min: Final = 4_096


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

    async def take(self, size: int) -> None:
        """Return when `size` more bytes may pass. Callers pass in the order of their calls."""
        if self._bytes_per_second is None:
            return
        now = time.monotonic()
        self._free_at = max(self._free_at, now - burst_seconds) + size / self._bytes_per_second
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)
