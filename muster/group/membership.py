"""A member of a failover group, for a service that hosts itself: it joins, leads when it is given the epoch, and stops in time.

    async def lead(epoch: int) -> None: ...       # become the primary: returns when it serves
    async def follow(epoch: int) -> None: ...     # be it no more: returns when nothing of it acts any more

    async with muster.Membership("db", "db1", address="10.0.0.7:5432", on_promote=lead, on_demote=follow) as membership:
        await membership.ended()

What to do next is decided in `muster.group.conduct`; here it is done. Before each thing that only the primary may do, look at
`membership.leads`, and send `membership.epoch` along to whatever can refuse an older one.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import KW_ONLY, dataclass
from typing import Final, Self
from uuid import uuid4

import orjson

from muster.client.controllers.known import backoff_seconds
from muster.client.controllers.waiting import ControllerWait
from muster.client.event_stream import follow
from muster.client.transport import Transport, path_of
from muster.clock import elapsed_seconds
from muster.group import conduct
from muster.group.conduct import Claim, Demote, End, Idle, Leave, Promote, Settle
from muster.group.fencing import Fence, Fencing
from muster.group.probes import Check, Position, Probes
from muster.group.progress import LOG, MemberProgress, problem_of, shortened
from muster.group.renewals import OnLease, Renewals, SharedRenewals, shared_renewals
from muster.group.reports import MemberReports
from muster.group.standing import (
    Demoted,
    DemotionBegan,
    Fell,
    GroupSeen,
    HookFailed,
    Leaving,
    MemberStanding,
    Promoted,
    PromotionBegan,
    Settled,
)
from muster.group.words import Words
from muster.wire import DEFAULT_URL
from muster.wire.error import MusterError, Transient
from muster.wire.groups.answers import GROUPS, GroupState, Role

OfEpoch = Callable[[int], Awaitable[None]]
word_first_seconds: Final = 0.1
"""How long what is put away after an end waits until the group has heard of that end."""


@dataclass(eq=False)
class Membership:
    """One process's membership; `async with` joins, and leaves at the end, also as the primary. Belongs to one event loop.

    `address` is told to the clients of the group. `on_promote(epoch)` makes the process the primary, and what it raises means
    that it is not; it may be cancelled. `on_demote(epoch)` ends that: it is called after each call of `on_promote`, whatever
    became of it, and once it has returned another member may lead. `check()` raises when the process is not fit to lead, and
    why; `position()` says how far its copy reaches. None of them is called while another one runs; a check or a position that
    is in the way of a promotion is cancelled. `on_join()` is called once, before all others; `on_lease(renewed_at,
    lease_seconds)` at each renewal of a primary that was accepted.

    `fence(target)` is for groups with `fencing="hook"`: it sees to it that the primary `target`, which is not heard, acknowledges
    nothing any more, and says how; it raises if that is not sure. It runs beside the others, and is cancelled when the group does
    not want it any more.

    `url`, of one controller or of several, and `cluster` are as for `muster.Client`. A controller that is away is waited for.
    Entering raises GroupNotFound and MemberNotFound.
    """

    group: str
    member: str
    _: KW_ONLY
    url: str | Sequence[str] = DEFAULT_URL
    cluster: str | None = None
    address: str = ""
    on_promote: OfEpoch | None = None
    on_demote: OfEpoch | None = None
    check: Check | None = None
    position: Position | None = None
    on_join: Callable[[], Awaitable[None]] | None = None
    on_lease: OnLease | None = None
    fence: Fence | None = None

    def __post_init__(self) -> None:
        self._transport = Transport(
            self.url, actor=f"member {self.group}/{self.member}", timeout_seconds=10.0, cluster=self.cluster
        )
        self._words = Words(self._transport, self.group, self.member)
        self._progress = MemberProgress(MemberStanding(member=self.member, incarnation=0))
        self._renewals = Renewals(self._progress, self._words, self.on_lease)
        self._reports = MemberReports(self._progress, self._words)
        self._fencing = Fencing(self._progress, self._reports, self.fence)
        self._probes = Probes(self._progress, self._words, self.check, self.position)
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._transport.open()
        try:
            await self._join()
        except BaseException:
            await self._transport.close()
            raise
        self._running = asyncio.create_task(self._run(), name=f"member {self.group}/{self.member}")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._running is not None, "left before it was entered"
        self._progress.happened(Leaving())
        await asyncio.wait([self._running])
        await self._transport.close()
        # `ended` raises it, and the log has it; nobody may have asked.
        self._running.exception()

    # What the process may know

    @property
    def role(self) -> Role:
        """`primary` from when it begins to become it until it has stopped being it."""
        return conduct.role(self._progress.standing)

    @property
    def epoch(self) -> int:
        """The epoch of which it is the primary, or was it last; 0: it has not been it yet."""
        return self._progress.standing.epoch

    @property
    def leads(self) -> bool:
        """Whether it may act as the primary now. To be asked each time: it ends with the lease, at an instant, by itself."""
        return conduct.leads(self._progress.standing, elapsed_seconds())

    @property
    def row(self) -> GroupState | None:
        """The group as it was seen last."""
        return self._progress.standing.row

    @property
    def incarnation(self) -> int:
        """The incarnation of the member with which this process has joined."""
        return self._progress.standing.incarnation

    async def ended(self) -> None:
        """Wait for the end of the membership. Raises what has ended it: StaleIncarnation (another process runs this member),
        GroupNotFound, MemberNotFound.
        """
        assert self._running is not None, "it has not joined yet"
        await asyncio.wait([self._running])
        self._running.result()

    def ended_by_itself(self, why: str) -> None:
        """What acts as the primary here has ended, and was seen to have: the group is told at once."""
        standing = self._progress.standing
        if conduct.role(standing) != "primary" or standing.fell is not None:
            return
        # Before anything else is done: another member waits for nothing but this.
        if standing.epoch > standing.over:
            self._reports.ended(standing.epoch, "seen", shortened(why))
        self._progress.happened(Fell(why, elapsed_seconds()))

    # The run

    async def _join(self) -> None:
        process, tries = uuid4().hex, 0
        wait = ControllerWait(
            LOG, f"{self.member} cannot join {self.group} yet", lambda: self._transport.controllers.urls
        )
        while True:
            try:
                with wait.asking():
                    await self._words.join(process, self.address, fences=self.fence is not None)
            except Transient:
                await asyncio.sleep(backoff_seconds(tries))
                tries += 1
            else:
                break
        self._progress.standing = MemberStanding(member=self.member, incarnation=self._words.incarnation)
        LOG.info("%s of %s has joined, incarnation %s", self.member, self.group, self._words.incarnation)

    async def _run(self) -> None:
        async with shared_renewals(self.url, self.cluster) as shared:
            await self._work(shared)

    async def _work(self, shared: SharedRenewals) -> None:
        works = (
            self._watch(),
            self._renewals.run(shared),
            self._reports.run(),
            self._probes.check(),
            self._probes.measure(),
            self._fencing.run(),
        )
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(work) for work in works]
                try:
                    await self._conduct()
                finally:
                    for task in tasks:
                        task.cancel()
        except ExceptionGroup as group_of:
            raise group_of.exceptions[0] from None

    async def _watch(self) -> None:
        tries, path = 0, path_of("watch", GROUPS.name)
        while True:
            try:
                asked = {"group": self.group}
                async with aclosing(follow(self._transport, path, asked, self._rows, math.inf)) as rows:
                    async for row in rows:
                        tries = 0
                        self._progress.happened(GroupSeen(row))
            except MusterError as error:
                LOG.warning("%s does not see its group: %s: %s", self.member, error.name, error.detail)
            except Exception as error:  # noqa: BLE001 a row that cannot be read must not end a primary without its demotion
                LOG.warning("%s cannot read what it is told of its group", self.member, exc_info=error)
            await asyncio.sleep(backoff_seconds(tries))
            tries += 1

    def _rows(self, event: str, data: bytes, _token: str) -> Iterator[GroupState]:
        if event in ("snapshot", "delta"):
            for row in orjson.loads(data)["items"]:
                if row["group"] == self.group:
                    yield GROUPS.one.validate_python(row)

    async def _conduct(self) -> None:
        progress = self._progress
        while True:
            match conduct.next_step(progress.standing, elapsed_seconds()):
                case Idle(until):
                    await progress.ring(until)
                case Settle():
                    await self._settle()
                case Claim(epoch):
                    if not await self._renewals.claimed(epoch):
                        # News of the group ends the pause: another controller may have been found.
                        await progress.ring(self._renewals.again_at())
                case Promote(epoch):
                    await self._promote(epoch)
                case Demote(epoch, why):
                    await self._demote(epoch, why)
                case Leave():
                    await self._reports.leave()
                    return LOG.info("%s has left %s", self.member, self.group)
                case End():
                    assert progress.dismissal is not None, "dismissed without a refusal"
                    raise progress.dismissal

    async def _settle(self) -> None:
        progress = self._progress
        while self.on_join is not None and not progress.standing.leaving and progress.standing.gone is None:
            joining = asyncio.create_task(problem_of(self.on_join))
            if await self._interrupted(joining) is not None:
                break
            problem = joining.result()
            if problem is None:
                break
            LOG.error("%s cannot begin, and tries again: %s", self.member, problem)
            progress.happened(HookFailed(problem, elapsed_seconds()))
            while elapsed_seconds() < progress.standing.rests_until and not progress.standing.leaving:
                await progress.ring(progress.standing.rests_until)
        progress.happened(Settled())

    async def _promote(self, epoch: int) -> None:
        progress = self._progress
        progress.happened(PromotionBegan(epoch))
        LOG.info("%s is promoted: it becomes the primary of epoch %s", self.member, epoch)
        await self._probes.stop()
        if self.on_promote is not None:
            promoting = asyncio.create_task(problem_of(self.on_promote, epoch))
            if (why := await self._interrupted(promoting)) is not None:
                # The next step is to demote it: whatever has become of it is undone there.
                return LOG.warning("its promotion to epoch %s is broken off: %s", epoch, why)
            if (problem := promoting.result()) is not None:
                LOG.error("%s could not become the primary of epoch %s: %s", self.member, epoch, problem)
                return progress.happened(HookFailed(problem, elapsed_seconds()))
        LOG.info("%s is the primary of epoch %s", self.member, epoch)
        return progress.happened(Promoted(elapsed_seconds()))

    async def _interrupted(self, hook: "asyncio.Task[str | None]") -> str | None:
        """Wait for the end of the hook, a promotion or what is put away at the start; why it was broken off, if it was."""
        progress = self._progress
        while not hook.done():
            if (why := conduct.interruption(progress.standing, elapsed_seconds())) is not None:
                hook.cancel()
                await asyncio.wait([hook])
                return why
            until = math.inf if progress.standing.phase == "starting" else conduct.stops_at(progress.standing)
            ring = asyncio.create_task(progress.ring(until))
            await asyncio.wait({hook, ring}, return_when=asyncio.FIRST_COMPLETED)
            ring.cancel()
        return None

    async def _demote(self, epoch: int, why: str) -> None:
        progress = self._progress
        fell = progress.standing.fell is not None
        progress.happened(DemotionBegan())
        LOG.info("%s is demoted from epoch %s: %s", self.member, epoch, why)
        await self._probes.stop()
        if fell:
            # Others wait for the word of its end, and to start a hook stops this loop for milliseconds. So the word goes first.
            await self._reports.heard(word_first_seconds)
        problem = await problem_of(self.on_demote, epoch) if self.on_demote is not None else None
        if problem is not None:
            # Nobody knows whether it has stopped, so nobody says so: the others wait for the end of the lease.
            LOG.error("%s could not be stopped as the primary of epoch %s: %s", self.member, epoch, problem)
            progress.happened(HookFailed(problem, elapsed_seconds()))
        elif not fell and progress.standing.gone is None:
            self._reports.ended(epoch, "said", shortened(why))
        progress.happened(Demoted(elapsed_seconds()))
