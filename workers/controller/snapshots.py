"""Snapshots of a controller's partitions: taken when due, and once more when the controller stops."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Mapping
from typing import Final

from muster.wire.error import Transient
from workers.views.snapshotter import Snapshotter
from workers.writer.writer import Writer

_LOG: Final = logging.getLogger("muster.controller")
snapshot_look_seconds: Final = 5.0
retry_seconds: Final = 60.0
"""After a failure: to encode a large partition takes seconds, and a full disk stays full for hours."""


async def keep_snapshots(writers: Mapping[int, Writer], snapshotters: Mapping[int, Snapshotter]) -> None:
    """Take a snapshot of each partition whenever one is due, for ever. A failure is logged and tried again."""
    again: dict[int, float] = {}
    while True:
        await asyncio.sleep(snapshot_look_seconds)
        # Nothing is answered before the last partition is read: a snapshot of the first ones would only delay that.
        recovered = all(writer.recovered.is_set() for writer in writers.values())
        for number, snapshotter in snapshotters.items():
            if again.get(number, 0.0) > time.monotonic():
                continue
            if not await _tried(snapshotter.take_if_due(recovered=recovered), snapshotter):
                again[number] = time.monotonic() + retry_seconds


async def take_last_snapshots(writers: Mapping[int, Writer], snapshotters: Mapping[int, Snapshotter]) -> None:
    """Take a snapshot of each partition whose writer has stopped cleanly, so that the next start is fast."""
    for number, snapshotter in snapshotters.items():
        # A writer that is corrupt, or was cut off at the end of its time, may hold more than its log does.
        if writers[number].state == "stopped":
            await _tried(snapshotter.take(), snapshotter)


async def restore_snapshots(snapshotters: Mapping[int, Snapshotter]) -> None:
    """Bring each partition to its newest snapshot. One that cannot be read is passed over: its whole log is read."""
    await asyncio.gather(*(_tried(snapshotter.restore(), snapshotter) for snapshotter in snapshotters.values()))


async def _tried(work: Awaitable[object], snapshotter: Snapshotter) -> bool:
    """Whether it went well. Without a snapshot a start reads more of the log; nothing is lost, so a failure ends nothing."""
    try:
        await work
    except Transient as error:
        snapshotter.failures += 1
        _LOG.warning("a snapshot failed", extra={"reason": error.detail})
        return False
    return True
