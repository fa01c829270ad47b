"""Looks at what the log stands on, at the start and every few minutes: where it would lose history, or has, nothing is written.

Brokers let anyone who may change a topic's settings, or delete its records. Compaction and retention eat history while it is
written; a beginning that is gone is missed only by who has no snapshot. Reads go on, since what is in memory is still true.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from muster.wire.error import NotReady

log = logging.getLogger(__name__)
look_every_seconds: Final = 120.0
look_again_seconds: Final = 10.0

Examination = Callable[[], Awaitable[Mapping[int, str]]]
"""Gives, by partition, why nothing may be written there. Raises NotReady when it cannot be told now."""


class LogGuard:
    """Keeps what the examination says, and calls `changed` when that is something else. Nothing is refused before the first."""

    def __init__(self, examine: Examination, changed: Callable[[], None]) -> None:
        self._examine = examine
        self._changed = changed
        self._faults: Mapping[int, str] = {}

    def refused(self, partition: int) -> str | None:
        """Why nothing may be written to the partition; None: it may."""
        return self._faults.get(partition)

    async def run(self) -> None:
        """Look every few minutes, for ever; more often while something is wrong, so that it goes on soon once it is mended."""
        while True:
            await asyncio.sleep(look_again_seconds if self._faults else look_every_seconds)
            await self.look()

    async def look(self) -> None:
        """Look now."""
        try:
            found = await self._examine()
        except NotReady as error:
            # What was known still counts: a broker that is away has neither mended anything nor broken it.
            log.warning("what the log stands on could not be examined: %s", error.detail)
            return
        if found == self._faults:
            return
        for partition in sorted(found.keys() | self._faults.keys()):
            why = found.get(partition)
            if why is None:
                log.info("partition %d is written again", partition, extra={"partition": partition})
            elif why != self._faults.get(partition):
                log.error("nothing is written to partition %d: %s", partition, why, extra={"partition": partition})
        self._faults = found
        self._changed()
