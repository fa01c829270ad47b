"""Tells every few seconds what a balancer saw, for as long as it is open and is to. No call waits for it, and none fails by it.

What does not arrive is lost: the next report is about the seconds since this one, since an old word is no evidence of now.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from muster.balance.fleet import Fleet
from muster.balance.reports.tally import Tally
from muster.wire.error import MusterError
from muster.wire.telemetry.observations import REPORT_SECONDS_MIN, Observations, observed_max, report_seconds_max

_LOG: Final = logging.getLogger(__name__)

Report = Callable[[list[Observations]], Awaitable[object]]
"""Sends what was seen: a message, or a few where a client calls more than a thousand instances."""


class Reporter:
    """The reports of one balancer, every so many `seconds` (0: none): it is known as `observer`, on `host` (empty: who hears it
    sees that).
    """

    def __init__(self, fleet: Fleet, service: str, observer: str, host: str, seconds: float, send: Report) -> None:
        self._fleet = fleet
        self._service, self._observer, self._host = service, observer, host
        self._seconds = seconds
        self._send = send
        self._tally = Tally()
        self._failed = False
        self._changed = asyncio.Event()

    def set(self, seconds: float) -> None:
        """Report so often from now on; 0: not at all."""
        if seconds != self._seconds:
            self._seconds = seconds
            self._changed.set()

    async def run(self) -> None:
        """Report as often as was said last, for ever, or until it turns out that the controllers know no reports."""
        # Of this event loop: whoever opens a balancer again may do so in another one.
        self._changed, known = asyncio.Event(), True
        while known:
            self._changed.clear()
            # What was counted while nothing was told would look like the work of these few seconds.
            self._tally.news(self._fleet)
            # Balancers that began together, or were told together by an operator, must not report together.
            pause, since = self._seconds * random.uniform(0.5, 1.0), time.monotonic()
            while known and not await self._is_changed_within(pause):
                pause, now = self._seconds, time.monotonic()
                # Where the process stood still: what was counted is of before, and would look like very little.
                passed, since = min(max(now - since, REPORT_SECONDS_MIN), report_seconds_max), now
                known = await self._told(self._news(round(passed, 3)))

    async def _is_changed_within(self, seconds: float) -> bool:
        """Wait so long (0: for ever) for another time between reports; whether there is one."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds or None):
                await self._changed.wait()
        return self._changed.is_set()

    def _news(self, seconds: float) -> list[Observations]:
        news = self._tally.news(self._fleet)
        parts = [news[start : start + observed_max] for start in range(0, len(news), observed_max)]
        return [Observations(self._observer, self._service, seconds, part, self._host) for part in parts]

    async def _told(self, messages: list[Observations]) -> bool:
        """Send them, if there are any; whether to go on."""
        if not messages:
            return True
        try:
            async with asyncio.timeout(self._seconds):
                await self._send(messages)
        except Exception as error:  # noqa: BLE001 it may be the caller's code, and no call may end because nobody listens
            detail = error.detail if isinstance(error, MusterError) else repr(error)
            if detail.startswith("RouteNotFound:"):
                _LOG.info("what is seen of %s is not told: the controllers are of an older version", self._service)
                return False
            # Once for an outage: it would be said every few seconds by every balancer.
            _LOG.log(logging.DEBUG if self._failed else logging.WARNING, "what was seen is lost: %s", detail)
            self._failed = True
        else:
            self._failed = False
        return True
