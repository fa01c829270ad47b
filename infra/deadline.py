"""A bound for the end of the process: whoever has been asked to stop is gone in time, whatever it waits for.

Libraries that wait for servers which are away may take longer to stop than an orchestrator waits before it kills.
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LOG: Final = logging.getLogger("muster.process")
stop_seconds_max: Final = 4.5
"""Docker kills after 10 s, Kubernetes after 30; half a second is for the interpreter and a machine that is busy."""


class EndOfProcess:
    """`begin` starts the time; when it is over, and the block has not ended, the process ends all the same, with code 0."""

    def __init__(self, seconds: float = stop_seconds_max) -> None:
        self._timer = threading.Timer(seconds, _end)
        self._timer.daemon = True
        self._seconds = seconds

    def begin(self) -> None:
        """The process has been asked to stop."""
        if not self._timer.is_alive():
            self._timer.start()

    def reached(self) -> None:
        """All has been stopped in order."""
        self._timer.cancel()


@contextmanager
def ended_in_time(seconds: float = stop_seconds_max) -> Iterator[EndOfProcess]:
    """Bounds what the block takes behind `begin`."""
    end = EndOfProcess(seconds)
    try:
        yield end
    finally:
        end.reached()


def _end() -> None:
    # A thread, since the event loop itself may be what does not get on. What was acknowledged is in the log, and local servers
    # end with their parent: so to end here loses what a crash would lose, which is nothing but time at the next start.
    _LOG.warning("the process ends with work left undone: what it waited for did not answer in time")
    logging.shutdown()
    os._exit(0)
