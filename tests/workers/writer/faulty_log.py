"""A real log whose appends and beats can be held, lost on the way, or lost on the way back."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Literal

from eventsourcing.persistence import StoredEvent

from infra.log.port import Batch, Cursor
from infra.log.recorder import RecorderLog
from muster.wire.error import Corrupt, Fenced, Uncertain

Fault = Literal["lost", "landed", "fenced", "broken"]


class FaultyLog:
    """The log, with what goes wrong written beforehand: `faults` for the next appends and beats, in order.

    `lost`: nothing is appended, and nobody can know. `landed`: it is appended, and nobody can know. `fenced`: refused.
    `broken`: an error that nobody foresaw; so is that of a read while `readable` is not. Reads say how much is left, as those of
    long logs do.
    While `open` is cleared, appends and beats wait before they reach the log; `waiting` says that one does.
    """

    def __init__(self, log: RecorderLog) -> None:
        self.log = log
        self.partition = log.partition
        self.faults: deque[Fault] = deque()
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = asyncio.Event()
        self.readable = True
        self.beats = 0
        self.appends: list[int] = []

    def step(self) -> None:
        """Let the append or beat go on that waits; the next one waits again."""
        self.open.set()
        self.open.clear()
        self.waiting.clear()

    async def claim(self, writer: str, after: Cursor) -> Cursor:
        return await self.log.claim(writer, after)

    async def read(self, after: Cursor) -> AsyncIterator[Batch]:
        batches: list[Batch] = []
        corrupt: Corrupt | None = None
        try:
            async for batch in self.log.read(after):
                batches.append(batch)
        except Corrupt as error:
            corrupt = error
        for batch in batches:
            yield batch._replace(left=batches[-1].cursor.position - batch.cursor.position)
            if not self.readable:
                raise RuntimeError("nobody foresaw this")
        if corrupt is not None:
            raise corrupt

    def tail(self, after: Cursor) -> AsyncIterator[Batch]:
        return self.log.tail(after)

    async def append(self, records: Sequence[StoredEvent]) -> None:
        await self._gate()
        fault = self.faults.popleft() if self.faults else None
        self._refuse(fault)
        await self.log.append(records)
        self.appends.append(len(records))
        if fault == "landed":
            raise Uncertain("the acknowledgement was lost")

    async def beat(self) -> None:
        await self._gate()
        self._refuse(self.faults.popleft() if self.faults else None)
        await self.log.beat()
        self.beats += 1

    async def _gate(self) -> None:
        if not self.open.is_set():
            self.waiting.set()
            await self.open.wait()
            self.waiting.clear()

    def _refuse(self, fault: Fault | None) -> None:
        if fault == "lost":
            raise Uncertain("the request was lost")
        if fault == "fenced":
            raise Fenced("another writer reigns")
        if fault == "broken":
            raise RuntimeError("nobody foresaw this")
