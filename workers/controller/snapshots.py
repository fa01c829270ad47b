"""Snapshots of a controller's partitions: taken when due, and once more when the controller stops."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Final

from muster.wire.error import Transient
from workers.views.snapshotter import Snapshotter
from workers.writer.writer import Writer

_LOG: Final = logging.getLogger("muster.controller")
snapshot_look_seconds: Final = 5.0


async def keep_snapshots(writers: Mapping[int, Writer], snapshotters: Mapping[int, Snapshotter]) -> None:
    """Take a snapshot of each partition whenever one is due, for ever. A failure is logged and tried again."""
    while True:
        await asyncio.sleep(snapshot_look_seconds)
        # Nothing is answered before the last partition is read: a snapshot of the first ones would only delay that.
        recovered = all(writer.recovered.is_set() for writer in writers.values())
        for snapshotter in snapshotters.values():
            try:
                await snapshotter.take_if_due(recovered=recovered)
            except Transient as error:
                _LOG.warning("no snapshot was taken", extra={"reason": error.detail})


async def take_last_snapshots(writers: Mapping[int, Writer], snapshotters: Mapping[int, Snapshotter]) -> None:
    """Take a snapshot of each partition whose writer has stopped cleanly, so that the next start is fast."""
    for number, snapshotter in snapshotters.items():
        # A writer that is corrupt, or was cut off at the end of its time, may hold more than its log does.
        if writers[number].state == "stopped":
            with contextlib.suppress(Transient):  # The next start reads more of the log; nothing else is lost.
                await snapshotter.take()
