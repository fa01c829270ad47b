"""Which instances there are: a partition of the log is followed, from the controllers' newest snapshot on.

The log alone says it, and in its own order. A controller's view could be late, and a worker that asks one would need it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from domain.telemetry.partition import BeatsPartition
from infra.log.codec import CloudEventMapper
from infra.log.engine import PartitionLog
from infra.log.port import START, Cursor
from infra.log.snapshot import SnapshotStore
from muster.wire.error import CursorRefused, NotReady
from workers.views.snapshotter import instances_in
from workers.views.stored_state import revision

_LOG: Final = logging.getLogger("muster.telemetry")
_AGAIN_SECONDS: Final = 1.0


async def follow(
    log: PartitionLog, snapshots: SnapshotStore, begin: Callable[[], BeatsPartition], caught_up: Callable[[], None]
) -> None:
    """Follow the partition of the log for ever. `begin` gives the state that is to learn, a new one each time that the log is
    read anew; `caught_up` is called when its end was reached. Raises Corrupt where the log is damaged.
    """
    refused = False
    while True:
        state = begin()
        try:
            # A snapshot of another log was refused with it: then the log itself is read, from its first record.
            cursor = START if refused else await _restored(log, snapshots, state)
            await _followed(log, cursor, state, caught_up)
        except CursorRefused as error:
            _LOG.warning("partition %d is read anew: %s", log.partition, error.detail)
            refused = True
        except NotReady as error:
            _LOG.warning("partition %d cannot be read yet: %s", log.partition, error.detail)
        await asyncio.sleep(_AGAIN_SECONDS)


async def _followed(log: PartitionLog, cursor: Cursor, state: BeatsPartition, caught_up: Callable[[], None]) -> None:
    mapper = CloudEventMapper()
    async for batch in log.tail(cursor):
        for recorded in mapper.events(log.partition, batch):
            state.learn(recorded)
        # Nothing follows it now; said about once a second, and for the first time when the end is reached.
        if not batch.records and batch.cursor == cursor:
            caught_up()
        cursor = batch.cursor


async def _restored(log: PartitionLog, snapshots: SnapshotStore, state: BeatsPartition) -> Cursor:
    snapshot = await snapshots.load(log.partition)
    # One that other code has made cannot be read here; the log can.
    if snapshot is None or snapshot.revision != revision():
        return START
    state.restore(instances_in(snapshot))
    return snapshot.cursor
