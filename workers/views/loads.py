"""The loads of services, and the telemetry workers that tell them, as this controller has heard: rows in memory.

They are no part of the log, and no command is decided by them: whoever reads them gets what was true a second ago, or nothing.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from infra.telemetry.rows import LoadRecord
from muster.wire.error import InvalidCommand, NotReady
from muster.wire.telemetry.heartbeats import Heartbeats
from muster.wire.telemetry.loads import ServiceLoad, TelemetryWorker, decode_row
from muster.wire.telemetry.shard_loads import SHARDS, NodeLoads, decode
from workers.views.heard_loads import HeardLoads
from workers.views.shard_loads import ToldShards

fresh_seconds: Final = 10.0
"""A load that was not told for so long is nobody's any more."""

silent_seconds: Final = 5.0
"""A worker says once a second that it is there."""

forgotten_seconds: Final = 3_600.0
_AGAIN_SECONDS: Final = 5.0
_SHARDS: Final = f"{SHARDS}/".encode()
_LOG: Final = logging.getLogger("muster.loads")


class LoadRows(Protocol):
    """Where the rows come from."""

    def follow(self) -> AsyncGenerator[Sequence[LoadRecord], None]:
        """The records as they come, for ever; an empty list, again and again, while none do. Raises NotReady."""


@dataclass(frozen=True, slots=True)
class SeenWorker:
    """A worker and how it is: `silent` says nothing any more, though it did not say that it leaves."""

    worker: TelemetryWorker
    state: Literal["running", "leaving", "silent"]
    age_seconds: float


class Loads:
    """The newest row of each key, and when it was told; `shards` has those of shards."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard = HeardLoads(clock)
        self.shards = ToldShards(clock)
        self.tell: Callable[[NodeLoads], None] = lambda row: None
        self._services: dict[str, tuple[ServiceLoad, float]] = {}
        self._workers: dict[str, tuple[TelemetryWorker, float]] = {}
        self.refused = 0

    def take(self, record: LoadRecord) -> None:
        """Take in a record; what cannot be read is counted, and passed over."""
        try:
            if record.key.startswith(_SHARDS):
                self.shards.hear(decode(record.value), record.age_seconds)
                return
            row = decode_row(record.key, record.value)
        except InvalidCommand:
            self.refused += 1
            return
        # What was told before we began to listen is as old as its record, and no news.
        at = self._clock() - record.age_seconds
        if isinstance(row, ServiceLoad):
            self._services[row.service] = row, at
        elif row is not None:
            self._workers[row.worker] = row, at

    def hear(self, message: Heartbeats, refused: Collection[str]) -> None:
        """Take what came over HTTP, but for the instances that were refused."""
        self._heard.hear(message, refused)

    def told(self, row: NodeLoads) -> None:
        """Take what a data node has told to this controller. Where there are others, they are to hear of it."""
        self.shards.hear(row)
        self.tell(row)

    def service(self, service: str) -> ServiceLoad | None:
        """The load of the service: telemetry's, who hears all of it, else what came over HTTP. None: nobody tells it now."""
        found = self._services.get(service)
        if found is None or self._clock() - found[1] > fresh_seconds:
            return self._heard.load(service)
        return found[0]

    def services(self) -> list[ServiceLoad]:
        """The loads that are told now, by the names of their services."""
        names = {*self._services, *self._heard.services()}
        return [load for name in sorted(names) if (load := self.service(name)) is not None]

    def workers(self) -> list[SeenWorker]:
        """The workers of the last hour, by name; of those that have left none."""
        now = self._clock()
        # Workers have another name at each start, so that those of long ago would pile up.
        self._workers = {name: seen for name, seen in self._workers.items() if now - seen[1] < forgotten_seconds}
        return [_seen(row, now - at) for _, (row, at) in sorted(self._workers.items()) if row.state != "leaving"]

    def unwatched(self, partitions: Iterable[int]) -> list[int]:
        """Partitions that a silent worker has left to nobody; none, where no worker ever was, or all left in order."""
        workers = self.workers()
        # Without a silent one they are being shared out anew, which takes a second.
        if all(seen.state != "silent" for seen in workers):
            return []
        watched = {number for seen in workers if seen.state == "running" for number in seen.worker.partitions}
        return sorted(set(partitions) - watched)

    async def run(self, rows: LoadRows) -> None:
        """Follow the rows, for ever."""
        while True:
            try:
                async for records in rows.follow():
                    for record in records:
                        self.take(record)
            except NotReady as error:
                _LOG.warning("loads are not followed now: %s", error.detail)
            await asyncio.sleep(_AGAIN_SECONDS)


def _seen(row: TelemetryWorker, age_seconds: float) -> SeenWorker:
    return SeenWorker(row, "silent" if age_seconds > silent_seconds else row.state, age_seconds)
