"""A controller in the simulation: the real partition machine, views and snapshotter, driven step by step."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from domain.catalogue import Answer
from domain.error import Transient, Uncertain
from domain.message import Envelope
from infra.chain import Chain, term_started
from infra.codec import CloudEventMapper
from infra.snapshot import Snapshot
from tests.simulation.broker import Broker
from workers.partition import GroupFull, Partition
from workers.snapshotter import Snapshotter
from workers.view import Views


@dataclass(eq=False)
class Request:
    """A command on its way; `head` is that of the history when it was asked."""

    envelope: Envelope
    head: int
    retried: bool = False


class Store:
    """The newest snapshot, whoever took it."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None

    async def load(self, partition: int) -> Snapshot | None:
        return self.snapshot

    async def save(self, partition: int, snapshot: Snapshot) -> None:
        self.snapshot = snapshot


class Controller:
    """Follows, claims, decides, appends, answers: the writer loop, one step at a time."""

    def __init__(self, name: str, broker: Broker, store: Store, answered: Callable[[Request, Answer], None]) -> None:
        self.name = name
        self.broker = broker
        self.store = store
        self.answered = answered
        self.queue: deque[Request] = deque()
        self.monotonic = 0.0
        self.start(from_snapshot=False)

    def start(self, *, from_snapshot: bool) -> None:
        """A new process: nothing is known but what the snapshot and the log say. What was asked of the old one is gone."""
        self.partition = Partition(0, CloudEventMapper(), batch_records_max=8, ids_max=10_000)
        self.views = Views([0])
        self.reigning = False
        self.epoch = 0
        self.taken: list[tuple[Request, Answer]] | None = None
        self.queue.clear()
        self.snapshotter = Snapshotter(self.store, self.partition, self.views)
        if from_snapshot:
            asyncio.run(self.snapshotter.restore())

    def snapshot(self) -> None:
        """Take a snapshot now, also in the middle of a group."""
        asyncio.run(self.snapshotter.take())

    def read(self) -> None:
        """Fold the log up to its end."""
        after = self.partition.cursor
        rest = [(position, *self.broker.log[position]) for position in range(after.position + 1, len(self.broker.log))]
        for batch in Chain(0, after).follow(rest):
            self.views.apply(0, self.partition.fold(batch), batch.cursor, batch.voids)

    def claim(self, now: datetime) -> None:
        """Start a term; whatever was late may still arrive in between."""
        self.epoch = self.broker.next_epoch()
        self.taken = None
        self.partition.rollback()
        while True:
            self.read()
            if self.broker.chance.random() < 0.2:
                self.broker.deliver()
            marker = term_started(self.partition.cursor, self.name, now, "/muster/default")
            self.broker.log.append((b"term", marker.state))
            position = len(self.broker.log) - 1
            self.read()
            if self.partition.cursor.writer == self.name and self.partition.cursor.head_position == position:
                break
        self.partition.begin(self.partition.cursor, 0.5)
        self.reigning = True

    def step(self, now: datetime) -> None:
        """Decide a group, or send the group that was decided the step before."""
        if not self.reigning:
            self.read()
        elif self.taken is None:
            self._decide(now)
        else:
            try:
                self._send()
            except Transient:
                self._lay_down()

    def _decide(self, now: datetime) -> None:
        self.partition.deadlines.advance(self.monotonic)
        self.partition.open(now)
        self.partition.expire()
        self.taken = []
        try:
            while self.queue:
                self.taken.append((self.queue[0], self.partition.handle(self.queue[0].envelope)))
                self.queue.popleft()
        except GroupFull:
            pass

    def _send(self) -> None:
        stored, folded, cursor = self.partition.close()
        if not stored:
            self.broker.beat(self.epoch, cursor.position)
        elif self.broker.append(self.epoch, stored) != self.partition.cursor.position + 1:
            raise Uncertain("the batch landed elsewhere")
        self.partition.commit(cursor)
        self.views.apply(0, folded, cursor)
        taken, self.taken = self.taken or [], None
        for request, answer in taken:
            self.answered(request, replace(answer, duplicate=answer.duplicate and not request.retried))

    def _lay_down(self) -> None:
        """The reign is over: what was asked is decided again by what the log says, here or elsewhere."""
        self.reigning = False
        self.partition.rollback()
        for request, _ in reversed(self.taken or []):
            request.retried = True
            self.queue.appendleft(request)
        self.taken = None
