"""What a member tells its group: that it is ready or not, that it serves, and that an epoch of its own has ended."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from muster.client.controllers.known import backoff_seconds
from muster.clock import elapsed_seconds
from muster.group import conduct
from muster.group.conduct import SayMember, SayServing
from muster.group.progress import DISMISSED, LOG, MemberProgress
from muster.group.standing import RenewalRefused, Told
from muster.group.words import Words
from muster.wire.error import Refused, StaleEpoch, Transient
from muster.wire.registry.answers import Written

leave_seconds_max: Final = 5.0
"""How long a process that ends waits until its last words are heard."""

Word = Callable[..., Awaitable[Written]]


class MemberReports:
    """The reports of one member."""

    def __init__(self, progress: MemberProgress, words: Words) -> None:
        self._progress = progress
        self._words = words
        self._saying: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Say what the group should know and does not, as long as the membership lasts."""
        while True:
            standing, now = self._progress.standing, elapsed_seconds()
            word = conduct.next_word(standing, now)
            if word is None:
                await self._progress.ring(standing.rests_until if standing.rests_until > now else math.inf)
                continue
            try:
                await self._speak(word)
            except DISMISSED as error:
                self._progress.dismiss(error)
            # Whatever else is refused must not end the membership of somebody who may be leading.
            except (Refused, Transient) as error:
                LOG.warning("%s could not report: %s", standing.member, error.detail)
                await asyncio.sleep(backoff_seconds(1))

    def ended(self, epoch: int, how: str, detail: str) -> None:
        """What was the primary of the epoch has ended: say so until it is heard, beside all else."""
        self._say(f"epoch {epoch} ended", self._words.ended, epoch, how, detail)

    def fenced(self, epoch: int, attempt: int, outcome: str, detail: str) -> None:
        """What came of fencing the primary of the epoch: say so until it is heard."""
        self._say(f"epoch {epoch} fenced", self._words.fenced, epoch, attempt, outcome, detail)

    def _say(self, name: str, word: Word, *about: object) -> None:
        task = asyncio.create_task(self._until_heard(word, *about), name=name)
        self._saying.add(task)
        task.add_done_callback(self._saying.discard)

    async def heard(self, seconds: float) -> None:
        """Return once all that was to be said until it is heard was, or after so long."""
        if self._saying:
            await asyncio.wait(self._saying, timeout=seconds)

    async def leave(self) -> None:
        """Say that nobody runs the member any more, after all that is still to be said; not for long, if nobody listens."""
        with suppress(TimeoutError):
            async with asyncio.timeout(leave_seconds_max):
                # In this order: a primary that leaves before its end is heard would be refused.
                while self._saying:
                    await asyncio.wait(self._saying)
                await self._until_heard(self._words.report, "left")
        for task in list(self._saying):
            task.cancel()

    async def _speak(self, word: SayMember | SayServing) -> None:
        progress = self._progress
        match word:
            case SayServing(epoch):
                # The epoch may have been fenced while the promote hook ran.
                try:
                    written = await self._words.serving(epoch)
                except StaleEpoch as error:
                    progress.happened(RenewalRefused(epoch, error.detail))
                    return
            case SayMember(outcome, failure, why):
                written = await self._words.report(outcome, failure=failure, why=why)
                LOG.info("%s is %s%s", progress.standing.member, outcome, f": {why}" if why else "")
        progress.happened(Told(written.version if written.version is not None else -1))

    async def _until_heard(self, word: Word, *about: object) -> None:
        tries = 0
        while True:
            try:
                await word(*about)
            except Transient as error:
                LOG.warning("%s says again what was not heard: %s", self._progress.standing.member, error.detail)
                await asyncio.sleep(backoff_seconds(tries))
                tries += 1
            except Refused as error:
                # The epoch is over by other means, or another process runs the member: nothing depends on this word.
                return LOG.info("what %s said came too late: %s", self._progress.standing.member, error.detail)
            else:
                return None
