"""One partition's way from the log into the read store, for projections that stand at the same cursor.

    log ──▶ intake ──▶ folds ──▶ store        three tasks, so that reading, folding and writing overlap

While the database writes, events are folded on; what a write carries is all that changed since the one before. So many
events on one key become one row, the busier the more, and an idle pipeline writes each batch as it comes. One that catches
up waits until a write is worth it. Folds and cursor move by whole batches.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from domain.message import Recorded
from infra.log.codec import CloudEventMapper
from infra.log.port import START, Batch, Cursor, EventLog
from infra.postgres.store import ReadStore
from muster.wire.error import Corrupt
from projections.projection import AnyProjection, Key
from workers.collector import COLLECTOR
from workers.projector.fold import Fold


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a pipeline holds: read ahead, folded at a time (nothing else runs meanwhile), changed and cached rows.

    One that catches up writes after so many events or seconds, so that a log that fails now and then is got through too.
    """

    read_events_max: int = 4_096
    slice_events_max: int = 256
    write_events_max: int = 131_072
    write_seconds_max: float = 2.0
    rows_changed_max: int = 12_000
    rows_cached_max: int = 50_000


class Pipeline:
    """Projects one partition; `run` starts it from a stored cursor. `current` is called once, at the log's end.

    `cursor` is the stored one, `read` the newest position taken from the log, `events` how many were folded in and stored.
    """

    def __init__(
        self,
        log: EventLog,
        store: ReadStore,
        mapper: CloudEventMapper,
        projections: Sequence[AnyProjection],
        limits: Limits,
        current: Callable[["Pipeline"], Awaitable[None]],
    ) -> None:
        self.partition = log.partition
        self.projections = projections
        self.cursor = START
        self.read = -1
        self.events = 0
        self.caught_up = False
        self._log, self._store, self._mapper, self._limits, self._current = log, store, mapper, limits, current
        self._intake = _Intake(limits.read_events_max)
        self._folds: list[Fold[Any]] = []
        self._next = self._folded = START
        self._folded_events = 0
        self._taken_at = time.monotonic()
        self._dirty, self._written = asyncio.Event(), asyncio.Event()
        self._rate = _Rate()

    @property
    def events_per_second(self) -> float:
        """How many events were stored per second, over the last writes."""
        return self._rate.per_second()

    def parked(self, projection: AnyProjection) -> int:
        """How many rows of the projection stand still because an event could not be folded into them."""
        return sum(len(fold.parked) for fold in self._folds if fold.projection is projection)

    async def run(self, cursor: Cursor) -> None:
        """Project from the stored cursor on, for ever. Raises what the log or the store raises."""
        self.cursor = self._next = self._folded = cursor
        self.read = cursor.position
        for projection in self.projections:
            # At the log's start nothing of this partition is stored, so that a key which is new here needs no look-up.
            fold = Fold(projection, rows_max=self._limits.rows_cached_max, complete=cursor == START)
            fold.parked = {parked.key: parked for parked in await self._store.parked(self.partition, projection)}
            self._folds.append(fold)
        COLLECTOR.off(self)
        try:
            async with asyncio.TaskGroup() as group:
                for step in (self._read_on(cursor), self._fold_on(), self._write_on()):
                    group.create_task(step)
        except ExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        finally:
            COLLECTOR.on(self)

    async def _read_on(self, cursor: Cursor) -> None:
        try:
            async with aclosing(self._log.read(cursor)) as batches:
                async for batch in batches:
                    cursor = batch.cursor
                    await self._intake.put(batch)
            await self._intake.put("end")
            async with aclosing(self._log.tail(cursor)) as batches:
                async for batch in batches:
                    # A batch with the same cursor says only that nothing has come.
                    if batch.cursor != cursor:
                        cursor = batch.cursor
                        await self._intake.put(batch)
        except Corrupt as error:
            # It queues behind the batches before the damage, so that these are folded and stored before we stop.
            await self._intake.put(error)

    async def _fold_on(self) -> None:
        while True:
            taken = await self._intake.take(self._limits.slice_events_max)
            recorded, signal = self._decoded(taken)
            keys = _keys_of([fold.projection for fold in self._folds], recorded)
            await self._load(keys)
            self._apply(recorded, keys)
            await self._until(self._has_room)
            if signal is None:
                continue
            if self._folded != self.cursor:
                self._dirty.set()
            # All that stands before the signal is stored first: `current` means that readers can see it.
            await self._until(lambda: self.cursor == self._folded)
            if isinstance(signal, Corrupt):
                raise signal
            self.caught_up = True
            COLLECTOR.on(self)
            await self._current(self)

    def _decoded(self, taken: "list[_Item]") -> "tuple[list[Recorded], _Signal | None]":
        """The events of the whole batches that can be decoded, and the signal that follows them."""
        recorded: list[Recorded] = []
        for item in taken:
            if not isinstance(item, Batch):
                return recorded, item
            try:
                batch = self._mapper.events(self.partition, item)
            except Corrupt as error:
                return recorded, error
            recorded += batch
            self._next = item.cursor
        return recorded, None

    async def _load(self, keys: "_Keys") -> None:
        # Again and again, since rows may be dropped from memory while others are loaded.
        while missing := [(fold, found) for fold in self._folds if (found := fold.missing(keys[fold.projection]))]:
            for fold, found in missing:
                fold.load(found, await self._store.rows(fold.projection, found))

    def _apply(self, recorded: Sequence[Recorded], keys: "_Keys") -> None:
        # No await in here: rows and cursor belong together.
        for fold in self._folds:
            touched = keys[fold.projection]
            if any(touched):
                fold.apply(recorded, touched)
        self._folded = self._next
        self._folded_events += len(recorded)
        self.read = self._folded.position
        if self._folded != self.cursor and (self.caught_up or self._is_worth_it()):
            self._dirty.set()

    def _is_worth_it(self) -> bool:
        return (
            self._folded_events >= self._limits.write_events_max
            or time.monotonic() - self._taken_at >= self._limits.write_seconds_max
            or not self._has_room()
        )

    def _has_room(self) -> bool:
        return all(fold.changes < self._limits.rows_changed_max for fold in self._folds)

    async def _until(self, reached: Callable[[], bool]) -> None:
        await asyncio.sleep(0)
        while not reached():
            self._written.clear()
            await self._written.wait()

    async def _write_on(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            # No await until all is taken: the changes and the cursor that is stored with them are of the same moment.
            new, events, self._folded_events = self._folded, self._folded_events, 0
            changes = {fold.projection: fold.take() for fold in self._folds}
            self._taken_at = time.monotonic()
            await self._store.commit(self.partition, changes, self.cursor, new)
            self.cursor = new
            self.events += events
            self._rate.add(events)
            self._written.set()
            COLLECTOR.now_and_then()


_Signal = Literal["end"] | Corrupt
_Item = Batch | _Signal
_Keys = dict[AnyProjection, list[Key | None]]


def _keys_of(projections: Sequence[AnyProjection], recorded: Sequence[Recorded]) -> _Keys:
    """The keys that the events touch, by projection; those that select their keys alike share one list."""
    shared: dict[object, list[Key | None]] = {}
    keys: _Keys = {}
    for projection in projections:
        selection = projection.events, projection.key_of
        if selection not in shared:
            shared[selection] = projection.touched_by_each(recorded)
        keys[projection] = shared[selection]
    return keys


class _Intake:
    """What was read and not yet folded, up to `events_max` events. One puts, one takes."""

    def __init__(self, events_max: int) -> None:
        self._events_max = events_max
        self._items: deque[_Item] = deque()
        self._events = 0
        self._filled, self._emptied = asyncio.Event(), asyncio.Event()

    async def put(self, item: _Item) -> None:
        """Add the item; wait while there is no room."""
        while self._events >= self._events_max:
            self._emptied.clear()
            await self._emptied.wait()
        self._items.append(item)
        self._events += _size(item)
        self._filled.set()

    async def take(self, events_max: int) -> list[_Item]:
        """The next items, one at least, up to about `events_max` events."""
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        taken, events = [self._items.popleft()], 0
        events = _size(taken[0])
        while self._items and events < events_max:
            taken.append(self._items.popleft())
            events += _size(taken[-1])
        self._events -= events
        self._emptied.set()
        return taken


def _size(item: _Item) -> int:
    # A batch without events counts as well, or any number of them could wait here.
    return len(item.records) or 1 if isinstance(item, Batch) else 1


class _Rate:
    """Events per second over the last writes, ten seconds at most."""

    def __init__(self) -> None:
        self._added: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=64)

    def add(self, events: int) -> None:
        """Count the events as of now."""
        self._added.append((time.monotonic(), events))

    def per_second(self) -> float:
        """The rate as of now."""
        now = time.monotonic()
        recent = [(at, events) for at, events in self._added if now - at <= 10.0]
        return sum(events for _, events in recent) / max(now - recent[0][0], 0.1) if recent else 0.0
