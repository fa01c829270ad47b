"""The loads of services, and the telemetry workers that tell them, as this controller has heard: rows in memory.

They are no part of the log, and no command is decided by them: whoever reads them gets what was true a second ago, or nothing.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final, Literal, Protocol

from domain.telemetry.observed import ObservedCalls
from domain.telemetry.seen_calls import Incarnation, calls_of, instance_rows
from infra.telemetry.rows import LoadRecord
from muster.wire.error import InvalidCommand, NotReady
from muster.wire.telemetry.heartbeats import Heartbeats
from muster.wire.telemetry.loads import (
    ClientsWord,
    SeenInstance,
    SeenInstances,
    ServiceLoad,
    TelemetryWorker,
    decode_row,
)
from muster.wire.telemetry.observations import Observations
from muster.wire.telemetry.shard_loads import SHARDS, NodeLoads, decode
from workers.views.heard_loads import HeardLoads
from workers.views.shard_loads import ToldShards

fresh_seconds: Final = 10.0
"""A load that was not told for so long is nobody's any more."""

word_seconds: Final = 3.0
"""What telemetry says of clients is told each second; what it said longer ago is no evidence of now."""

silent_seconds: Final = 5.0
"""A worker says once a second that it is there."""

without_seconds: Final = 15.0
"""For so long there may be no worker: one that is started again is there by then."""

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
        self._calls = ObservedCalls()
        self._suspected: Mapping[str, tuple[ClientsWord, ...]] = {}
        self._services: dict[str, tuple[ServiceLoad, float]] = {}
        self._seen: dict[str, tuple[SeenInstances, float]] = {}
        self._workers: dict[str, tuple[TelemetryWorker, float]] = {}
        self._worked_at = self._swept_at = clock()
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
        self._sweep()
        if isinstance(row, ServiceLoad):
            self._services[row.service] = row, at
        elif isinstance(row, SeenInstances):
            self._seen[row.service] = row, at
        elif row is not None:
            self._workers[row.worker] = row, at
            if row.state == "running":
                self._worked_at = max(self._worked_at, at)

    def hear(self, message: Heartbeats, refused: Collection[str]) -> None:
        """Take what came over HTTP, but for the instances that were refused."""
        self._heard.hear(message, refused)

    def told(self, row: NodeLoads) -> None:
        """Take what a data node has told to this controller. Where there are others, they are to hear of it."""
        self.shards.hear(row)
        self.tell(row)

    def observe(self, message: Observations, incarnation_of: Callable[[str], int | None]) -> int:
        """Take what a client saw, as it came over HTTP, of incarnations that are there; of how many instances that was."""
        return self._calls.take(message, self._clock(), incarnation_of)

    def words(self, service: str, doubted: Mapping[str, tuple[int, float]]) -> list[ClientsWord]:
        """What clients say of instances whose checks are in doubt, by whichever way they say it. `doubted` has the incarnation of
        each, and the second by our clock since which its doubt is known.
        """
        now, found = self._clock(), self._services.get(service)
        # An observer reports by one way alone, so those who came by the topic are others.
        told = found[0].suspected if found is not None and now - found[1] <= word_seconds else ()
        by_topic = {(word.instance, word.incarnation): word for word in told}
        return [
            _both(self._calls.word(service, name, incarnation, since, now), by_topic.get((name, incarnation)))
            for name, (incarnation, since) in doubted.items()
        ]

    def weighed(self, suspected: Mapping[str, tuple[ClientsWord, ...]]) -> None:
        """What clients say of suspects now, by service: to be shown."""
        self._suspected = suspected

    def service(self, service: str) -> ServiceLoad | None:
        """The load of the service: telemetry's, who hears all of it, else what came over HTTP; and what clients saw, by both
        ways. None: nobody tells any of it now.
        """
        now, found = self._clock(), self._services.get(service)
        row = self._heard.load(service) if found is None or now - found[1] > fresh_seconds else found[0]
        calls = self._calls.calls(service, now)
        if calls is not None:
            row = calls.in_row(row or ServiceLoad(service=service, instances=0, heard=0, at=datetime.now(UTC)))
        return None if row is None else replace(row, suspected=self._suspected.get(service, ()))

    def services(self) -> list[ServiceLoad]:
        """The loads that are told now, by the names of their services."""
        names = {*self._services, *self._heard.services(), *self._calls.services()}
        return [load for name in sorted(names) if (load := self.service(name)) is not None]

    def instances(self, service: str) -> tuple[SeenInstance, ...]:
        """What clients saw of the instances of the service, by both ways; those that fail most first, then the slowest."""
        now, told = self._clock(), self._seen.get(service)
        seen, in_flight = self._calls.instances(service, now), dict[Incarnation, float]()
        for row in told[0].items if told is not None and now - told[1] <= fresh_seconds else ():
            key, calls = (row.instance, row.incarnation), calls_of(row)
            if row.in_flight is not None:
                in_flight[key] = row.in_flight
            if calls is not None:
                seen[key] = seen[key].and_those(calls) if key in seen else calls
        # What an instance says of itself comes by one of both ways too.
        heard = partial(self._heard.in_flight, service)
        return instance_rows(seen, lambda *key: in_flight[key] if key in in_flight else heard(*key))

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

    @property
    def is_without_worker(self) -> bool:
        """Whether no worker has said for a while that it runs, also where none ever was, or the last one has left in order."""
        return self._clock() - self._worked_at > without_seconds

    def _sweep(self) -> None:
        """Forget what is old, so that services that come and go under new names are not kept for ever."""
        now = self._clock()
        if now - self._swept_at <= fresh_seconds:
            return
        self._swept_at = now
        self._services = {name: told for name, told in self._services.items() if now - told[1] <= fresh_seconds}
        self._seen = {name: told for name, told in self._seen.items() if now - told[1] <= fresh_seconds}

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


def _both(word: ClientsWord, other: ClientsWord | None) -> ClientsWord:
    if other is None:
        return word
    return replace(
        word,
        clients=word.clients + other.clients,
        failing=word.failing + other.failing,
        answering=word.answering + other.answering,
    )


def _seen(row: TelemetryWorker, age_seconds: float) -> SeenWorker:
    return SeenWorker(row, "silent" if age_seconds > silent_seconds else row.state, age_seconds)
