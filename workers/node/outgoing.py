"""A shard on its way to another node: a snapshot of one moment, and the changes after it.

Log entries that a reader still needs are pinned while it reads, and for a while after, so that a reader whose connection
broke, or whose process was restarted, finds its place again.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from infra.shards.record import LoggedChanges, digest_hex
from infra.shards.snapshot import ShardReading
from infra.shards.store import ShardStore
from muster.wire.error import DataUnavailable, LogTrimmed
from muster.wire.rpc import node_pb2
from muster.wire.shards.driver import ShardId
from workers.node.threads import Threads, ended
from workers.node.throttle import Throttle

part_bytes_max: Final = 512 << 10
heartbeat_seconds: Final = 1.0
gather_seconds: Final = 0.002
pin_linger_seconds: Final = 60.0


class Giving:
    """Serves snapshots and tails of the store's shards; all snapshots together at up to `bytes_per_second`.

    `sent_bytes` counts all that has been sent since the start.
    """

    def __init__(self, store: ShardStore, threads: Threads, bytes_per_second: float | None) -> None:
        self._store = store
        self._threads = threads
        self._throttle = Throttle(bytes_per_second)
        self._waiting: dict[ShardId, set[asyncio.Event]] = {}
        self._closing = False
        self.sent_bytes = 0

    def close(self) -> None:
        """End all snapshots and tails; their readers ask again when the node is back."""
        self._closing = True
        for shard in self._waiting:
            self.changed(shard)

    def changed(self, shard: ShardId) -> None:
        """Wake the tails of the shard: something has happened to it."""
        for event in self._waiting.get(shard, ()):
            event.set()

    async def snapshot(self, request: node_pb2.SnapshotRequest, context: Any) -> None:
        """Write the shard's snapshot to the call in parts, beginning after the requested key."""
        shard = ShardId(request.shard.keyspace, request.shard.number)
        with self._store.snapshot(shard, epoch=request.epoch) as snapshot:
            position = snapshot.extent.position
            first = request.first if request.HasField("first") else position
            with self._pinned(shard, first) as pin:
                await self._check_log(shard, pin.after)
                size_max = self._throttle.part_bytes(min(request.part_bytes or part_bytes_max, part_bytes_max))
                parts = _parts(snapshot, request.after, size_max)
                # The next part is read from the disk while this one is sent.
                coming = self._threads.start(next, parts, None)
                try:
                    while (part := await asyncio.shield(coming)) is not None:
                        coming = self._threads.start(next, parts, None)
                        size = part.ByteSize()
                        # Without a word for so long the reader would give up: an empty part says that there is more to come.
                        await self._throttle.take(size, lambda: self._send(node_pb2.SnapshotPart(), 0, context))
                        await self._send(part, size, context)
                finally:
                    # The snapshot must not be closed while a thread still reads from it.
                    await ended(coming)

    async def _send(self, message: node_pb2.SnapshotPart | node_pb2.Changes, size: int, context: Any) -> None:
        if self._closing:
            raise DataUnavailable("the node is stopping")
        self.sent_bytes += size
        await context.write(message)

    async def _check_log(self, shard: ShardId, first: int) -> None:
        """Raise LogTrimmed now, before any pairs are sent: the reader could not go on after them."""
        record = await self._threads.run(self._store.record, shard)
        if record is not None and record.log_first > first + 1:
            raise LogTrimmed(f"the log of {shard} begins at {record.log_first}", after=first, first=record.log_first)

    async def tail(self, request: node_pb2.TailRequest, context: Any) -> None:
        """Write the shard's changes to the call as they come, and at least one message each second."""
        shard = ShardId(request.shard.keyspace, request.shard.number)
        moved = asyncio.Event()
        self._waiting.setdefault(shard, set()).add(moved)
        try:
            with self._pinned(shard, request.after) as pin:
                while True:
                    # Cleared before the read: a change that comes during it sets the event again, and is not missed.
                    moved.clear()
                    found = await self._threads.run(
                        self._store.changes, shard, pin.after, epoch=request.epoch, bytes_max=part_bytes_max
                    )
                    message = _message(found)
                    await self._send(message, message.ByteSize(), context)
                    if found.changes:
                        pin.after = found.changes[-1].position
                    if pin.after == found.head:
                        await _soon(moved)
        finally:
            self._waiting[shard].discard(moved)
            if not self._waiting[shard]:
                del self._waiting[shard]

    @contextmanager
    def _pinned(self, shard: ShardId, after: int) -> Iterator[Any]:
        pin = self._store.pin(shard, after)
        try:
            yield pin
        finally:
            asyncio.get_running_loop().call_later(pin_linger_seconds, self._store.unpin, pin)


async def _soon(moved: asyncio.Event) -> None:
    """Wait for news, and a little longer for more of them; without news, as long as a heartbeat."""
    try:
        async with asyncio.timeout(heartbeat_seconds):
            await moved.wait()
        await asyncio.sleep(gather_seconds)
    except TimeoutError:
        pass


def _parts(snapshot: ShardReading, after: str, bytes_max: int) -> Iterator[node_pb2.SnapshotPart]:
    extent = snapshot.extent
    yield node_pb2.SnapshotPart(
        position=extent.position, digest=extent.digest, records=extent.records, bytes=extent.bytes
    )
    if not after:
        for ids in snapshot.write_ids():
            part = node_pb2.SnapshotPart()
            for write_id, position in ids:
                part.write_ids.add(id=write_id, position=position)
            yield part
    for pairs in snapshot.pairs(after, bytes_max):
        part = node_pb2.SnapshotPart()
        for key, value in pairs:
            part.pairs.add(key=key, value=value)
        yield part


def _message(found: LoggedChanges) -> node_pb2.Changes:
    message = node_pb2.Changes(head=found.head, fenced=found.fenced, digest=digest_hex(found.digest))
    for position, key, value, write_id, digest in found.changes:
        message.changes.add(position=position, key=key, value=value, write_id=write_id, digest=digest_hex(digest))
    return message
