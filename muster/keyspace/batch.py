"""Many operations at once: one stream to each node, and only refused operations are tried again.

Operations on one key are applied in their order: a wave holds, for each key, the first write that is left or the first
reads, and the next wave begins when all of this one is settled. There is no order between different keys.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grpc.aio import EOF, AioRpcError

from muster.keyspace.channel import error_of, problem_of
from muster.keyspace.gate import knock_seconds
from muster.keyspace.operation import Applied, Get, Operation
from muster.keyspace.router import ShardRouter, is_outcome_unknown
from muster.keyspace.shard_map import Place
from muster.wire.error import MusterError, Timeout, Transient
from muster.wire.rpc import node_pb2

MESSAGE_OPERATIONS_MAX: Final = 500
MESSAGE_BYTES_MAX: Final = 1_000_000
OperationResult = Applied | bytes | MusterError | None


@dataclass(slots=True, eq=False)
class Pending:
    """An operation that waits for its result. `message` is what is sent, without its epoch; `ends_at` is when it is given
    up, set by its first failure.
    """

    operation: Operation
    message: Any
    shard: int
    size: int
    write_id: str | None
    result: OperationResult = None
    settled: bool = False
    tried: Place | None = None
    unknown: bool = False
    ends_at: float | None = None


def waves(pendings: Iterable[Pending]) -> list[list[Pending]]:
    """The operations in waves, so that in each a key is either written once or only read."""
    found: list[list[Pending]] = []
    newest: dict[str, tuple[int, bool]] = {}
    for pending in pendings:
        reads = isinstance(pending.operation, Get)
        wave, was_read = newest.get(pending.operation.key, (-1, False))
        # Reads that follow each other share a wave: between them the key does not change.
        if wave < 0 or not (reads and was_read):
            wave += 1
        newest[pending.operation.key] = wave, reads
        if wave == len(found):
            found.append([])
        found[wave].append(pending)
    return found


async def run(router: ShardRouter, pendings: Sequence[Pending]) -> list[OperationResult]:
    """The results in the order of the operations, refusals among them."""
    try:
        for wave in waves(pendings):
            await _settle_all(router, wave)
    finally:
        # After a cancellation too: otherwise what was held back would count against the limits for ever.
        for pending in pendings:
            _let_go(router, pending)
    return [pending.result for pending in pendings]


async def _settle_all(router: ShardRouter, wave: list[Pending]) -> None:
    left, tries = wave, 0
    while True:
        groups: dict[str, list[Pending]] = defaultdict(list)
        for pending in left:
            pending.tried = place = router.map[pending.shard]
            # Shards that no node serves meet under the empty address; their stream fails at once with the reason.
            groups[place.address].append(pending)
        async with asyncio.TaskGroup() as streams:
            for address, group in groups.items():
                streams.create_task(_Stream(router, address, group).run())
        left = [pending for pending in left if not pending.settled]
        if not left:
            return
        stuck = {pending.shard for pending in left if not _may_go_on(router, pending)}
        if stuck:
            # One pause for all shards, of at most 50 ms; it ends earlier when one of their gates opens.
            await router.gates.pause(stuck, knock_seconds(tries))
            tries += 1


def _let_go(router: ShardRouter, pending: Pending) -> None:
    # An operation with an end is one that counts as held back, so it is given back once and then has none.
    if pending.ends_at is not None:
        router.held.give(pending.size)
        pending.ends_at = None


def _may_go_on(router: ShardRouter, pending: Pending) -> bool:
    return pending.tried is not None and pending.tried.is_behind(router.map[pending.shard])


class _Stream:
    """One stream to one node, for one try of a group of operations."""

    def __init__(self, router: ShardRouter, address: str, group: Sequence[Pending]) -> None:
        self._router = router
        self._address = address
        self._group = group
        self._sent = 0
        self._answered = 0
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Settle the operations that are answered; note the failure of the others."""
        try:
            assert self._group[0].tried is not None
            call = self._router.channel(self._group[0].tried).batch(self._messages())
            try:
                await self._read(call)
            finally:
                call.cancel()
        except (AioRpcError, asyncio.CancelledError) as error:
            self._fail(error_of(error, self._address))
        except TimeoutError:
            self._fail(Timeout(f"{self._address} gave no answer in time", address=self._address))
        except MusterError as error:
            self._fail(error)

    async def _read(self, call: Any) -> None:
        while self._answered < len(self._group):
            async with asyncio.timeout(self._router.attempt_seconds):
                results = await call.read()
            if results is EOF:
                raise Timeout(f"{self._address} ended the batch before its results", address=self._address)
            for result in results.results:
                self._take(self._group[self._answered], result)
                self._answered += 1

    def _messages(self) -> Iterator[Any]:
        operations: list[Any] = []
        size = 0
        for pending in self._group:
            if operations and (len(operations) == MESSAGE_OPERATIONS_MAX or size + pending.size > MESSAGE_BYTES_MAX):
                # Counted before gRPC gets it: from then on it may arrive, whatever becomes of the stream.
                self._sent += len(operations)
                yield node_pb2.Operations(operations=operations)
                operations, size = [], 0
            operations.append(_operation(pending))
            size += pending.size
        self._sent += len(operations)
        yield node_pb2.Operations(operations=operations)

    def _take(self, pending: Pending, result: Any) -> None:
        kind = result.WhichOneof("kind")
        if kind == "problem":
            self._note(pending, problem_of(result.problem))
        elif kind == "found":
            self._settle(pending, result.found.value if result.found.found else None)
        else:
            written, write_id = result.written, pending.write_id or ""
            self._settle(pending, Applied(pending.shard, written.position, written.epoch, write_id, written.duplicate))

    def _settle(self, pending: Pending, result: OperationResult) -> None:
        pending.result, pending.settled = result, True
        _let_go(self._router, pending)
        if not isinstance(result, MusterError) and self._router.gates.closed(pending.shard):
            self._router.gates.open(pending.shard)

    def _fail(self, error: MusterError) -> None:
        # An operation that was not sent yet cannot have been applied, whatever became of the stream.
        unsent = Transient(error.detail) if is_outcome_unknown(error) else error
        for index in range(self._answered, len(self._group)):
            self._note(self._group[index], error if index < self._sent else unsent)

    def _note(self, pending: Pending, error: MusterError) -> None:
        """Settle an operation that no retry can mend, that has waited long enough, or that finds no room to wait."""
        assert pending.tried is not None
        try:
            self._router.heed(pending.tried, error)
        except MusterError as refusal:
            self._settle(pending, refusal)
            return
        full, now = None, self._loop.time()
        # Once a try may have been applied, the outcome stays unknown until a later try is answered.
        pending.unknown = pending.unknown or is_outcome_unknown(error)
        if pending.ends_at is None:
            full = self._router.held.take(pending.size)
            pending.ends_at = None if full is not None else now + self._router.hold_seconds
        if full is not None or (pending.ends_at is not None and now >= pending.ends_at):
            ended = self._router.ended(pending.shard, error, pending.write_id, pending.unknown, full)
            self._settle(pending, ended)


def _operation(pending: Pending) -> Any:
    assert pending.tried is not None
    pending.message.epoch = pending.tried.epoch
    if isinstance(pending.message, node_pb2.PutRequest):
        return node_pb2.Operation(put=pending.message)
    if isinstance(pending.message, node_pb2.GetRequest):
        return node_pb2.Operation(get=pending.message)
    return node_pb2.Operation(delete=pending.message)
