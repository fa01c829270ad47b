"""What a member is asked about itself: whether it is fit to lead, and how far its copy reaches. One question at a time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from muster.clock import elapsed_seconds
from muster.group import conduct
from muster.group.progress import DISMISSED, LOG, MemberProgress, problem_of
from muster.group.standing import CheckAnswered, Positioned
from muster.group.words import Words
from muster.wire.error import InvalidCommand, Refused, StaleEpoch, Transient
from muster.wire.groups.answers import POSITION_BITS

Check = Callable[[], Awaitable[None]]
Position = Callable[[], Awaitable[int]]


class ProbeAnswer(NamedTuple):
    """What a question came to; `problem`: None, if there is none."""

    problem: str | None


class Probes:
    """The questions to the service; without a check it is always fit. A question that is in the way of more is broken off."""

    def __init__(self, progress: MemberProgress, words: Words, check: Check | None, position: Position | None) -> None:
        self._progress = progress
        self._words = words
        self._check = check
        self._position = position
        self._said: tuple[int, int] | None = None
        self._asking: asyncio.Future[str | None] | None = None

    async def stop(self) -> None:
        """Break off what is being asked: the member is about to be promoted or demoted."""
        if self._asking is not None and not self._asking.done():
            self._asking.cancel()
            await asyncio.wait([self._asking])

    async def check(self) -> None:
        """Ask whether it is fit every other heartbeat, and at once after a demotion, which may have changed that."""
        progress = self._progress
        while True:
            standing = progress.standing
            asks = standing.phase in ("standby", "primary") and (self._asking is None or self._asking.done())
            if asks and (answer := await self._asked(problem_of(self._check)) if self._check else ProbeAnswer(None)):
                fit, why = answer.problem is None, answer.problem or ""
                if (progress.standing.fit, progress.standing.unfit_why) != (fit, why):
                    progress.happened(CheckAnswered(fit, why))
            row = standing.row
            until = elapsed_seconds() + 2 * (row.heartbeat_seconds if row is not None else 0.5)
            while elapsed_seconds() < until and not _anew(progress):
                await progress.ring(until)

    async def measure(self) -> None:
        """Ask how far its copy reaches when the group wants to know, and tell it."""
        if self._position is None:
            return
        while True:
            epoch = conduct.position_due(self._progress.standing, elapsed_seconds())
            if epoch is None:
                await self._progress.ring(elapsed_seconds() + conduct.position_again_seconds)
                continue
            # A check may hang; a failover waits for this.
            await self.stop()
            said = await self._positioned(epoch, self._position)
            self._progress.happened(Positioned(epoch if said else 0, elapsed_seconds()))

    async def _positioned(self, epoch: int, ask: Position) -> bool:
        found: list[int] = []

        async def asked() -> None:
            found.append(_checked(await ask()))

        answer = await self._asked(problem_of(asked))
        if answer is None or answer.problem is not None:
            why = answer.problem if answer is not None else "the question was broken off"
            LOG.warning("%s does not know how far its copy reaches: %s", self._progress.standing.member, why)
            return False
        position = found[0]
        try:
            if self._said != (epoch, position):
                await self._words.position(epoch, position)
                self._said = (epoch, position)
        except StaleEpoch:
            return False  # There is another epoch by now: it is asked for that one.
        except DISMISSED as error:
            self._progress.dismiss(error)
        # Whatever else is refused must not end the membership of somebody who may be leading.
        except (Refused, Transient) as error:
            LOG.warning("%s could not say how far its copy reaches: %s", self._progress.standing.member, error.detail)
            return False
        return True

    async def _asked(self, question: Awaitable[str | None]) -> ProbeAnswer | None:
        """The answer; None: the question was broken off."""
        self._asking = asking = asyncio.ensure_future(question)
        try:
            # Not awaited itself: that it is broken off must not pass for our own cancellation.
            await asyncio.wait([asking])
        finally:
            asking.cancel()
        return None if asking.cancelled() else ProbeAnswer(asking.result())


def _checked(position: int) -> int:
    """The position; raises InvalidCommand if it is none. Whatever the service's code has answered."""
    if type(position) is not int or not 0 <= position < 1 << POSITION_BITS:
        said = repr(position)[:100]
        raise InvalidCommand(f"position: must be a whole number from 0 on, of at most {POSITION_BITS} bits, not {said}")
    return position


def _anew(progress: MemberProgress) -> bool:
    return progress.standing.fit is None and progress.standing.phase == "standby"
