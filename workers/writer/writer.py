"""The writer loop of one partition: follow the log, claim it, then decide, append, answer.

    following ──wanted──▶ claiming ──our TermStarted is valid──▶ reigning ──Fenced, Uncertain, unwanted──▶ following
        └──────────────────────────────── Corrupt ──────────────────────────────────▶ corrupt (stays; the others run on)

Group commit: what arrives while an append is under way is decided together in the next group. An answer leaves only
when the append or beat that began after its decision was acknowledged. When the fate of an append is unknown, its
requests wait: after the next claim the log says which were recorded, and the others are decided again; never guessed.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, Protocol

from domain.catalogue import Answer
from infra.log.port import START, Cursor, EventLog
from muster.wire.command import Command, Envelope
from muster.wire.error import Corrupt, Fenced, NotReady, Timeout, Transient
from workers.machine.partition import Folded, GroupFull, Partition
from workers.views.views import Views
from workers.writer.request import Request, Told, every, head, only

tick_seconds: Final = 0.1
beat_every_seconds: Final = 1.0
reign_seconds: Final = 5.0
renew_term_seconds: Final = 6 * 3600.0
group_commands_max: Final = 1_000
queue_commands_max: Final = 20_000
gather_turns_max: Final = 8
told_records_max: Final = 16_384
pause_seconds_min: Final = 0.05
pause_seconds_max: Final = 2.0

ChangedItem = tuple[str, str, Any]
"""A stream, an item of it, and the item's part now (None: it is gone); see `workers.machine.aggregate`."""

State = Literal["following", "claiming", "reigning", "corrupt", "stopped"]


class ReignObserver(Protocol):
    """Who works only while this writer reigns: health checks, the consumer of the commands topic."""

    def began(self, streams: dict[str, Any]) -> None:
        """A reign has begun with these states."""

    def changed(self, items: Sequence[ChangedItem]) -> None:
        """An acknowledged batch changed these items."""

    def ended(self) -> None:
        """The reign is over."""


Taken = list[tuple[Request, list[Answer]]]
"""What a group holds: requests, each with the answers to those of its commands that were decided in it."""


class Writer:
    """One partition's follower and, when wanted, writer. `execute` and `prove` may be called by many tasks at once.

    `clock` tells the instants of events, `monotonic` the seconds by which leases and reigns are measured.
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
        self.name = name
        self._views = views
        self._wanted = wanted
        self.observers: list[ReignObserver] = []
        self._reply_timeout_seconds = reply_timeout_seconds
        self._clock, self._monotonic = clock, monotonic
        self._queue: deque[Request] = deque()
        self._waiting = 0
        self._impatient: deque[tuple[float, Request]] = deque()
        self._observed: deque[tuple[str, Command]] = deque()
        self._work = asyncio.Event()
        self._siblings = 0
        self._stopping = False
        self._proven_at = 0.0
        self._claimed_at = 0.0
        self.recovered = asyncio.Event()

    async def execute(self, envelope: Envelope, offset: int | None = None) -> Answer:
        """As `submit`, and waits for the answer."""
        return await self.submit(envelope, offset)

    def submit(self, envelope: Envelope, offset: int | None = None) -> "asyncio.Future[Answer]":
        """See `workers.gateway.Executor.submit`. `offset`: the command's offset in its commands partition."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._enqueue(Request((envelope,), future, only, None if offset is None else (offset,)))
        return future

    def submit_all(
        self, envelopes: Sequence[Envelope], offsets: Sequence[int] | None = None
    ) -> "asyncio.Future[list[Told]]":
        """Queue the commands, all or none; the future has what became of them, in their order. Raises NotReady."""
        future: asyncio.Future[list[Told]] = asyncio.get_running_loop().create_future()
        if envelopes:
            self._enqueue(Request(envelopes, future, every, offsets))
        else:
            future.set_result([])
        return future

    async def prove(self) -> int:
        """See `workers.gateway.Executor.prove`. Requests that wait at the same time share one beat."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._enqueue(Request((), future, head))
        return await future

    def observe(self, stream: str, command: Command) -> None:
        """Queue what comes from inside; what a deposed writer saw is dropped, the next one looks again."""
        if self.state == "reigning":
            self._observed.append((stream, command))
            self._work.set()

    @property
    def waiting(self) -> int:
        """How many commands wait for their answers."""
        return self._waiting

    def stop(self) -> None:
        """Answer what is queued, then end `run`."""
        self._stopping = True
        self._work.set()

    def wake(self) -> None:
        """Look again at whether the partition is wanted."""
        self._work.set()

    def _enqueue(self, request: Request) -> None:
        if self.state in ("corrupt", "stopped") or self._stopping:
            raise NotReady(f"partition {self.number} takes no commands: {self.detail}")
        if self._waiting + request.size > queue_commands_max:
            raise NotReady(f"partition {self.number} has {queue_commands_max} commands waiting; slow down and retry")
        if self.state == "following" and self.recovered.is_set() and not self._wanted():
            raise NotReady(f"partition {self.number} is written by another controller: {self.detail}")
        self._queue.append(request)
        self._waiting += request.size
        if request.offsets is None:  # A published command has no impatient caller: its outcome comes when it comes.
            self._impatient.append((self._monotonic() + self._reply_timeout_seconds, request))
        self._work.set()

    async def _tick(self) -> None:
        """Look at the clock now and then; tell those who have waited too long that their outcome is unknown."""
        while True:
            await asyncio.sleep(tick_seconds)
            self._work.set()
            now = self._monotonic()
            while self._impatient and (self._impatient[0][1].future.done() or self._impatient[0][0] <= now):
                late = self._impatient.popleft()[1]
                late.fail(Timeout("no answer in time: the outcome is unknown. Retry with the same id."))

    async def run(self) -> None:
        """Follow, claim, reign, until stopped. Returns when stopped or corrupt."""
        ticking = asyncio.create_task(self._tick())
        try:
            await self._run()
        except Corrupt as error:
            self.state, self.detail = "corrupt", error.detail
            self.recovered.set()  # Others wait for no more than this; a crash is none of it.
        finally:
            ticking.cancel()
            if self.state != "corrupt":
                self.state, self.detail = "stopped", "the controller is stopping"
            self._refuse_waiting()

    async def _run(self) -> None:
        pause = pause_seconds_min
        while not self._stopping:
            try:
                await self._follow()
                if self._wanted() and not self._stopping:
                    await self._claim()
                    pause = pause_seconds_min
                    await self._reign()
            except Transient as error:
                self.state, self.detail = "following", error.detail
                await asyncio.sleep(pause)
                pause = min(pause * 2, pause_seconds_max)

    async def _follow(self) -> None:
        """Read to the log's end, and on as long as the partition is not wanted here."""
        self.state, self.detail = "following", "reading the log"
        await self._read_to_end()
        self.recovered.set()
        if self._wanted():
            return
        self.detail = f"writer {self.partition.cursor.writer} reigns, term {self.partition.cursor.term}"
        following = asyncio.create_task(self._follow_tail())
        try:
            while not self._wanted() and not self._stopping and not following.done():
                self._refuse_waiting()  # It may have been wanted for a moment, and have taken something.
                await self._wait_for_work()
        finally:
            following.cancel()
            # Waited for, not awaited: our own cancellation must not pass for the follower's.
            await asyncio.wait([following])
        if not following.cancelled() and (error := following.exception()) is not None:
            raise error

    async def _follow_tail(self) -> None:
        async for batch in self.log.tail(self.partition.cursor):
            if batch.cursor != self.partition.cursor:
                self._views.apply(self.number, self.partition.fold(batch), batch.cursor, batch.voids)
            self._views.confirm(self.number)

    async def _read_to_end(self) -> None:
        # Nobody can read the views yet of a partition that is read from its beginning: what watches could resume from is
        # told, and what happened long before is skimmed. They resume from what all partitions have told.
        skims, told_max = self.partition.cursor == START, told_records_max // len(self._views.cursors)
        try:
            async for batch in self.log.read(self.partition.cursor):
                if skims and batch.left <= told_max:
                    skims = False
                    self._views.complete(self.number, self.partition.streams)
                take = self._views.skim if skims else self._views.apply
                take(self.number, self.partition.fold(batch), batch.cursor, batch.voids)
                await asyncio.sleep(0)
        finally:
            self._views.complete(self.number, self.partition.streams)
        self._views.confirm(self.number)

    async def _claim(self) -> None:
        self.state, self.detail = "claiming", "starting a term"
        began = self._monotonic()
        cursor = await self.log.claim(self.name, self.partition.cursor)
        await self._read_to_end()
        if self.partition.cursor != cursor:
            raise Fenced(f"partition {self.number} was claimed by another writer meanwhile")
        self._claimed_at = self._proven_at = began
        for _ in self.partition.beginning(cursor, reign_seconds):
            await asyncio.sleep(0)  # Half a second with 100,000 instances, in which reads are answered.

    async def _reign(self) -> None:
        self.state, self.detail = "reigning", f"term {self.partition.cursor.term}"
        for observer in self.observers:
            observer.began(self.partition.streams)
        try:
            while self._wanted() and not (self._stopping and not self._queue):
                await self._wait_for_work()
                self.partition.deadlines.advance(self._monotonic())
                if self._monotonic() - self._claimed_at > renew_term_seconds:
                    return
                await self._group()
        finally:
            self._observed.clear()
            for observer in self.observers:
                observer.ended()

    async def _wait_for_work(self) -> None:
        if not self._queue and not self._observed and not self._stopping:
            self._work.clear()
            await self._work.wait()
        # Who was answered together will ask again together: a few turns of the loop let the others of the last group
        # catch up, so that they share one append (PostgreSQL's commit_siblings). A lone client never waits.
        for _ in range(gather_turns_max):
            if len(self._queue) >= self._siblings:
                break
            await asyncio.sleep(0)

    async def _group(self) -> None:
        """Decide what waits as one group, make it durable or prove the reign, answer."""
        partition = self.partition
        partition.open(self._clock())
        expired = partition.expire()
        taken = self._decide()
        self._siblings = len(taken)
        idle = not taken and not expired and not partition.pending()
        if idle and self._monotonic() - self._proven_at < beat_every_seconds:
            partition.rollback()
            return
        began = self._monotonic()
        stored, folded, cursor = partition.close()
        try:
            await (self.log.append(stored) if stored else self.log.beat())
        except BaseException:  # Whatever it was, it ends the reign, and nobody may be left waiting.
            self._roll_back(taken)
            raise
        self._proven_at = began
        self._commit(folded, cursor)
        self._answer(taken, cursor.position)

    def _decide(self) -> Taken:
        """What is taken stays in the queue until it is answered; what does not fit into the group any more waits for the next."""
        taken: Taken = []
        room, handle = group_commands_max, self.partition.handle
        with contextlib.suppress(GroupFull):
            while self._observed:
                self.partition.observe(*self._observed[0])
                self._observed.popleft()
            for request in self._queue:
                answers: list[Answer] = []
                taken.append((request, answers))
                for envelope, offset in request.undecided(room):
                    answers.append(handle(envelope, offset))
                room -= len(answers) or 1
                if room <= 0:
                    break
        return taken

    def _roll_back(self, taken: Taken) -> None:
        self.partition.rollback()
        for request, answers in taken:
            request.sent(len(answers))

    def _commit(self, folded: Sequence[Folded], cursor: Cursor) -> None:
        changed = self.partition.commit(cursor)
        if folded:
            self._views.apply(self.number, folded, cursor)
        self._views.confirm(self.number)
        for observer in self.observers:
            observer.changed(changed)

    def _answer(self, taken: Taken, position: int) -> None:
        for request, answers in taken:
            if request.answered(answers, position):
                self._queue.popleft()
                self._waiting -= request.size

    def _refuse_waiting(self) -> None:
        """Answer by what the log says. Of what was sent and is not there nobody knows: it may still be on its way."""
        unknown = "the reign ended before the log acknowledged it: the outcome is unknown. Retry with the same id."
        while self._queue:
            request = self._queue.popleft()
            for envelope in request.envelopes[len(request.told) : request.tried]:
                known = self.partition.ids.recall(envelope.id)
                request.told.append(Timeout(unknown) if known is None else known[0])
            request.fail(NotReady(f"partition {self.number} is not written here: {self.detail}"))
        self._waiting = 0
