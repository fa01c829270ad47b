"""Reads a partition's log into its state and its views: to the end at a start, and on while another controller writes."""

import asyncio
from typing import Final

from infra.log.port import START, EventLog
from workers.machine.partition import Partition
from workers.views.views import Views

shown_records_max: Final = 16_384


class LogFollower:
    """Folds what the log holds, batch by batch. Only one of its two methods may run at a time."""

    def __init__(self, log: EventLog, partition: Partition, views: Views) -> None:
        self._log = log
        self._partition = partition
        self._views = views
        self._number = partition.number

    async def read_to_end(self) -> None:
        """Return when all that the log held at the beginning of the call is folded.

        A partition that is read from its beginning is skimmed first: nobody can read the views yet. The newest records
        are applied one by one, so that watches can be resumed from them; all partitions together keep that many.
        """
        shown_max = shown_records_max // len(self._views.cursors)
        skims = self._partition.cursor == START
        try:
            async for batch in self._log.read(self._partition.cursor):
                if skims and batch.left <= shown_max:
                    skims = False
                    self._views.complete(self._number, self._partition.streams)
                take = self._views.skim if skims else self._views.apply
                take(self._number, self._partition.fold(batch), batch.cursor, batch.voids, batch.began)
                await asyncio.sleep(0)  # Folding is all computation: HTTP and the other partitions get their turn here.
        finally:
            # Also after a failure: the state has moved on, and the views must show the same position.
            self._views.complete(self._number, self._partition.streams)
        self._views.confirm(self._number)

    async def follow(self) -> None:
        """Fold what another controller writes, as it comes, until cancelled."""
        async for batch in self._log.tail(self._partition.cursor):
            if batch.cursor != self._partition.cursor:
                folded = self._partition.fold(batch)
                self._views.apply(self._number, folded, batch.cursor, batch.voids, batch.began)
            # Also without news: the writer's beats prove that the views are current.
            self._views.confirm(self._number)
