"""The time of day, held against a clock that nobody sets: a jump is told, and not followed at once.

Instants in the log never run backwards. So an event that is stamped ten years ahead stamps all that follow it, for ten years, and
no correction of the clock mends that; one that is stamped behind does no harm. Why ten minutes: docs/decisions/0026.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from muster.clock import elapsed_seconds

_LOG: Final = logging.getLogger("muster.clock")

jump_seconds_min: Final = 60.0
"""A difference between two readings that is larger than this is a jump; smaller ones are NTP's, and are followed."""

trust_seconds: Final = 600.0
"""How long a clock has to stand by what it says behind a jump until it is believed."""


def _system() -> datetime:
    return datetime.now(UTC)


class SteadyClock:
    """Gives instants for events. `jumps` counts the jumps so far, `last_jump_seconds` is the newest one."""

    def __init__(
        self, system: Callable[[], datetime] = _system, unset_seconds: Callable[[], float] = elapsed_seconds
    ) -> None:
        self._system, self._unset = system, unset_seconds
        # What the system's clock said at a reading, as long as it was believed; in between the other clock counts on.
        self._at, self._read_at = system(), unset_seconds()
        self._offset, self._since = 0.0, 0.0
        self.jumps = 0
        self.last_jump_seconds = 0.0

    def now(self) -> datetime:
        """The instant now. Behind a jump it goes on as before, until the new time has held for `trust_seconds`."""
        said, read_at = self._system(), self._unset()
        expected = self._at + timedelta(seconds=read_at - self._read_at)
        offset = (said - expected).total_seconds()
        if abs(offset) <= jump_seconds_min:
            self._believe(said, read_at)
            return said
        if abs(offset - self._offset) > jump_seconds_min:
            self._jumped(offset, read_at)
        self._offset = offset
        if read_at - self._since < trust_seconds:
            return expected
        _LOG.warning("the clock is believed again", extra={"offset_seconds": round(offset, 1)})
        self._believe(said, read_at)
        return said

    @property
    def held_back_seconds(self) -> float:
        """How far the system's clock is ahead of the instants that are given (negative: behind them); 0: they are the same."""
        return round(self._offset, 1)

    def _believe(self, said: datetime, read_at: float) -> None:
        self._at, self._read_at, self._offset = said, read_at, 0.0

    def _jumped(self, offset: float, read_at: float) -> None:
        self.jumps += 1
        self.last_jump_seconds, self._since = round(offset - self._offset, 1), read_at
        facts = {"seconds": self.last_jump_seconds, "followed_in_seconds": trust_seconds}
        _LOG.warning("the clock of this machine has jumped: events go on by the one that nobody sets", extra=facts)
