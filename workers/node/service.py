"""The gRPC service of a data node: clients' reads and writes, and copies for other nodes; `muster/wire/rpc/node.proto`."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from functools import wraps
from typing import Any, Final, TypeVar

from infra.shards.commits import Commits, queue_bytes_max, queue_writes_max
from infra.shards.record import ShardWrite, StoredWrite
from infra.shards.store import ShardStore
from muster.clock import elapsed_seconds
from muster.wire.error import DataUnavailable, InvalidCommand, MusterError, ShardNotFound, TooLarge
from muster.wire.rpc import node_pb2, node_pb2_grpc
from muster.wire.rpc.problem import problem, refuse
from muster.wire.shards.driver import ShardId
from workers.node.outgoing import Giving, part_bytes_max
from workers.node.threads import Threads
from workers.node.traffic import ShardTraffic

operations_max: Final = 10_000
short_value_bytes: Final = queue_bytes_max // queue_writes_max
"""Values up to here fill the queue of writes by their number before they do so by their bytes, as small ones do."""
T = TypeVar("T")


def _refusing(method: Callable[..., Awaitable[T]]) -> Callable[..., Coroutine[Any, Any, T]]:
    """End the call with the status and the problem of an error of ours."""

    @wraps(method)
    async def answered(self: Any, request: Any, context: Any) -> T:
        try:
            return await method(self, request, context)
        except MusterError as error:
            await refuse(context, error)

    return answered


class NodeService(node_pb2_grpc.ShardNodeServicer):
    """Serves the store's shards. From the instant `serve_until()` on (muster.clock.elapsed_seconds()), reads and writes are
    refused (DataUnavailable). Copies for other nodes need no lease.
    """

    def __init__(
        self,
        store: ShardStore,
        commits: Commits,
        threads: Threads,
        giving: Giving,
        serve_until: Callable[[], float],
        traffic: ShardTraffic,
    ) -> None:
        self._store = store
        self._traffic = traffic
        self._commits = commits
        self._threads = threads
        self._giving = giving
        self._serve_until = serve_until

    @_refusing
    async def Put(self, request: node_pb2.PutRequest, context: Any) -> node_pb2.Written:  # noqa: N802
        """Set a key; answered when it is durable."""
        return await self._write(_put(request))

    @_refusing
    async def Delete(self, request: node_pb2.DeleteRequest, context: Any) -> node_pb2.Written:  # noqa: N802
        """Delete a key; answered when it is durable."""
        return await self._write(_delete(request))

    @_refusing
    async def Get(self, request: node_pb2.GetRequest, context: Any) -> node_pb2.Found:  # noqa: N802
        """What the key holds."""
        self._check_lease()
        return self._get(request)

    @_refusing
    async def Scan(self, request: node_pb2.ScanRequest, context: Any) -> None:  # noqa: N802
        """The shard's pairs in key order, as of now; `limit` 0: all of them."""
        self._check_lease()
        shard, left = _shard(request), request.limit or 1 << 62
        with self._store.snapshot(shard, epoch=request.epoch, fenced=False) as snapshot:
            self._traffic.reads[shard] += 1
            parts = snapshot.pairs(request.after, part_bytes_max)
            while left and (pairs := await self._threads.run(next, parts, None)):
                message = node_pb2.Pairs()
                for key, value in pairs[:left]:
                    message.pairs.add(key=key, value=value)
                left -= len(message.pairs)
                await context.write(message)

    @_refusing
    async def Batch(self, requests: AsyncIterator[node_pb2.Operations], context: Any) -> None:  # noqa: N802
        """Each message's writes become durable together; its reads see them. One message is answered before the next."""
        async for message in requests:
            await context.write(await self._operate(message.operations))

    @_refusing
    async def Snapshot(self, request: node_pb2.SnapshotRequest, context: Any) -> None:  # noqa: N802
        """See `Giving.snapshot`."""
        await self._giving.snapshot(request, context)

    @_refusing
    async def Tail(self, request: node_pb2.TailRequest, context: Any) -> None:  # noqa: N802
        """See `Giving.tail`."""
        await self._giving.tail(request, context)

    @_refusing
    async def Describe(self, request: node_pb2.DescribeRequest, context: Any) -> node_pb2.ShardDescription:  # noqa: N802
        """The shard's record, in any state."""
        shard = _shard(request)
        record = self._store.record(shard)
        if record is None:
            raise ShardNotFound(f"{shard} is not known here")
        extent = record.extent
        return node_pb2.ShardDescription(
            state=record.state,
            epoch=record.epoch,
            owner=record.owner.node if record.owner else "",
            address=record.owner.address if record.owner else "",
            position=extent.position,
            digest=extent.digest,
            records=extent.records,
            bytes=extent.bytes,
        )

    def _check_lease(self) -> None:
        if elapsed_seconds() >= self._serve_until():
            raise DataUnavailable("the node's lease is over; ask again, or the node that owns the shard by then")

    async def _write(self, write: ShardWrite) -> node_pb2.Written:
        [written] = await self._write_all([write])
        if isinstance(written, MusterError):
            raise written
        return node_pb2.Written(position=written.position, epoch=written.epoch, duplicate=written.duplicate)

    def _get(self, request: node_pb2.GetRequest) -> node_pb2.Found:
        shard = _shard(request)
        found = self._store.get(shard, request.epoch, request.key)
        self._traffic.reads[shard] += 1
        return node_pb2.Found(found=found.value is not None, value=found.value or b"", epoch=found.epoch)

    async def _operate(self, operations: Sequence[node_pb2.Operation]) -> node_pb2.Results:
        if len(operations) > operations_max:
            raise TooLarge(f"operations: a message has at most {operations_max}, not {len(operations)}")
        kinds = [operation.WhichOneof("kind") for operation in operations]
        if None in kinds:
            raise InvalidCommand("operations: each must be put, get or delete", field="operations")
        writes = [
            _put(operation.put) if kind == "put" else _delete(operation.delete)
            for operation, kind in zip(operations, kinds, strict=True)
            if kind != "get"
        ]
        written = iter(await self._write_all(writes) if writes else ())
        results = node_pb2.Results()
        for operation, kind in zip(operations, kinds, strict=True):
            result = results.results.add()
            try:
                if kind == "get":
                    self._check_lease()
                    result.found.CopyFrom(self._get(operation.get))
                else:
                    one = next(written)
                    if isinstance(one, MusterError):
                        raise one
                    result.written.position, result.written.epoch, result.written.duplicate = one
            except MusterError as error:
                result.problem = problem(error)
        return results

    async def _write_all(self, writes: Sequence[ShardWrite]) -> Sequence[StoredWrite | MusterError]:
        """What became of each. A long one that its shard does not take is refused before it takes room in the queue."""
        try:
            # The commits look at the lease, and once more when the disk has the writes: this look alone is too early.
            self._check_lease()
            refusals = self._refusals(writes)
            left = [write for write, refusal in zip(writes, refusals, strict=True) if refusal is None]
            written = iter(self._counted(left, await self._commits.batch(left)) if left else ())
        except MusterError as error:
            return [error] * len(writes)
        finally:
            for shard in {write.shard for write in writes}:
                self._giving.changed(shard)
        return [refusal or next(written) for refusal in refusals]

    def _counted(
        self, writes: Sequence[ShardWrite], results: Sequence[StoredWrite | MusterError]
    ) -> Sequence[StoredWrite | MusterError]:
        # What was refused is no load of the shard: it may not even be here.
        for write, result in zip(writes, results, strict=True):
            if isinstance(result, StoredWrite):
                self._traffic.writes[write.shard] += 1
        return results

    def _refusals(self, writes: Sequence[ShardWrite]) -> Sequence[MusterError | None]:
        # Short ones are judged when they are written: to read the shard's record for each would be felt.
        if all(write.value is None or len(write.value) <= short_value_bytes for write in writes):
            return [None] * len(writes)
        return self._store.refusals(writes)


def _shard(request: Any) -> ShardId:
    return ShardId(request.shard.keyspace, request.shard.number)


def _put(request: node_pb2.PutRequest) -> ShardWrite:
    return ShardWrite(_shard(request), request.epoch, request.key, request.value, request.write_id)


def _delete(request: node_pb2.DeleteRequest) -> ShardWrite:
    return ShardWrite(_shard(request), request.epoch, request.key, None, request.write_id)
