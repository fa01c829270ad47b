"""What a worker does, whoever brings it the records: the partitions that it has, the ticks, what it says.

Faust says which partitions are ours, brings the stream's records and calls `tick`. It sees nothing of the logic.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import count
from typing import Final, Literal, Protocol

import orjson

from domain.telemetry.finding import Suspicion, commands
from infra.kafka.topic import COMMANDS, HEARTBEATS, LOADS, topic_name
from infra.log.engine import Engine
from infra.telemetry.publisher import Outgoing, Published
from muster.wire.command import document_of
from muster.wire.error import Timeout
from muster.wire.route import partition_of
from muster.wire.telemetry.loads import LoadRow, TelemetryWorker, encode_row, key_of
from workers.telemetry.followed_log import follow
from workers.telemetry.held import TICK, HeldPartition, PastRecords

publish_seconds_max: Final = 10.0
rows_seconds: Final = 1.0
instances_turns: Final = 5
"""What clients saw of instances is told of a fifth of the services each second: all at once would keep the ticks waiting."""

_LOG: Final = logging.getLogger("muster.telemetry")


class Publisher(Protocol):
    """Publishes records."""

    async def publish(self, records: Sequence[Outgoing], timeout_seconds: float) -> list[Published]:
        """Send them, and wait until all are acknowledged. Raises Timeout: some may have been published, or not."""


class Desk:
    """A worker of this name, on the cluster of this engine."""

    def __init__(
        self,
        worker: str,
        engine: Engine,
        publisher: Publisher,
        reader: Callable[[int, int, int], PastRecords],
        prefix: str = "muster",
    ) -> None:
        self.worker = worker
        self._engine, self._publisher, self._reader = engine, publisher, reader
        self._heartbeats, self._commands, self._loads = (
            topic_name(name, prefix) for name in (HEARTBEATS, COMMANDS, LOADS)
        )
        self._held: dict[int, tuple[HeldPartition, asyncio.Task[None]]] = {}
        self._findings: list[Suspicion] = []
        self._something = asyncio.Event()
        self._ticking: asyncio.Task[None] | None = None
        self._messages = (time.monotonic(), 0)

    @property
    def held(self) -> list[HeldPartition]:
        """The partitions that this worker has."""
        return [held for held, _ in self._held.values()]

    def assigned(self, partitions: Iterable[int]) -> None:
        """These are ours from now on, and no others."""
        ours = set(partitions)
        # Not when they are revoked: each balancing revokes all, and gives most of them back.
        for number in self._held.keys() - ours:
            self._held.pop(number)[1].cancel()
        for number in ours:
            if number in self._held:
                self._held[number][0].assigned_again()
            else:
                held = self._hold(number)
                self._held[number] = held, asyncio.create_task(held.run(), name=f"partition {number}")

    def hear(self, partition: int, offset: int, recorded_ms: int, key: bytes, value: bytes) -> None:
        """A record of the stream; one of a partition that is ours no more is another worker's."""
        found = self._held.get(partition)
        if found is not None:
            found[0].hear(offset, recorded_ms, key, value)

    def tick(self) -> None:
        """Publish a tick in each partition, unless those before are still under way: while the broker is away none pile up."""
        if self._held and (self._ticking is None or self._ticking.done()):
            self._ticking = asyncio.create_task(self._tick(tuple(self._held)))

    async def run(self) -> None:
        """Say what was found, and what there is to do, until cancelled. Raises what a partition has ended by."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._say())
            tasks.create_task(self._tell())

    async def leave(self) -> None:
        """Let all partitions go, and say that the worker leaves."""
        row = self._row("leaving")
        self.assigned(())
        await self._rows([row])

    def _hold(self, number: int) -> HeldPartition:
        log, snapshots = self._engine.logs[number], self._engine.snapshots

        async def ticked() -> Published:
            (published,) = await self._publisher.publish([self._tick_of(number)], publish_seconds_max)
            return published

        return HeldPartition(
            number,
            worker=self.worker,
            follow=lambda begin, caught_up: follow(log, snapshots, begin, caught_up),
            reader=lambda since_ms, first: self._reader(number, since_ms, first),
            tick=ticked,
            found=self._found,
        )

    def _found(self, findings: list[Suspicion]) -> None:
        self._findings += findings
        self._something.set()

    async def _tick(self, numbers: Sequence[int]) -> None:
        try:
            await self._publisher.publish([self._tick_of(number) for number in numbers], publish_seconds_max)
        except Timeout as error:
            _LOG.warning("ticks: %s", error.detail)

    def _tick_of(self, number: int) -> Outgoing:
        value = orjson.dumps({"tick": self.worker, "at": time.monotonic()})
        return Outgoing(self._heartbeats, number, TICK, value)

    async def _say(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            findings, self._findings = self._findings, []
            told = [
                Outgoing(
                    self._commands,
                    partition_of(envelope.stream, len(self._engine.logs)),
                    envelope.stream.encode(),
                    orjson.dumps(document_of(envelope)),
                )
                for envelope in commands(findings, f"telemetry/{self.worker}")
            ]
            try:
                await self._publisher.publish(told, publish_seconds_max)
            except Timeout as error:
                # What the log does not show is found, and told, again; under the same ids.
                _LOG.warning("%d findings are told again later: %s", len(findings), error.detail)

    async def _tell(self) -> None:
        for number in count():
            await asyncio.sleep(rows_seconds)
            self._check()
            states = [held.state for held in self.held if held.state.is_open]
            rows: list[LoadRow] = [load for state in states for load in state.loads()]
            turn = number % instances_turns
            rows += [seen for state in states for seen in state.instances(turn, instances_turns)]
            await self._rows([*rows, self._row("running")])

    def _check(self) -> None:
        for _, task in self._held.values():
            if task.done():
                # It ends by nothing but a fault of ours: better a process that ends and is started again.
                task.result()

    async def _rows(self, rows: Sequence[LoadRow]) -> None:
        partitions = len(self._engine.logs)
        told = []
        for row in rows:
            key = key_of(row)
            number = 0 if isinstance(row, TelemetryWorker) else partition_of(key, partitions)
            told.append(Outgoing(self._loads, number, key.encode(), encode_row(row)))
        try:
            await self._publisher.publish(told, publish_seconds_max)
        except Timeout as error:
            _LOG.warning("loads: %s", error.detail)

    def _row(self, state: Literal["running", "leaving"]) -> TelemetryWorker:
        held, now = self.held, time.monotonic()
        before, messages_before = self._messages
        messages = sum(one.messages for one in held)
        self._messages = now, messages
        counts = [one.state.counts() for one in held]
        lags = [lag for one in held if (lag := one.lag_seconds) is not None]
        return TelemetryWorker(
            worker=self.worker,
            state=state,
            partitions=tuple(sorted(one.number for one in held)),
            reading=tuple(sorted(one.number for one in held if one.is_reading)),
            instances=sum(watched for watched, _ in counts),
            silent=sum(silent for _, silent in counts),
            lag_seconds=round(max(lags), 3) if lags else None,
            # After a balancing there can be fewer in all than before.
            messages_per_second=round(max(messages - messages_before, 0) / max(now - before, 0.001), 1),
            refused=sum(one.refused for one in held),
            at=datetime.now(UTC),
        )
