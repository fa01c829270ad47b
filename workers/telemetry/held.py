"""A partition of heartbeats that this worker has: its state, what is read again, and the stream.

    the log is followed ──to its end──▶ the last seconds are read again ──▶ findings are told ──▶ the stream goes on alone

Nothing is told before all that was recorded before the assignment has been read: a worker that took over would otherwise find
those silent whose beats it has not come to yet, or forget those whose silence began under the worker before.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final, Protocol, Self

import orjson

from domain.telemetry.finding import Suspicion
from domain.telemetry.merge import Merge
from domain.telemetry.partition import BeatsPartition
from infra.telemetry.past import HeardRecord, PastRange
from infra.telemetry.publisher import Published
from muster.wire.error import Corrupt, InvalidCommand, NotReady, Timeout
from muster.wire.telemetry.observations import Observations, decoded

TICK: Final = b"tick"
"""The key of ticks; those of heartbeats have a slash."""

rewind_seconds: Final = 20.0
"""So much is read again: the shortest lease (10 s), and what a worker that was killed is missed for (6 s, and some)."""

_AGAIN_SECONDS: Final = 1.0
_LOG: Final = logging.getLogger("muster.telemetry")

Follow = Callable[[Callable[[], BeatsPartition], Callable[[], None]], Awaitable[None]]
"""Follows the partition's log for ever; see `workers.telemetry.followed_log.follow`."""


class PastRecords(Protocol):
    """Reads a partition again, in `async with`; see `infra.telemetry.past.PastReader`."""

    past: PastRange

    async def __aenter__(self) -> Self:
        """Find where it begins. Raises NotReady."""

    async def __aexit__(self, *_: object) -> None:
        """See contextlib."""

    def records(self) -> AsyncGenerator[Sequence[HeardRecord], None]:
        """The records as they come, for ever; an empty list, again and again, while none do. Raises NotReady."""


Reader = Callable[[int, int], PastRecords]
"""Reads the partition from an instant on (milliseconds since 1970), but not before an offset."""


class HeldPartition:
    """The partition `number`, as long as it is held. `tick` publishes a tick in it; `found` is called with all findings."""

    def __init__(
        self,
        number: int,
        *,
        worker: str,
        follow: Follow,
        reader: Reader,
        tick: Callable[[], Awaitable[Published]],
        found: Callable[[list[Suspicion]], None],
    ) -> None:
        self.number = number
        self.state = BeatsPartition()
        self.refused = 0
        self.messages = 0
        self._worker = worker
        self._follow, self._reader, self._tick, self._found = follow, reader, tick, found
        self._merge = Merge()
        self._caught_up = asyncio.Event()
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._ticked_at: float | None = None

    @property
    def is_reading(self) -> bool:
        """Whether it is still being read what was before."""
        return not self.state.is_open

    @property
    def lag_seconds(self) -> float | None:
        """How long ago the newest tick was sent that has come back; None: none yet."""
        # By our own clock on both ends: that of the broker can be another.
        return None if self._ticked_at is None else time.monotonic() - self._ticked_at

    def assigned_again(self) -> None:
        """The group was balanced anew: the stream begins again at what was committed, and that may be behind us, or ahead."""
        self._merge.reading = True
        self._wanted.set()

    def hear(self, offset: int, recorded_ms: int, key: bytes, value: bytes) -> None:
        """A record of the stream."""
        if self._merge.from_stream(offset):
            self._take(recorded_ms, key, value)

    async def run(self) -> None:
        """Learn from the log, and read again what is wanted, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._learn())
            tasks.create_task(self._read_again())

    async def _learn(self) -> None:
        try:
            await self._follow(self._begin, self._caught_up.set)
        except Corrupt as error:
            # The partition stops here; the others go on.
            _LOG.error("partition %d: %s", self.number, error.detail)

    def _begin(self) -> BeatsPartition:
        # The log is read anew: whom we know may never have been. All of the topic's last seconds are read again with it.
        self.state, self._merge = BeatsPartition(), Merge()
        self._caught_up.clear()
        self._wanted.set()
        return self.state

    async def _read_again(self) -> None:
        while True:
            await self._wanted.wait()
            await self._caught_up.wait()
            self._wanted.clear()
            try:
                await self._past_read()
            except (NotReady, Timeout) as error:
                _LOG.warning("partition %d is read again once more: %s", self.number, error.detail)
                self._wanted.set()
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _past_read(self) -> None:
        state, merge = self.state, self._merge
        # A tick of our own says where the end is, and what time the broker has.
        now = await self._tick()
        since_ms = now.recorded_ms - round(rewind_seconds * 1000)
        async with self._reader(since_ms, merge.position + 1) as reader:
            merge.begin(reader.past.first - 1, now.offset)
            async for records in reader.records():
                for record in records:
                    if merge.from_past(record.offset):
                        self._take(record.recorded_ms, record.key, record.value)
                if merge.is_past_read and not state.is_open:
                    state.open()
                    _LOG.info("partition %d: all that was before has been read", self.number)
                if merge.hand_over() or self._wanted.is_set():
                    return
                await asyncio.sleep(0)

    def _take(self, recorded_ms: int, key: bytes, value: bytes) -> None:
        self.messages += 1
        try:
            findings = self._findings(recorded_ms, key, value)
        except InvalidCommand:
            # Anybody may write to a topic. An exception here would end the agent, and all its partitions with it.
            self.refused += 1
            return
        if findings:
            self._found(findings)

    def _findings(self, recorded_ms: int, key: bytes, value: bytes) -> list[Suspicion]:
        if key == TICK:
            self._returned(value)
            return self.state.tick(recorded_ms)
        message = decoded(value)
        if isinstance(message, Observations):
            self.state.observed(recorded_ms, message)
            return []
        return self.state.beats(recorded_ms, message)

    def _returned(self, value: bytes) -> None:
        try:
            told = orjson.loads(value)
            if told["tick"] == self._worker:
                self._ticked_at = float(told["at"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            self.refused += 1
