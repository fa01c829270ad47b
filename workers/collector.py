"""The garbage collector, turned off while much is built that stays: by a recovery, or by a projector that catches up.

It would look at all of it again and again, and find nothing. Other tasks make garbage meanwhile, so a task that keeps it
off for long lets it look `now_and_then`.
"""

import gc
import time
from typing import Final

LOOK_EVERY_SECONDS: Final = 60.0


class Collector:
    """The collector of this process: off as long as any task wants it off."""

    def __init__(self) -> None:
        self._unwanted_by: set[object] = set()
        self._looked_at = 0.0

    def off(self, by: object) -> None:
        """Keep it off until the same `by` turns it `on` again."""
        if not self._unwanted_by:
            # The minute counts from here. Until now the collector was on, and has looked by itself.
            self._looked_at = time.monotonic()
        self._unwanted_by.add(by)
        gc.disable()

    def on(self, by: object) -> None:
        """Turn it on again, unless others want it off. May be repeated."""
        self._unwanted_by.discard(by)
        if not self._unwanted_by:
            gc.enable()

    def now_and_then(self) -> None:
        """Collect the youngest objects, if it is off and the last time was a minute ago."""
        if self._unwanted_by and time.monotonic() - self._looked_at >= LOOK_EVERY_SECONDS:
            # A look at the older objects would visit all that was built, which is what it was turned off for.
            gc.collect(0)
            self._looked_at = time.monotonic()


COLLECTOR: Final = Collector()
