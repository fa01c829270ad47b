"""A controller in the simulation: the real writer, log, partition machine, views and snapshotter, as one process."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random

from infra.log.codec import CloudEventMapper
from infra.log.snapshot import PartitionSnapshot
from muster.wire.error import NotReady
from tests.infra.sqlite.simulated import Disk
from tests.sample import NOON
from tests.simulation.broker import Broker
from workers.machine.partition import Partition
from workers.views.snapshotter import Snapshotter
from workers.views.views import Views
from workers.writer.writer import Writer

skew_seconds = 60.0


class Store:
    """The newest snapshot, whoever took it; none can be saved while it is `full`."""

    def __init__(self, full: Callable[[], bool] = lambda: False) -> None:
        self._full = full
        self.snapshot: PartitionSnapshot | None = None

    async def load(self, partition: int) -> PartitionSnapshot | None:
        return self.snapshot

    async def save(self, partition: int, snapshot: PartitionSnapshot) -> None:
        if self._full():
            raise NotReady(f"the snapshot of partition {partition} cannot be saved: the disk is full")
        self.snapshot = snapshot


class Controller:
    """Follows one partition, of `partitions` in all, and writes it while that is `wanted` of it. Its own wall clock is off by
    up to a minute.
    """

    def __init__(
        self, name: str, broker: Broker | Disk, store: Store, chance: Random, *, fence: bool, partitions: int = 1
    ) -> None:
        self.name = name
        self.number, self.partitions = broker.number, partitions
        self.wanted = False
        self._broker, self._store, self._chance, self._fence = broker, store, chance, fence
        self._starts = 0

    async def start(self, *, from_snapshot: bool) -> None:
        """A new process: nothing is known but what the snapshot and the log say."""
        self._starts += 1
        self.partition = Partition(
            self.number, CloudEventMapper(), partitions=self.partitions, batch_records_max=8, ids_max=10_000
        )
        self.views = Views([self.number])
        self.snapshotter = Snapshotter(self._store, self.partition, self.views)
        if from_snapshot:
            await self.snapshotter.restore()
        self.writer = Writer(
            self._broker.opened(self._now, fence=self._fence),
            self.partition,
            self.views,
            name=f"{self.name}/{self._starts}",
            wanted=lambda: self.wanted,
            clock=self._now,
            monotonic=asyncio.get_running_loop().time,
        )
        self._running = asyncio.create_task(self.writer.run())
        await asyncio.sleep(0)  # Whoever is asked has begun: what never ran could refuse nothing.

    def _now(self) -> datetime:
        seconds = asyncio.get_running_loop().time() + self._chance.uniform(-skew_seconds, skew_seconds)
        return NOON + timedelta(seconds=seconds)

    async def crash(self) -> None:
        """SIGKILL: what was asked of it is answered by nobody; what it has sent may still arrive."""
        self._running.cancel()
        await asyncio.wait([self._running])

    async def stop(self) -> None:
        """SIGTERM: what waits is answered first."""
        self.writer.stop()
        await asyncio.wait([self._running])

    def want(self, *, wanted: bool) -> None:
        """Whether it is to write from now on."""
        self.wanted = wanted
        self.writer.wake()

    def check(self) -> None:
        """Raises what has ended the writer."""
        if self._running.done():
            self._running.result()
        assert self.writer.state != "corrupt", self.writer.detail
