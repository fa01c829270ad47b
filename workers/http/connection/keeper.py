"""What all connections share: how many there may be, who looks after those that stand still, and what is told of it.

Once a second all connections are looked at. A timer for each request would cost every request; this costs those that stand
still, and a deadline is noticed at most a second late.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

from infra.limits import ClientLimits, files_free

LOG: Final = logging.getLogger("muster.http")
look_seconds: Final = 1.0
log_seconds: Final = 10.0


class Watched(Protocol):
    """A connection, as the keeper sees it."""

    def look(self, now: float) -> None:
        """End it if it has stood still for too long. `now` is the event loop's time."""


class Keeper:
    """The keeper of a controller's connections. `refused` counts by the name of the limit."""

    def __init__(self, limits: ClientLimits | None = None, *, files: Callable[[], int] = files_free) -> None:
        self.limits = limits or ClientLimits()
        self.connections_max = min(self.limits.connections_max, files())
        self.refused: dict[str, int] = {}
        self._open: set[Watched] = set()
        self._told: dict[str, tuple[float, int]] = {}
        self._looking: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Watched) -> bool:
        """Take the connection in; False: there are as many as there may be."""
        if len(self._open) >= self.connections_max:
            self.note("connections_max", self.connections_max)
            return False
        self._open.add(connection)
        # Begun by the first connection and ended behind the last: where the keeper is made there may be no event loop.
        if self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(look_seconds, self._look)
        return True

    def leave(self, connection: Watched) -> None:
        """The connection is gone."""
        self._open.discard(connection)

    def note(self, limit: str, value: float) -> None:
        """Count what was refused by this limit, and log it: at most once in `log_seconds`, with how many there were."""
        self.refused[limit] = count = self.refused.get(limit, 0) + 1
        now = asyncio.get_running_loop().time()
        at, before = self._told.get(limit, (now - log_seconds, 0))
        if now - at >= log_seconds:
            self._told[limit] = (now, count)
            facts = {"limit": limit, "value": value, "refused": count - before, "connections": len(self._open)}
            LOG.warning("clients went over a limit", extra=facts)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        # A list, because whoever is ended leaves.
        for connection in list(self._open):
            connection.look(now)
        self._looking = loop.call_later(look_seconds, self._look) if self._open else None
