"""Group commit: writes that wait at the same time become durable in one transaction, in one writer thread."""

from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from domain.error import MusterError
from infra.shard_record import Write, Written
from infra.shard_store import ShardStore

group_writes_max: Final = 1_000
queue_writes_max: Final = 20_000
queue_bytes_max: Final = 64 << 20


class Commits:
    """The asyncio side of a store's writes; `async with` runs its thread, and ends when all that waits is answered.

    `acknowledge_until`: until when (time.monotonic()) the node's lease lets it acknowledge; asked before each group, and
    again behind its fsync. Belongs to the event loop that enters it.
    """

    def __init__(self, store: ShardStore, *, acknowledge_until: Callable[[], float] = lambda: inf) -> None:
        self._store = store

    async def __aenter__(self) -> "Commits":
        raise NotImplementedError

    async def __aexit__(self, *_: object) -> None:
        raise NotImplementedError

    async def write(self, write: Write) -> Written:
        """Durable when it returns. Raises the refusal; WriteFailed; DataUnavailable (lease over: the outcome is unknown, retry
        with the same write id; or too much waits: nothing was written).
        """
        raise NotImplementedError

    async def batch(self, writes: Sequence[Write]) -> list[Written | MusterError]:
        """Like `write` for many, in one transaction, in order; refusals are results. Raises as `write` does for all of them."""
        raise NotImplementedError
