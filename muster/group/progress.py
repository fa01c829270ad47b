"""What has happened to a member so far, and whoever waits for the next thing."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from muster.clock import elapsed_seconds
from muster.group.conduct import stood_still
from muster.group.standing import Gone, Happening, MemberStanding, StoodStill, evolve
from muster.wire.error import GroupNotFound, MemberNotFound, MusterError, StaleIncarnation

LOG: Final = logging.getLogger("muster.group")
why_chars_max: Final = 1_024

DISMISSED: Final = (StaleIncarnation, GroupNotFound, MemberNotFound)
"""The refusals that end a membership."""


class MemberProgress:
    """The member's standing as the loops of its process share it. Belongs to one event loop."""

    def __init__(self, standing: MemberStanding) -> None:
        self.standing = standing
        self.dismissal: MusterError | None = None
        self._rung = asyncio.Event()

    def happened(self, happening: Happening) -> None:
        """It has happened: all who wait look again, each by itself."""
        self.standing = evolve(self.standing, happening)
        # A new event each time: who comes back to wait later must not be woken by what it has seen already.
        rung, self._rung = self._rung, asyncio.Event()
        rung.set()

    async def ring(self, until: float = math.inf) -> None:
        """Wait until something happens, or until the instant."""
        began = elapsed_seconds()
        seconds = until - began
        with suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == math.inf else max(0.0, seconds)):
                await self._rung.wait()
        self._woke(began, until)

    async def sleep(self, until: float) -> None:
        """Wait until the instant, whatever happens."""
        began = elapsed_seconds()
        await asyncio.sleep(max(0.0, until - began))
        self._woke(began, until)

    def _woke(self, began: float, due: float) -> None:
        now = elapsed_seconds()
        if stood_still(began, due, now):
            self.happened(StoodStill(now))

    def dismiss(self, error: MusterError) -> None:
        """The group has refused the member itself: the membership ends with that."""
        # Several loops hear the same refusal: the first one counts.
        if self.dismissal is None:
            LOG.error("%s is no member any more: %s", self.standing.member, error.detail)
            self.dismissal = error
            self.happened(Gone(error.detail))


async def problem_of(call: Callable[..., Awaitable[None]], *about: object) -> str | None:
    """What the service's own code raised, in words; None: nothing. Called here, so that nothing it does ends the membership."""
    try:
        await call(*about)
    except MusterError as error:
        return shortened(error.detail)
    # Whatever it is: it means that the service is not what it was to become.
    except Exception as error:
        LOG.debug("it raised", exc_info=error)
        return shortened(f"{type(error).__name__}: {error}")
    return None


def shortened(text: str) -> str:
    """The text as the group may keep it: its end, if it is long, and without what is no Unicode, like parts of a file's name."""
    text = text.encode(errors="replace").decode()
    return text if len(text) <= why_chars_max else f"…{text[1 - why_chars_max :]}"
