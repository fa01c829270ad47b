"""Tells every few seconds what a balancer saw, for as long as it is open. No call waits for it, and none fails by it.

What does not arrive is lost: the next report is about the seconds since this one, since an old word is no evidence of now.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

from muster.balance.fleet import Fleet
from muster.balance.reports.tally import Tally
from muster.wire.error import InvalidCommand, MusterError
from muster.wire.telemetry.observations import Observations, observed_max, report_seconds_max

REPORT_SECONDS_MIN: Final = 0.1
_LOG: Final = logging.getLogger(__name__)

Report = Callable[[list[Observations]], Awaitable[object]]
"""Sends what was seen: a message, or a few where a client calls more than a thousand instances."""


class Reporter:
    """The reports of one balancer: it is known as `observer`, on `host` (empty: who hears it sees that)."""

    def __init__(self, fleet: Fleet, service: str, observer: str, host: str, seconds: float, send: Report) -> None:
        if not REPORT_SECONDS_MIN <= seconds <= report_seconds_max:
            reason = f"from {REPORT_SECONDS_MIN:g} to {report_seconds_max:g} s; None: no reports"
            raise InvalidCommand(f"report_seconds: {reason}", field="report_seconds")
        self._fleet = fleet
        self._service, self._observer, self._host = service, observer, host
        self._seconds = seconds
        self._send = send
        self._tally = Tally()
        self._failed = False

    async def run(self) -> None:
        """Report for ever, or until it turns out that the controllers know no reports."""
        # Balancers that began together, as after a deployment, must not report together.
        pause, since = self._seconds * random.uniform(0.5, 1.0), time.monotonic()
        while True:
            await asyncio.sleep(pause)
            pause, now = self._seconds, time.monotonic()
            # Where the process stood still: what was counted is of before, and would look like very little.
            passed, since = min(max(now - since, REPORT_SECONDS_MIN), report_seconds_max), now
            news = self._tally.news(self._fleet)
            parts = [news[start : start + observed_max] for start in range(0, len(news), observed_max)]
            told = [Observations(self._observer, self._service, round(passed, 3), part, self._host) for part in parts]
            if told and not await self._told(told):
                return

    async def _told(self, messages: list[Observations]) -> bool:
        """Send them; whether to go on."""
        try:
            async with asyncio.timeout(self._seconds):
                await self._send(messages)
        except Exception as error:  # noqa: BLE001 it may be the caller's code, and no call may end because nobody listens
            detail = error.detail if isinstance(error, MusterError) else repr(error)
            if detail.startswith("RouteNotFound:"):
                _LOG.info("what is seen of %s is not told: the controllers are of before", self._service)
                return False
            # Once for an outage: it would be said every few seconds by every balancer.
            _LOG.log(logging.DEBUG if self._failed else logging.WARNING, "what was seen is lost: %s", detail)
            self._failed = True
        else:
            self._failed = False
        return True
