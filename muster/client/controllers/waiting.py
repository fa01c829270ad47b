"""What is said of a controller that is waited for: after a second that it is, and where; then each kind of trouble once."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from muster.wire.error import Transient

quiet_seconds_max: Final = 1.0
"""So long a controller may be waited for without a word: who has started by hand looks at the screen by then."""


class ControllerWait:
    """Tells `log` of waiting for a controller at one of `urls`, and why it matters: `what`, as in "n1 cannot join yet"."""

    def __init__(self, log: logging.Logger, what: str, urls: Callable[[], Sequence[str]]) -> None:
        self._log, self._what, self._urls = log, what, urls
        self._told: set[str] = set()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """While this runs, a controller is asked. A Transient goes on to the caller, who is to ask again."""
        timer = asyncio.get_running_loop().call_later(quiet_seconds_max, self._waits)
        try:
            yield
        except Transient as error:
            # By its name: where several controllers are away, the details differ from time to time.
            if self._is_new(error.name):
                self._log.warning("%s: %s", self._what, error.detail)
            raise
        finally:
            timer.cancel()
        if self._told:
            self._log.info("the controller at %s answers", self._urls()[0])
            self._told.clear()

    def _waits(self) -> None:
        if self._is_new("waits"):
            self._log.info(
                "%s: it waits for an answer from the controller at %s", self._what, " or ".join(self._urls())
            )

    def _is_new(self, what: str) -> bool:
        new = what not in self._told
        self._told.add(what)
        return new
