"""The writer loop of one partition: follow the log, claim it, then decide, append, answer.

    following ──wanted──▶ claiming ──our TermStarted is valid──▶ reigning ──Fenced, Uncertain, unwanted──▶ following
        └──────────────────────────────── Corrupt ──────────────────────────────────▶ corrupt (stays; the others run on)

Group commit: what arrives while an append is under way is decided together in the next group. An answer leaves only
after an append or beat that was begun after its decision has been acknowledged. When it is unknown whether an append
succeeded, its requests wait: after the next claim the log says which commands were recorded; the others are decided again.

When what the log is stored on fails (a full disk), all that waits is refused with the reason, and so is what comes until a
claim succeeds again: it may take hours, and nobody should wait for it. Reads go on.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, Literal

from domain.catalogue import Answer
from infra.log.port import EventLog, StorageFailed
from muster.wire.backoff import pause_seconds
from muster.wire.command import Command, Envelope
from muster.wire.error import Corrupt, Fenced, NotReady, Transient
from muster.wire.telemetry.heartbeats import Heartbeats
from workers.machine.group import GivenCommand, Group
from workers.machine.partition import Partition
from workers.views.views import Views
from workers.writer.beat_queue import BeatQueue, Heard
from workers.writer.log_follower import LogFollower
from workers.writer.observer import ReignObserver
from workers.writer.queue import CommandQueue
from workers.writer.request import AnswerOrError, QueuedCommands, Taken, answered, every, head, only

_LOG: Final = logging.getLogger("muster.writer")
tick_seconds: Final = 0.1
beat_every_seconds: Final = 0.3
reign_seconds: Final = 1.5
"""What a new reign gives leases and silences beyond their full length, once. Who renews tries again within a second, so it has
found the new writer by then; and whoever was lost together with the old writer is missed as much later.
"""
behind_seconds_min: Final = 60.0
renew_term_seconds: Final = 6 * 3600.0
group_commands_max: Final = 1_000
gather_seconds_max: Final = 0.01
gather_signs_max: Final = 32
gather_turns_max: Final = 8
pause_seconds_min: Final = 0.05
pause_seconds_max: Final = 2.0

State = Literal["following", "claiming", "reigning", "corrupt", "stopped"]


class Writer:
    """One partition's follower and, when wanted, writer. `execute` and `prove` may be called by many tasks at once.

    `clock` gives the instants of events, `monotonic` the seconds by which leases and reigns are measured. `wanted` says
    whether this controller should write the partition; it is only a hint, and the log alone decides who may. `refused` may be
    set: it says why nobody should, as where history would be lost; None: nothing speaks against it. Everything here runs on
    one event loop, and `run` is the only task that decides and appends: so no lock is needed.
    """

    def __init__(
        self,
        log: EventLog,
        partition: Partition,
        views: Views,
        *,
        name: str,
        wanted: Callable[[], bool] = lambda: True,
        reply_timeout_seconds: float = 10.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.log = log
        self.partition = partition
        self.number = partition.number
        self.state: State = "following"
        self.detail = "reading the log"
        self.failing: str | None = None
        self.name = name
        self._views = views
        self._follower = LogFollower(log, partition, views)
        self._asked_for = wanted
        self.refused: Callable[[], str | None] = lambda: None
        self.observers: list[ReignObserver] = []
        self._clock, self._monotonic = clock, monotonic
        self._queue = CommandQueue(partition.number, reply_timeout_seconds)
        self._beats = BeatQueue(partition.number, reply_timeout_seconds)
        self._observed: deque[tuple[str, Command]] = deque()
        self._work, self._hurry = asyncio.Event(), asyncio.Event()
        self._siblings = 0
        self._stopping = False
        self._proven_at = 0.0
        self._claimed_at = 0.0
        self._consumed: tuple[str | None, int | None] | None = None
        self.commands_lost = 0
        self.commands_detail: str | None = None
        self.recovered = asyncio.Event()

    async def execute(self, envelope: Envelope, offset: int | None = None) -> Answer:
        """As `submit`, and waits for the answer."""
        return await self.submit(envelope, offset)

    def submit(self, envelope: Envelope, offset: int | None = None) -> "asyncio.Future[Answer]":
        """See `workers.gateway.Executor.submit`. `offset`: the command's offset in its commands partition."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._enqueue(QueuedCommands((envelope,), future, only, None if offset is None else (offset,)))
        return future

    def submit_all(
        self, envelopes: Sequence[Envelope], offsets: Sequence[int] | None = None
    ) -> "asyncio.Future[list[AnswerOrError]]":
        """Queue the commands, all or none; the future brings their replies, in their order. Raises NotReady."""
        future: asyncio.Future[list[AnswerOrError]] = asyncio.get_running_loop().create_future()
        if envelopes:
            self._enqueue(QueuedCommands(envelopes, future, every, offsets))
        else:
            future.set_result([])
        return future

    def hear(self, messages: Sequence[Heartbeats]) -> "asyncio.Future[Heard]":
        """Queue the heartbeats, all or none; the future brings who was refused. Raises NotReady."""
        self._check_takes()
        heard = self._beats.add(messages, self._monotonic())
        self._rouse()
        return heard

    async def prove(self) -> int:
        """See `workers.gateway.Executor.prove`. Requests that wait at the same time share one beat."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._enqueue(QueuedCommands((), future, head))
        return await future

    def knows(self, id_: str) -> bool:
        """See `workers.gateway.Executor.knows`."""
        return self.partition.ids.recall(id_) is not None

    def observe(self, stream: str, command: Command) -> None:
        """Queue a command of this controller's own. Without a reign it is dropped: the next writer observes the same again."""
        if self.state == "reigning":
            self._observed.append((stream, command))
            self._rouse()

    def consumes(self, topic: str | None, offset: int | None) -> None:
        """The commands that come from here on are of the topic with this id, from this offset on."""
        # Not at once: a group may be on its way to the log, and has the offset from before.
        self._consumed = topic, offset

    @property
    def waiting(self) -> int:
        """How many commands wait for their answers."""
        return self._queue.commands

    def stop(self) -> None:
        """Answer what is queued, then end `run`."""
        self._stopping = True
        self._rouse()

    def _wanted(self) -> bool:
        return self._asked_for() and self.refused() is None

    def wake(self) -> None:
        """Look again at whether the partition is wanted."""
        self._work.set()

    def _enqueue(self, request: QueuedCommands) -> None:
        self._check_takes()
        some = request.envelopes
        request.patient = 0 < len(some) < gather_signs_max and all(map(self.partition.is_only_sign, some))
        self._queue.add(request, self._monotonic())
        self._rouse()

    def _rouse(self) -> None:
        """Something has come to be done."""
        self._work.set()
        if self._hurries():
            self._hurry.set()

    def _hurries(self) -> bool:
        """Whether anything waits but a few signs of life."""
        signs = self._queue.commands + self._beats.beats
        return bool(self._queue.urgent or self._observed or self._stopping) or not 0 < signs < gather_signs_max

    def _check_takes(self) -> None:
        """Raises NotReady where nothing that waits here would come to be decided."""
        if self.state in ("corrupt", "stopped") or self._stopping:
            raise NotReady(f"partition {self.number} takes no commands: {self.detail}")
        if self.state == "following" and self.recovered.is_set() and not self._wanted():
            whose = "is written by another controller" if self.partition.cursor.writer else "is not written yet"
            if self.refused() is not None:
                whose = "takes no commands"
            raise NotReady(f"partition {self.number} {whose}: {self.detail}")
        if self.failing is not None:
            raise NotReady(self.failing)

    async def _tick(self) -> None:
        """Wake the loop now and then, so that it looks at the clock; answer the callers that have waited too long."""
        while True:
            await asyncio.sleep(tick_seconds)
            self._work.set()
            self._queue.time_out(self._monotonic())
            self._beats.time_out(self._monotonic())

    async def run(self) -> None:
        """Follow, claim, reign, until stopped. Returns when stopped or corrupt."""
        ticking = asyncio.create_task(self._tick())
        try:
            await self._run()
        except Corrupt as error:
            self.state, self.detail = "corrupt", error.detail
            self.recovered.set()  # The controller starts without this partition; the others are served.
        finally:
            ticking.cancel()
            if self.state != "corrupt":
                self.state, self.detail = "stopped", "the controller is stopping"
            self._refuse_waiting()

    async def _run(self) -> None:
        tries = 0
        while not self._stopping:
            try:
                await self._follow()
                if self._wanted() and not self._stopping:
                    await self._claim()
                    tries = 0
                    await self._reign()
            except Transient as error:
                if self.state == "reigning":
                    _LOG.warning("a reign is broken off", extra={"partition": self.number, "reason": error.detail})
                self.state, self.detail = "following", error.detail
                if isinstance(error, StorageFailed):
                    self._fails(error)
                await asyncio.sleep(pause_seconds(tries, pause_seconds_min, pause_seconds_max))
                tries += 1

    def _fails(self, error: StorageFailed) -> None:
        """Refuse all that waits, and what comes, with the reason; it is said once, however often it is tried again."""
        if self.failing is None:
            facts = {"partition": self.number, "reason": error.detail}
            _LOG.error("writes are refused: the log cannot be stored", extra=facts)
        self.failing = error.detail
        self._refuse_waiting(NotReady(error.detail))

    def _works(self) -> None:
        if self.failing is not None:
            _LOG.warning("writes are taken again", extra={"partition": self.number})
        self.failing = None

    async def _follow(self) -> None:
        """Read to the log's end, and on as long as the partition is not wanted here."""
        self.state, self.detail = "following", "reading the log"
        await self._follower.read_to_end()
        self.recovered.set()
        if self._wanted():
            return
        cursor = self.partition.cursor
        # Before the first term there is no name to be said.
        reigns = f"writer {cursor.writer} reigns, term {cursor.term}"
        unwritten = "the controllers have yet to agree who writes it; retry"
        self.detail = self.refused() or (reigns if cursor.writer else unwritten)
        following = asyncio.create_task(self._follower.follow())
        try:
            while not self._wanted() and not self._stopping and not following.done():
                self._refuse_waiting()  # While it was wanted for a moment, requests may have been queued.
                await self._wait_for_work()
        finally:
            following.cancel()
            # `wait` instead of `await following`: with that we could not distinguish our own cancellation from the follower's.
            await asyncio.wait([following])
        if not following.cancelled() and (error := following.exception()) is not None:
            raise error

    async def _claim(self) -> None:
        self.state, self.detail = "claiming", "starting a term"
        began = self._monotonic()
        cursor = await self.log.claim(self.name, self.partition.cursor)
        await self._follower.read_to_end()
        # Our own TermStarted must be the last record: what comes after it is from a writer that has deposed us already.
        if self.partition.cursor != cursor:
            raise Fenced(f"partition {self.number} was claimed by another writer meanwhile")
        self._works()
        now = self._clock()
        self._check_clock(now)
        self._claimed_at = self._proven_at = began
        for _ in self.partition.beginning(cursor, reign_seconds, now):
            await asyncio.sleep(0)  # With many instances this takes a while, in which reads are answered.

    def _check_clock(self, now: datetime) -> None:
        """Say so when the clock is behind the log: all that is recorded gets the log's newest instant until it is reached."""
        behind = (self.partition.last_at - now).total_seconds()
        if behind > behind_seconds_min:
            facts = {"partition": self.number, "behind_seconds": round(behind, 1)}
            _LOG.warning("the clock is behind the newest instant in the log: events get that one", extra=facts)

    async def _reign(self) -> None:
        term = self.partition.cursor.term
        self.state, self.detail = "reigning", f"term {term}"
        _LOG.info("a reign begins", extra={"partition": self.number, "term": term})
        for observer in self.observers:
            observer.began(self.partition.streams)
        try:
            while self._wanted() and not (self._stopping and not self._queue):
                await self._wait_for_work()
                self.partition.deadlines.advance(self._monotonic())
                if self._monotonic() - self._claimed_at > renew_term_seconds:
                    return  # `_run` claims anew: a broker forgets the fence of a term that lasts for days.
                await self._group()
        finally:
            self._observed.clear()
            for observer in self.observers:
                observer.ended()

    async def _wait_for_work(self) -> None:
        if not self._queue and not self._beats and not self._observed and not self._stopping:
            self._work.clear()
            await self._work.wait()
        # Each proof of the reign costs as much as dozens of signs of life. So where they are alone, one that comes soon after
        # a proof lets others come with it; what anybody waits for goes at once, and takes them along.
        left = self._proven_at + gather_seconds_max - self._monotonic()
        if left > 0 and not self._hurries():
            self._hurry.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._hurry.wait()
        # Clients that were answered together ask again together: a few turns of the loop let all of them arrive, so that
        # they share one append (PostgreSQL's commit_siblings). A single client never waits.
        for _ in range(gather_turns_max):
            if len(self._queue) >= self._siblings:
                break
            await asyncio.sleep(0)

    async def _group(self) -> None:
        """Decide what waits as one group, append it or prove the reign with a beat, then answer. Never in another order."""
        if self._consumed is not None:
            self.partition.consume(*self._consumed)
            self._consumed = None
        taken, commands = self._taken()
        group = self.partition.step(self._clock(), commands, self._observed, self._beats.next())
        for _ in range(group.observed):
            self._observed.popleft()
        self._siblings = len(taken)
        idle = not taken and not group.expired and not group.heard and not group.batch
        if idle and self._monotonic() - self._proven_at < beat_every_seconds:
            self.partition.rollback(group)
            return
        # What the acknowledgement proves, it proves for this instant, not for the later one at which it arrives.
        began = self._monotonic()
        try:
            await (self.log.append(group.batch) if group.batch else self.log.beat())
        except (
            BaseException
        ) as error:  # Any failure ends the reign. The requests stay queued, and are answered in the next one.
            self.partition.rollback(group)
            for request, answers in answered(taken, group.answers):
                # Of what failed before it was stored, everybody knows the fate: it is not in the log.
                request.sent(0 if isinstance(error, StorageFailed) else len(answers))
            raise
        self._proven_at = began
        # The log has it. State and views move before the answers leave: a caller reads what it has just written. A crash
        # from here on loses only answers; the callers repeat their commands and get the same answers.
        self._commit(group)
        self._beats.heard(group.heard)
        for request, answers in answered(taken, group.answers):
            if request.answered(answers, group.cursor.position):
                self._queue.remove_first()

    def _taken(self) -> tuple[Taken, list[GivenCommand]]:
        """What the next group may decide at most. Requests stay in the queue until they are answered."""
        taken: Taken = []
        commands: list[GivenCommand] = []
        room = group_commands_max
        for request in self._queue:
            given = list(request.undecided(room))
            taken.append((request, len(given)))
            commands += given
            room -= len(given) or 1
            if room <= 0:
                break
        return taken, commands

    def _commit(self, group: Group) -> None:
        changed = self.partition.commit(group)
        if group.folded:
            self._views.apply(self.number, group.folded, group.cursor)
        self._views.confirm(self.number)
        for observer in self.observers:
            observer.changed(changed)

    def _refuse_waiting(self, error: NotReady | None = None) -> None:
        why = error or NotReady(f"partition {self.number} is not written here: {self.detail}")
        self._queue.refuse(self.partition.ids.recall, why)
        self._beats.refuse(why)
