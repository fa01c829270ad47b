"""Fencing by a hook: the member's process sees to it that a primary which is not heard acknowledges nothing any more.

It goes beside all else that the member does, since it is about another one. What it has come to is told to the group: that proves
the end of the epoch, or it is tried again, by this member or another one, until the lease has ended the epoch anyway.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable

from muster.clock import elapsed_seconds
from muster.group import conduct
from muster.group.progress import LOG, MemberProgress, problem_of, shortened
from muster.group.reports import MemberReports
from muster.group.standing import FenceTried
from muster.wire.value import value


@value
class FenceTarget:
    """Whom to fence: the member that leads with this epoch, at this address, by the process that joined with this incarnation."""

    member: str
    address: str
    epoch: int
    incarnation: int


Fence = Callable[[FenceTarget], Awaitable[str]]
"""Returns once the target acknowledges nothing any more, with what there is to say about it; else it raises."""


class Fencing:
    """Fences for one member, as often as its group wants it. Without `fence` the group never asks."""

    def __init__(self, progress: MemberProgress, reports: MemberReports, fence: Fence | None) -> None:
        self._progress = progress
        self._reports = reports
        self._fence = fence

    async def run(self) -> None:
        """Fence whenever it is wanted, as long as the membership lasts."""
        while self._fence is not None:
            standing, now = self._progress.standing, elapsed_seconds()
            epoch = conduct.fence_due(standing, now)
            if epoch is None:
                await self._progress.ring(standing.fence_again_at if standing.fence_again_at > now else math.inf)
            else:
                await self._try(epoch, self._fence)

    async def _try(self, epoch: int, fence: Fence) -> None:
        progress, row = self._progress, self._progress.standing.row
        assert row is not None, "nobody is to be fenced"
        assert row.primary is not None, "nobody is to be fenced"
        target = FenceTarget(row.primary, row.address or "", epoch, row.incarnation or 0)
        LOG.info("%s fences %s, which leads epoch %s and is not heard", progress.standing.member, target.member, epoch)
        said: list[str] = []

        async def fenced() -> None:
            said.append(await fence(target))

        fencing = asyncio.create_task(problem_of(fenced), name=f"fence {target.member}")
        if not await self._wanted(fencing, epoch):
            return LOG.info("%s need not be fenced any more", target.member)
        problem = fencing.result()
        progress.happened(FenceTried(epoch, elapsed_seconds(), problem is None))
        tries = progress.standing.fence_tries
        if problem is not None:
            LOG.error("%s could not be fenced: %s", target.member, problem)
            return self._reports.fenced(epoch, tries, "failed", problem)
        LOG.info("%s is fenced", target.member)
        return self._reports.fenced(epoch, tries, "done", shortened(str(said[0] or "").strip()))

    async def _wanted(self, fencing: "asyncio.Task[str | None]", epoch: int) -> bool:
        """Wait for its end, as long as that is wanted; whether it still is."""
        try:
            while not fencing.done():
                if conduct.fence_due(self._progress.standing, elapsed_seconds()) != epoch:
                    return False
                ring = asyncio.create_task(self._progress.ring())
                await asyncio.wait({fencing, ring}, return_when=asyncio.FIRST_COMPLETED)
                ring.cancel()
            return True
        finally:
            # Also when the membership ends: what it has begun is over before anything else is.
            fencing.cancel()
            await asyncio.wait([fencing])
