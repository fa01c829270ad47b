"""LMDB's driver: how a data node's store is moved. It is the reference for drivers of other stores.

What a step has done is durable before it is answered. So any step can be repeated, by a later attempt or a new process,
and continues from there. Of the steps that pull a shard only one runs at a time: a later one takes over, and the caller of
the earlier one gets DataUnavailable, to try again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import grpc

from infra.shards.record import ShardRecord
from infra.shards.store import ShardStore
from muster.wire.error import ChecksumMismatch, DataUnavailable
from muster.wire.rpc import node_pb2_grpc
from muster.wire.shards.driver import CopyLimits, Extent, Location, OnProgress, Progress, ShardId, ShardLimits
from workers.node.incoming import Patience, Pull, Seen, complete, consistent, hidden
from workers.node.outgoing import Giving
from workers.node.threads import Threads

patience_seconds: Final = 10.0
verify_tries_max: Final = 5
CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),  # a part holds at least one value, however large the keyspace allows it
    ("grpc.initial_reconnect_backoff_ms", 50),  # a node that has restarted is found again soon
    ("grpc.max_reconnect_backoff_ms", 300),
    ("grpc.min_reconnect_backoff_ms", 1_000),  # despite its name: how long one attempt to connect may take
    ("grpc.keepalive_time_ms", 5_000),  # a host that is lost, or a process that hangs, breaks the call off
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
)

Work = Callable[[], Coroutine[Any, Any, ShardRecord]]


class LmdbDriver:
    """The `ShardDriver` of LMDB. Belongs to the event loop in which its node runs; `close` ends what it follows.

    `admit` makes the node take values of so many bytes, before a shard that allows them serves. A step fails when its source
    cannot be reached for `patience_seconds`; the saga tries it again.
    """

    def __init__(
        self,
        store: ShardStore,
        threads: Threads,
        giving: Giving,
        *,
        admit: Callable[[int], Awaitable[None]],
        patience_seconds: float = patience_seconds,
    ) -> None:
        self._store = store
        self._threads = threads
        self._giving = giving
        self._admit = admit
        self._patience_seconds = patience_seconds
        self._pulls: dict[ShardId, asyncio.Task[ShardRecord]] = {}
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def close(self) -> None:
        """End all pulls, and close the channels to their sources."""
        for shard in list(self._pulls):
            await self._stop(shard)
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))

    # Owner

    async def open(self, shard: ShardId, epoch: int, limits: ShardLimits) -> None:
        """See `ShardOwner.open`."""
        await self._admit(limits.value_bytes_max)
        await self._threads.run(self._store.open, shard, epoch, limits)

    async def fence(self, shard: ShardId, epoch: int) -> Extent:
        """See `ShardOwner.fence`. Writes that came before are in the extent; those that come after are refused."""
        return await self._threads.run(self._store.fence, shard, epoch)

    async def activate(self, shard: ShardId, epoch: int, limits: ShardLimits) -> None:
        """See `ShardOwner.activate`."""
        await self._admit(limits.value_bytes_max)
        # The store before the pull: it is durable before the pull ends, and what the pull still writes is refused by then.
        await self._threads.run(self._store.activate, shard, epoch, limits)
        await self._stop(shard)

    async def retire(self, shard: ShardId, epoch: int, owner: Location) -> None:
        """See `ShardOwner.retire`."""
        await self._threads.run(self._store.retire, shard, epoch, owner)
        await self._stop(shard)
        self._giving.changed(shard)

    async def drop(self, shard: ShardId, epoch: int) -> None:
        """See `ShardOwner.drop`."""
        await self._threads.run(self._store.drop, shard, epoch)
        await self._stop(shard)
        self._giving.changed(shard)

    # Target

    async def prepare(self, shard: ShardId, epoch: int) -> None:
        """See `ShardTarget.prepare`."""
        await self._threads.run(self._store.prepare, shard, epoch)

    async def copy(self, shard: ShardId, source: Location, limits: CopyLimits, on_progress: OnProgress) -> Extent:
        """See `ShardTarget.copy`."""
        record = await self._threads.run(hidden, self._store, shard)
        if not complete(record):
            pull, patience = self._pull(shard, source), self._patience()
            record = await self._alone(shard, lambda: pull.copy(limits, on_progress, patience))
        return record.extent

    async def catch_up(self, shard: ShardId, source: Location, limits: CopyLimits, on_progress: OnProgress) -> Extent:
        """See `ShardTarget.catch_up`. After it has caught up, a source that goes away is waited for without limit."""
        pull, patience = self._pull(shard, source), self._patience()
        caught: asyncio.Future[Extent] = asyncio.get_running_loop().create_future()

        position = -1

        def seen(now: Seen) -> bool:
            nonlocal position
            if not caught.done():
                # The first word of each new try says only what is known already.
                if now.record.position > position:
                    on_progress(Progress(now.record.bytes, None, now.record.records, now.lag_records))
                position = now.record.position
                if now.lag_records <= limits.lag_records_max and consistent(now.record):
                    patience.endless()
                    caught.set_result(now.record.extent)
            return False

        task = await self._begin(shard, lambda: pull.follow(limits, on_progress, patience, seen))
        either: list[asyncio.Future[Any]] = [task, caught]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not caught.done():
                await _end(task)
        return caught.result() if caught.done() else _outcome(shard, task).extent

    async def verify(self, shard: ShardId, source: Location) -> Extent:
        """See `ShardTarget.verify`. Following goes on meanwhile: the copy is read as of one moment."""
        for _ in range(verify_tries_max):
            record = await self._threads.run(hidden, self._store, shard)
            if not consistent(record):
                await self.catch_up(shard, source, CopyLimits(), lambda _: None)
            found = await asyncio.shield(self._threads.start(self._store.recompute, shard))
            expected = await self._pull(shard, source).digest_at(found.position, self._patience())
            if expected is None:  # The source's log was trimmed beyond that position: compare at a later one.
                await self.catch_up(shard, source, CopyLimits(lag_records_max=0), lambda _: None)
                continue
            if found.digest != expected:
                raise ChecksumMismatch(f"the copy of {shard} is not what its source was at change {found.position}")
            return found
        raise DataUnavailable(f"the log of {shard} is trimmed faster than its copy can be read")

    async def drain(self, shard: ShardId, source: Location, final: Extent | None) -> Extent:
        """See `ShardTarget.drain`."""
        record = await self._threads.run(hidden, self._store, shard)
        if final is not None and consistent(record) and record.position == final.position:
            await self._stop(shard)
        else:
            record = await self._drain(shard, source)
        if final is not None and (record.position, record.extent.digest) != (final.position, final.digest):
            raise ChecksumMismatch(
                f"the copy of {shard} ends with change {record.position}, digest {record.extent.digest}; "
                f"its source was fenced at {final.position}, {final.digest}",
                position=record.position,
            )
        return record.extent

    async def _drain(self, shard: ShardId, source: Location) -> ShardRecord:
        last: Seen | None = None

        def seen(now: Seen) -> bool:
            nonlocal last
            last = now
            return now.lag_records == 0

        pull, patience = self._pull(shard, source), self._patience()
        record = await self._alone(shard, lambda: pull.follow(CopyLimits(), lambda _: None, patience, seen))
        assert last is not None, "a follower has ended without having seen anything"
        if not last.fenced:
            raise DataUnavailable(f"{shard} is not fenced at {source.address}: it has no end yet")
        if last.digest != record.extent.digest:
            raise ChecksumMismatch(f"the copy of {shard} is not what its source is at change {record.position}")
        return record

    # Within

    def _patience(self) -> Patience:
        return Patience(self._patience_seconds)

    def _pull(self, shard: ShardId, source: Location) -> Pull:
        channel = self._channels.get(source.address)
        if channel is None:
            channel = grpc.aio.insecure_channel(source.address, options=CHANNEL_OPTIONS)
            self._channels[source.address] = channel
        stub = node_pb2_grpc.ShardNodeStub(channel)  # type: ignore[no-untyped-call]
        return Pull(self._store, self._threads, shard, source, stub)

    async def _begin(self, shard: ShardId, work: Work) -> "asyncio.Task[ShardRecord]":
        """Run it in a task of its own, after what pulls the shard now has ended."""
        await self._stop(shard)
        task = self._pulls[shard] = asyncio.create_task(work())
        task.add_done_callback(self._ended(shard))
        return task

    async def _alone(self, shard: ShardId, work: Work) -> ShardRecord:
        """Run it and return its result. When this call is cancelled, the work ends too."""
        task = await self._begin(shard, work)
        try:
            await asyncio.wait([task])
        finally:
            await _end(task)
        return _outcome(shard, task)

    async def _stop(self, shard: ShardId) -> None:
        while (task := self._pulls.pop(shard, None)) is not None:
            await _end(task)

    def _ended(self, shard: ShardId) -> Callable[["asyncio.Task[ShardRecord]"], None]:
        def forget(task: "asyncio.Task[ShardRecord]") -> None:
            if self._pulls.get(shard) is task:
                del self._pulls[shard]
            if not task.cancelled():
                task.exception()

        return forget


async def _end(task: "asyncio.Task[ShardRecord]") -> None:
    task.cancel()
    if not task.done():
        await asyncio.wait([task])


def _outcome(shard: ShardId, task: "asyncio.Task[ShardRecord]") -> ShardRecord:
    if task.cancelled():
        raise DataUnavailable(f"a later step for {shard} took over")
    return task.result()
