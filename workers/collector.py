"""The garbage collector, off while a lot is made that stays: by a recovery, by a projector that catches up.

It would look at all of it again and again, and find nothing: a tenth of such a projector's time, in pauses of 20 ms. Others
make garbage meanwhile, so who keeps it off for long lets it look `now_and_then`.
"""

import gc
import time
from typing import Final

LOOK_EVERY_SECONDS: Final = 60.0


class Collector:
    """The collector of this process: off as long as anyone wants it off."""

    def __init__(self) -> None:
        self._unwanted_by: set[object] = set()
        self._looked_at = 0.0

    def off(self, by: object) -> None:
        """Keep it off until the same one lets it `on`."""
        if not self._unwanted_by:
            self._looked_at = time.monotonic()
        self._unwanted_by.add(by)
        gc.disable()

    def on(self, by: object) -> None:
        """Let it run, unless others want it off; repeated it changes nothing."""
        self._unwanted_by.discard(by)
        if not self._unwanted_by:
            gc.enable()

    def now_and_then(self) -> None:
        """Look at what was made since the last time, if it is off and that was a minute ago."""
        if self._unwanted_by and time.monotonic() - self._looked_at >= LOOK_EVERY_SECONDS:
            gc.collect(0)
            self._looked_at = time.monotonic()


COLLECTOR: Final = Collector()
