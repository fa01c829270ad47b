"""Group commit: writes that wait at the same time become durable in one transaction, in one writer thread.

The thread takes all that waits as soon as it has committed what it took before, so a lone write waits for nobody, and
under load a group is what arrived during one fsync. A group is answered in one turn of the event loop.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from threading import Condition, Thread
from typing import Final

from infra.shards.record import ShardWrite, StoredWrite
from infra.shards.store import ShardStore
from muster.clock import elapsed_seconds
from muster.wire.error import DataUnavailable, MusterError, Timeout, WriteFailed

group_writes_max: Final = 1_000
group_bytes_max: Final = 16 << 20
queue_writes_max: Final = 20_000
queue_bytes_max: Final = 64 << 20

log = logging.getLogger(__name__)

Results = list[StoredWrite | MusterError]


@dataclass(slots=True, eq=False)
class _Request:
    writes: Sequence[ShardWrite]
    future: asyncio.Future[Results]
    bytes: int = field(init=False)

    def __post_init__(self) -> None:
        self.bytes = sum(len(write.value) for write in self.writes if write.value is not None)


class Commits:
    """The asyncio side of a store's writes; `async with` runs its thread, and ends when all that waits is answered.

    `acknowledge_until`: until when (muster.clock.elapsed_seconds()) the node's lease lets it acknowledge; asked
    before each group, in the writer thread, and again after its fsync. Belongs to the event loop that enters it.
    """

    def __init__(self, store: ShardStore, *, acknowledge_until: Callable[[], float] = lambda: inf) -> None:
        self._store = store
        self._acknowledge_until = acknowledge_until
        self._queue: deque[_Request] = deque()
        self._queued_writes = 0
        self._queued_bytes = 0
        self._arrived = Condition()
        self._open = False
        self._thread = Thread(target=self._run, name="shard-writer", daemon=True)

    async def __aenter__(self) -> "Commits":
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        with self._arrived:
            self._open = False
            self._arrived.notify()
        await asyncio.to_thread(self._thread.join)

    async def write(self, write: ShardWrite) -> StoredWrite:
        """Durable when it returns. Raises the refusal; WriteFailed and DataUnavailable: nothing was written; Timeout: the lease
        is over and the outcome unknown, retry with the same write id.
        """
        [result] = await self.batch([write])
        if isinstance(result, MusterError):
            raise result
        return result

    async def batch(self, writes: Sequence[ShardWrite]) -> Results:
        """Many writes in one transaction; what became of each, in order. Raises WriteFailed, or DataUnavailable when too much
        waits: then nothing was written.
        """
        request = _Request(writes, asyncio.get_running_loop().create_future())
        with self._arrived:
            self._check_room(request)
            self._queue.append(request)
            self._queued_writes += len(writes)
            self._queued_bytes += request.bytes
            self._arrived.notify()
        return await request.future

    def _check_room(self, request: _Request) -> None:
        if not self._open:
            raise DataUnavailable("this node takes no writes: it is stopping")
        writes, size = self._queued_writes + len(request.writes), self._queued_bytes + request.bytes
        # Into an empty queue anything is let: a batch above the limits could otherwise never be written.
        if self._queue and (writes > queue_writes_max or size > queue_bytes_max):
            raise DataUnavailable(f"{self._queued_writes} writes wait for the disk already: slow down and retry")

    def _run(self) -> None:
        while group := self._take():
            self._answer(group, self._commit(group))

    def _take(self) -> list[_Request]:
        """All that waits, within the limits of a group; nothing: it is time to end."""
        group: list[_Request] = []
        writes = size = 0
        with self._arrived:
            self._arrived.wait_for(lambda: self._queue or not self._open)
            while self._queue:
                writes += len(self._queue[0].writes)
                size += self._queue[0].bytes
                # The first one is taken at any size, because a request is never cut into two transactions.
                if group and (writes > group_writes_max or size > group_bytes_max):
                    break
                group.append(self._queue.popleft())
            self._queued_writes -= sum(len(request.writes) for request in group)
            self._queued_bytes -= sum(request.bytes for request in group)
        return group

    def _commit(self, group: list[_Request]) -> Results | MusterError:
        # Another node may own the shards by now. Here it can still be said for certain that nothing was written.
        if self._lease_is_over():
            return DataUnavailable("the lease of this node is over: nothing was written")
        try:
            return self._store.write([write for request in group for write in request.writes])
        except MusterError as error:
            return error
        # The thread must live on: without it every later write would wait for ever.
        except Exception as error:
            log.exception("a group of writes failed")
            return WriteFailed(f"the store failed: {error!r}")

    def _lease_is_over(self) -> bool:
        return elapsed_seconds() >= self._acknowledge_until()

    def _answer(self, group: list[_Request], outcome: Results | MusterError) -> None:
        self._loop.call_soon_threadsafe(self._settle, group, outcome)

    def _settle(self, group: list[_Request], outcome: Results | MusterError) -> None:
        """The last moment before the acknowledgement: here the lease counts."""
        late = self._lease_is_over()
        start = 0
        for request in group:
            end = start + len(request.writes)
            # Its caller was cancelled. What was written stays written.
            if request.future.done():
                pass
            elif isinstance(outcome, MusterError):
                # An error object for each request: one that several tasks raise would collect the tracebacks of all of
                # them.
                request.future.set_exception(type(outcome)(outcome.detail, **outcome.context))
            else:
                results = outcome[start:end]
                request.future.set_result([_unknown(result) for result in results] if late else results)
            start = end


def _unknown(result: StoredWrite | MusterError) -> StoredWrite | MusterError:
    """The answer instead of the result when the lease is over."""
    if isinstance(result, MusterError):
        return result
    return Timeout("the lease of this node ended: the outcome is unknown. Retry with the same write id.")
