"""An event loop whose clock moves only when everybody waits, and then at once: a run is quick, and always the same."""

import asyncio
import selectors
from typing import Any


class _NobodyElse(selectors.SelectSelector):
    """Waits for nothing outside of the loop: where one would block, the loop's clock moves instead."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Nothing has come; so much time has passed. Raises RuntimeError when everybody would wait for ever."""
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing is due")
        self.passed += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time is seconds since its beginning, whatever clocks on the wall say."""

    def __init__(self) -> None:
        self._nobody = _NobodyElse()
        super().__init__(self._nobody)

    def time(self) -> float:
        """How much time has passed."""
        return self._nobody.passed

    def jump(self, seconds: float) -> None:
        """So much time passes in which nobody runs, as when the machine stands still."""
        self._nobody.passed += seconds
