"""No floods in the log: of each kind of line at most one a second is written, and the next one says how many were not.

A broker that is away makes a client's library complain dozens of times a second, as long as it lasts. A kind is what stands in
the code: the logger, the level and the text without what is filled in.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

line_seconds_min: Final = 1.0
kinds_max: Final = 1_000
"""How many kinds are remembered; of a program there are fewer, unless texts are put together before they are logged."""


class FloodFilter(logging.Filter):
    """Lets warnings and errors through at that pace; everything below is ours, and comes seldom."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._kinds: OrderedDict[tuple[str, int, str], tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`."""
        if record.levelno < logging.WARNING:
            return True
        # Text that holds numbers (offsets, ports, correlation ids) is another one each time, and the same kind.
        kind = record.name, record.levelno, _plain(str(record.msg))
        now = self._monotonic()
        written_at, hidden = self._kinds.get(kind, (-line_seconds_min, 0))
        if now - written_at < line_seconds_min:
            self._kinds[kind] = written_at, hidden + 1
            return False
        self._kinds[kind] = now, 0
        self._kinds.move_to_end(kind)
        while len(self._kinds) > kinds_max:
            self._kinds.popitem(last=False)
        if hidden:
            record.more_like_it = hidden
        return True


def _plain(text: str) -> str:
    return "".join("0" if char.isdecimal() else char for char in text)
