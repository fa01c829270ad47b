"""A shard on its way to this node: the source's snapshot and changes, received and installed.

Chunks that arrive during a write are installed in the next one, as one batch; so a copy is as fast as the slower of network
and disk. Each transaction also moves the durable checkpoint, from which a copy continues when its source comes back.

Progress is what grew here, or waits for its turn in a throttle; nothing else is. A copy that fails at the same place again and
again receives its first message each time, and would never be given up.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

import grpc

from infra.shards.record import LoggedChange, ShardRecord
from infra.shards.store import ShardStore
from muster.wire.backoff import pause_seconds
from muster.wire.error import LogTrimmed, ReadFailed, ShardNotFound, StaleEpoch, Transient, WriteFailed
from muster.wire.rpc import node_pb2, node_pb2_grpc
from muster.wire.rpc.problem import error_of
from muster.wire.shards.driver import CopyLimits, Location, OnProgress, Progress, ShardId
from workers.node.outgoing import part_bytes_max
from workers.node.prefetch import gathered
from workers.node.threads import Threads
from workers.node.throttle import Throttle

ahead_bytes_max: Final = 4 << 20
pause_seconds_min: Final = 0.05
pause_seconds_max: Final = 1.0


@dataclass(slots=True)
class Patience:
    """How long a copy may stand still: `seconds` since it grew, waited in a throttle, or had all that its source has.

    `most`: the records, bytes and changes that it had at most.
    """

    seconds: float
    heard_at: float = field(default_factory=time.monotonic)
    tries: int = 0
    most: tuple[int, int, int] | None = None

    def heard(self) -> None:
        """It goes on."""
        self.heard_at, self.tries = time.monotonic(), 0

    def grew(self, record: ShardRecord) -> bool:
        """Whether the copy has more than it ever had. The first time it is only noted: that was here before."""
        now = record.records, record.bytes, record.position
        most, self.most = self.most, now
        if most is None:
            return False
        self.most = max(most[0], now[0]), max(most[1], now[1]), max(most[2], now[2])
        if self.most == most:
            return False
        self.heard()
        return True

    async def wait(self, error: Transient) -> None:
        """Pause before the next try, longer each time. Raises the error when the source has been silent for too long."""
        pause = pause_seconds(self.tries, pause_seconds_min, pause_seconds_max)
        if time.monotonic() - self.heard_at + pause > self.seconds:
            raise error
        await asyncio.sleep(pause)
        self.tries += 1

    def endless(self) -> None:
        """Wait for ever from now on: no caller waits any more."""
        self.seconds = inf


@dataclass(frozen=True)
class Seen:
    """How far a follower has come: its record, the source's newest position and digest, and whether it is fenced there."""

    record: ShardRecord
    head: int
    digest: str
    fenced: bool

    @property
    def lag_records(self) -> int:
        """How many changes of the source are still missing here."""
        return self.head - self.record.position


@dataclass(frozen=True)
class Pull:
    """Brings `shard` from `source` into the store's hidden copy. For each shard, only one may run at a time."""

    store: ShardStore
    threads: Threads
    shard: ShardId
    source: Location
    stub: node_pb2_grpc.ShardNodeStub

    async def copy(self, limits: CopyLimits, on_progress: OnProgress, patience: Patience) -> ShardRecord:
        """Return when the snapshot is installed to its end."""
        throttle = Throttle(limits.bytes_per_second)
        while not complete(record := await self.threads.run(hidden, self.store, self.shard)):
            patience.grew(record)
            try:
                await self._snapshot(record, throttle, on_progress, patience)
            except LogTrimmed:
                # The changes since the checkpoint are gone at the source: only a new snapshot can be completed.
                await self.threads.run(self.store.restart, self.shard, record.copy)
                patience.most = None
            except WriteFailed:
                raise  # Our own disk: no source mends it. The saga counts the attempt, and says why.
            except Transient as error:
                await patience.wait(error)
        patience.grew(record)
        return record

    async def follow(
        self, limits: CopyLimits, on_progress: OnProgress, patience: Patience, seen: Callable[[Seen], bool]
    ) -> ShardRecord:
        """Apply the source's changes until `seen`, which is called after each step, returns True."""
        while True:
            record = await self.copy(limits, on_progress, patience)
            try:
                return await self._tail(record, patience, seen)
            except LogTrimmed:
                await self.threads.run(self.store.restart, self.shard, record.copy)
                patience.most = None
            except WriteFailed:
                raise
            except Transient as error:
                await patience.wait(error)

    async def digest_at(self, position: int, patience: Patience) -> str | None:
        """The source's digest after change number `position`; None when its log does not reach back that far."""
        while True:
            try:
                return await self._digest_at(position)
            except Transient as error:
                await patience.wait(error)

    async def _digest_at(self, position: int) -> str | None:
        try:
            found = await self._first_changes(max(position - 1, 0))
        except LogTrimmed:
            found = await self._first_changes(position)
        if found.head == position:
            return found.digest
        return next((change.digest for change in found.changes if change.position == position), None)

    async def _snapshot(
        self, record: ShardRecord, throttle: Throttle, on_progress: OnProgress, patience: Patience
    ) -> None:
        checkpoint = record.checkpoint
        request = node_pb2.SnapshotRequest(
            shard=_shard(self.shard),
            after=checkpoint.last_key if checkpoint else "",
            first=checkpoint.first if checkpoint else None,
            part_bytes=throttle.part_bytes(part_bytes_max),
        )
        position = size = 0

        async def waits() -> None:
            patience.heard()
            on_progress(Progress(record.bytes, size or None, record.records))

        async with (
            self._calling(self.stub.Snapshot(request)) as parts,
            aclosing(gathered(parts, throttle, ahead_bytes_max, waits)) as lists,
        ):
            async for some in lists:
                if not any(part.ByteSize() for part in some):
                    await waits()  # In the throttle of the source.
                    continue
                if some[0].digest:
                    position, size = some[0].position, some[0].bytes
                record = await self.threads.run(_install, self.store, self.shard, record.copy, position, some)
                if patience.grew(record):
                    on_progress(Progress(record.bytes, size, record.records))
        # In a transaction of its own, after all others: a crash before it only asks for the snapshot's end again.
        await self.threads.run(self.store.install, self.shard, record.copy, position=position, done=True)

    async def _tail(self, record: ShardRecord, patience: Patience, seen: Callable[[Seen], bool]) -> ShardRecord:
        request = node_pb2.TailRequest(shard=_shard(self.shard), after=record.position)
        async with (
            self._calling(self.stub.Tail(request)) as messages,
            aclosing(gathered(messages, Throttle(None), ahead_bytes_max)) as lists,
        ):
            async for some in lists:
                if any(message.changes for message in some):
                    record = await self.threads.run(_replay, self.store, self.shard, record.copy, some)
                last = some[-1]
                if not patience.grew(record) and last.head == record.position:
                    patience.heard()
                if seen(Seen(record, last.head, last.digest, last.fenced)):
                    return record
        raise ReadFailed(f"{self.source.address} has ended the tail of {self.shard}")

    async def _first_changes(self, after: int) -> node_pb2.Changes:
        request = node_pb2.TailRequest(shard=_shard(self.shard), after=after)
        async with self._calling(self.stub.Tail(request)) as messages:
            message: node_pb2.Changes
            async for message in messages:
                return message
        raise ReadFailed(f"{self.source.address} has ended the tail of {self.shard}")

    @asynccontextmanager
    async def _calling(self, call: Any) -> AsyncIterator[Any]:
        """The messages of a call that is cancelled at the end of the block; its failures are raised as our errors."""
        try:
            yield call
        except grpc.aio.AioRpcError as failed:
            raise error_of(failed, self.source.address) from failed
        finally:
            call.cancel()


def hidden(store: ShardStore, shard: ShardId) -> ShardRecord:
    """The record of the hidden copy. Raises ShardNotFound, and StaleEpoch when the copy here is not hidden."""
    record = store.record(shard)
    if record is None or not record.copy:
        raise ShardNotFound(f"no copy of {shard} was prepared here")
    if record.state != "hidden":
        raise StaleEpoch(f"{shard} is {record.state} here: nothing is copied into it", epoch=record.epoch)
    return record


def complete(record: ShardRecord) -> bool:
    """Whether the whole snapshot is here."""
    return record.checkpoint is not None and record.checkpoint.done


def consistent(record: ShardRecord) -> bool:
    """Whether the copy equals the source at one position: not so while it mixes two snapshots, until changes catch up."""
    return record.checkpoint is not None and record.checkpoint.done and record.position >= record.checkpoint.newest


def _install(
    store: ShardStore, shard: ShardId, copy: int, position: int, parts: Sequence[node_pb2.SnapshotPart]
) -> ShardRecord:
    return store.install(
        shard,
        copy,
        position=position,
        write_ids=[(one.id, one.position) for part in parts for one in part.write_ids],
        pairs=[(pair.key, pair.value) for part in parts for pair in part.pairs],
    )


def _replay(store: ShardStore, shard: ShardId, copy: int, messages: Sequence[node_pb2.Changes]) -> ShardRecord:
    changes = [
        LoggedChange(
            change.position,
            change.key,
            change.value if change.HasField("value") else None,
            change.write_id,
            int(change.digest, 16),
        )
        for message in messages
        for change in message.changes
    ]
    return store.replay(shard, copy, changes)


def _shard(shard: ShardId) -> node_pb2.Shard:
    return node_pb2.Shard(keyspace=shard.keyspace, number=shard.shard)
