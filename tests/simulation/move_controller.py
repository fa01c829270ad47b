"""The controller in the simulation of moves: the real partition machine, views and driver of sagas, in one thread.

Every command is a group of its own. A crash forgets everything; what comes after it is folded from the log alone. The driver
runs on a loop of its own whose time passes in `drive` only, and sees the cluster through views that may lag behind.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from typing import Any, Final

from domain.catalogue import Answer
from domain.message import Recorded
from domain.saga import Saga
from infra.log.chain import Chain, term_started
from infra.log.codec import CloudEventMapper
from muster.wire.command import Command, Envelope
from muster.wire.error import Timeout
from muster.wire.stream import root_of
from sagas.placement import NOTHING_KNOWN, Weights
from tests.sample import NOON
from tests.simulation.loop import VirtualLoop
from workers.machine.group import Folded, Group
from workers.machine.partition import Partition
from workers.sagas.driver import SagaDriver
from workers.views.shards import ShardViews
from workers.writer.observer import ChangedItem

Told = Callable[[Answer], None]
Post = Callable[[Envelope, Told], None]
reply_timeout_seconds: Final = 10.0


class Crashed(Exception):
    """The controller died before it could answer; another one has taken over."""


class MoveController:
    """`told` hears of every recorded event; `recording` is asked what becomes of a batch: "record", "lose" or "die"; `post`
    brings a command of the driver's to the cluster, sometime; `observing` hears of what the driver tells its sagas.
    """

    def __init__(
        self,
        told: Callable[[Recorded], None],
        recording: Callable[[list[Recorded]], str],
        post: Post,
        observing: Callable[[str, Command], None] = lambda _stream, _command: None,
    ) -> None:
        self.log: list[tuple[bytes, bytes]] = []
        self.terms = self.signs = 0
        self.weights: Weights = NOTHING_KNOWN
        self.monotonic = 0.0
        self._told, self._recording, self._post, self._observing = told, recording, post, observing
        self._ids = count()
        self._loop = VirtualLoop()
        self._running: asyncio.Task[None] | None = None
        self.start()

    def start(self) -> None:
        """A new process: it folds the log from its beginning, and claims it. It must know what the one before knew."""
        before = dict(self.partition.committed()) if self.terms else {}
        self.partition = Partition(0, CloudEventMapper())
        self.views = ShardViews()
        self._seen = ShardViews()
        self._unseen: deque[list[Folded]] = deque()
        self._observed: deque[tuple[str, Command]] = deque()
        self._read()
        assert self.partition.streams == before, "a replay from zero gives another state"
        self.terms += 1
        self.log.append((b"term", term_started(self.partition.cursor, f"w{self.terms}", NOON, "/muster/default").state))
        self._read()
        self.partition.begin(self.partition.cursor, 0.0)
        self._drive_anew()

    def stop(self) -> None:
        """The driver works no more."""
        if self._running is not None:
            self._driver.ended()
            self._running.cancel()
            self._pass(0.0)

    def _drive_anew(self) -> None:
        self.stop()
        self.see()
        self._driver = SagaDriver(
            lambda stream, command: self._observed.append((stream, command)),
            self._submit,
            self._state,
            self._seen,
            clock=lambda: self.now,
            monotonic=self._loop.time,
            weights=lambda: self.weights,
        )
        self._driver.began(self.partition.streams)
        self._running = self._loop.create_task(self._driver.run())

    def _state(self, stream: str) -> Any:
        """The stream's state as the driver sees it: of other partitions it may be behind."""
        return self._seen.state(stream)

    def _read(self) -> None:
        after = self.partition.cursor
        rest = [(position, *self.log[position]) for position in range(after.position + 1, len(self.log))]
        for batch in Chain(0, after).follow(rest):
            self._show(self.partition.fold(batch))

    def _show(self, folded: list[Folded]) -> None:
        self.views.apply(0, {}, folded)
        self._unseen.append(folded)

    def see(self) -> None:
        """The driver's views catch up."""
        while self._unseen:
            self._seen.apply(0, {}, self._unseen.popleft())

    @property
    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.monotonic)

    @property
    def sagas(self) -> list[Saga]:
        """All that have not ended."""
        return [found for found in self.views.sagas.values() if not found.ended]

    def ask(self, stream: str, command: Command, actor: str = "ann", id_: str | None = None) -> Answer:
        """The answer to the command. Raises Crashed."""
        group = self._step(Envelope(id_ or f"c{next(self._ids)}", stream, command, actor))
        self._record(group)
        # Nothing is remembered of a sign of life that changes nothing.
        self.signs += not group.answered
        return group.answers[0]

    def _step(self, *envelopes: Envelope) -> Group:
        return self.partition.step(self.now, [(envelope, None) for envelope in envelopes])

    def peek(self, stream: str, command: Command) -> list[Recorded]:
        """What would be recorded."""
        group = self._step(Envelope("peek", stream, command, "ann"))
        self.partition.rollback(group)
        return [recorded for recorded, _ in group.folded]

    def pass_time(self, seconds: float) -> None:
        """What has run out is recorded. Raises Crashed."""
        self.monotonic += seconds
        self.partition.deadlines.advance(self.monotonic)
        self._record(self._step())

    def _record(self, group: Group) -> None:
        recorded = [each for each, _ in group.folded]
        fate = self._recording(recorded) if recorded else "record"
        if fate == "lose":
            self.partition.rollback(group)
            self.start()
            raise Crashed
        self.log += [(root_of(str(record.originator_id)).encode(), record.state) for record in group.batch]
        self._changed(self.partition.commit(group))
        self._show(group.folded)
        for each in recorded:
            self._told(each)
        if fate == "die":
            self.start()
            raise Crashed

    def _changed(self, items: list[ChangedItem]) -> None:
        """The aggregates stand like this now."""
        self._driver.changed(items)

    def drive(self, seconds: float) -> None:
        """The driver works for so long; what it tells its sagas is recorded. Raises Crashed."""
        self._pass(seconds)
        while self._observed:
            stream, command = self._observed.popleft()
            self._observing(stream, command)
            self._record(self.partition.step(self.now, observations=[(stream, command)]))

    def _pass(self, seconds: float) -> None:
        self._loop.run_until_complete(asyncio.sleep(seconds))

    async def _submit(self, envelope: Envelope) -> Answer:
        answered: asyncio.Future[Answer] = self._loop.create_future()
        self._post(envelope, lambda answer: None if answered.done() else answered.set_result(answer))
        try:
            async with asyncio.timeout(reply_timeout_seconds):
                return await answered
        except TimeoutError:
            raise Timeout("no answer in time") from None
