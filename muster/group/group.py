"""Who the primary of a failover group is, for its clients.

    async with muster.Group("db", url="http://127.0.0.1:8740") as db:
        primary = await db.primary(timeout_seconds=10)
        await session.get(f"http://{primary.address}/", headers=db.headers(primary))
        async for primary in db.changes():
            ...

It follows the group's row, so that an answer costs no request, and a call that comes during a failover waits for its end. It
never goes back to a lower epoch than one it has seen, also when it goes on at a controller that is behind; nor than one that
its caller has heard of elsewhere (`epoch`), as in the refusal of a stale primary.

The answer is what was recorded, a moment ago: the primary may have ended since. So send its epoch along (`headers`): a process
that is the primary of another epoch refuses, if it has a `muster.GuardMiddleware`.
"""

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Self

from muster.client.client import Client
from muster.durations import seconds_from
from muster.wire import DEFAULT_URL
from muster.wire.error import GroupNotFound, MusterError, NoPrimary
from muster.wire.groups.answers import EPOCH_HEADER, GROUPS, GroupState

WATCH_AGAIN_SECONDS: Final = 1.0
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Primary:
    """Who leads the group, at `address` (empty, if its runner was given none), with `epoch`, its fencing token."""

    member: str
    address: str
    epoch: int


class Group:
    """A failover group's client; use it as `async with Group(name, url) as db`. Opening raises GroupNotFound.

    `url`, of one controller or of several, and `cluster` are as for `muster.Client`. `hold_seconds` is for how long a call
    waits for a primary unless it says otherwise, `timeout_seconds` bounds the opening.

    While no controller answers, what was known last stays.
    """

    def __init__(
        self,
        name: str,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        hold_seconds: float = 15.0,
        timeout_seconds: float = 10.0,
        cluster: str | None = None,
    ) -> None:
        self.name = name
        self._hold_seconds = seconds_from(hold_seconds, "hold_seconds", least=0)
        self._client = Client(url, timeout_seconds=timeout_seconds, cluster=cluster)
        self._row: GroupState | None = None
        self._epoch = 0
        self._missing: GroupNotFound | None = None
        self._trouble: MusterError | None = None
        self._watching: asyncio.Task[None] | None = None
        self._closed = False
        # Replaced with each news: all that wait are woken by one, and look for themselves.
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        try:
            # Strong: the group may have been created a moment ago, by a client whose token is not known here.
            self._take(await self._client.row(GROUPS, self.name, consistency="strong"))
        except BaseException:
            await self._client.__aexit__()
            raise
        self._watching = asyncio.create_task(self._watch(), name=f"group {self.name}")
        # It ends by a fault alone, like a row that cannot be read: who waits is told, and does not wait for nothing.
        self._watching.add_done_callback(lambda _: self._tell())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await self._client.__aexit__()

    @property
    def current(self) -> Primary | None:
        """The primary as it is known now; None: nobody leads and serves, or not yet with an epoch as high as was seen."""
        row = self._row
        if self._missing is not None or row is None or row.epoch < self._epoch:
            return None
        if row.primary is None or row.fenced or not row.serving:
            return None
        return Primary(row.primary, row.address or "", row.epoch)

    async def primary(self, *, timeout_seconds: float | None = None, epoch: int = 0) -> Primary:
        """The primary; waits through a failover until one serves. Raises NoPrimary, with since when and why, and GroupNotFound.

        `epoch`: the caller has heard of this one, so from now on no lower one is given.
        """
        seconds = self._hold_seconds
        if timeout_seconds is not None:
            seconds = seconds_from(timeout_seconds, "timeout_seconds", least=0)
        ends_at = asyncio.get_running_loop().time() + seconds
        self._epoch = max(self._epoch, epoch)
        while True:
            news = self._news
            self._check_open()
            if (found := self.current) is not None:
                return found
            try:
                async with asyncio.timeout_at(ends_at):
                    await news.wait()
            except TimeoutError:
                raise self._nobody(seconds) from None

    async def changes(self) -> AsyncGenerator[Primary, None]:
        """The primary, then each that follows, with higher and higher epochs; of several that came meanwhile only the last.

        Raises GroupNotFound when the group is deleted. Whether one serves at the moment `current` says.
        """
        last: Primary | None = None
        while True:
            news = self._news
            self._check_open()
            found = self.current
            if found is not None and found != last:
                last = found
                yield found
            else:
                await news.wait()

    @staticmethod
    def headers(primary: Primary) -> dict[str, str]:
        """What to send along to the primary, and what it sends along to what it writes to: `{"Muster-Epoch": "7"}`."""
        return {EPOCH_HEADER: str(primary.epoch)}

    def _check_open(self) -> None:
        if self._watching is None:
            raise RuntimeError("the group is not open: use `async with Group(…)`")
        if self._closed:
            raise NoPrimary(f"{self.name}: the client was closed", group=self.name)
        if self._watching.done():
            self._watching.result()
        if self._missing is not None:
            raise self._missing

    def _nobody(self, seconds: float) -> NoPrimary:
        row = self._row
        assert row is not None, "an open group has a row"
        if row.epoch < self._epoch:
            why = f"epoch {self._epoch} was heard of, and the controllers know epoch {row.epoch}"
        elif row.fenced:
            why = f"{row.primary} is to stop, and {row.failover or 'a failover'} waits for that"
        else:
            why = row.degraded or "one serves by now"
        since = None if row.since is None or row.fenced else row.since.isoformat(timespec="milliseconds")
        detail = f"{self.name} had no primary that serves within {seconds:g} s: {why}"
        if since is not None:
            detail += f" (since {since})"
        if self._trouble is not None:
            detail += f"; the group cannot be watched: {self._trouble.detail}"
        return NoPrimary(detail, group=self.name, epoch=self._epoch, since=since)

    async def _watch(self) -> None:
        while True:
            try:
                await self._follow()
            except MusterError as error:
                # Calls go on with what was known last, and say so when that is not enough.
                _LOG.warning("the group %s cannot be watched: %s", self.name, error.detail)
                self._trouble = error
                await asyncio.sleep(WATCH_AGAIN_SECONDS)

    async def _follow(self) -> None:
        begun = False
        async with aclosing(
            self._client.watch_rows(GROUPS, group=self.name, reconnect_seconds_max=math.inf)
        ) as changes:
            async for change in changes:
                self._trouble = None
                rows = [row for row in change.changed if row.group == self.name]
                for row in rows:
                    self._take(row)
                if self.name in change.gone or (not begun and not rows):
                    await self._look()
                begun = True

    async def _look(self) -> None:
        """Whether the group is there no more: the picture that it was missing in may have been an old one."""
        try:
            self._take(await self._client.row(GROUPS, self.name))
        except GroupNotFound as error:
            self._missing = error
            self._tell()

    def _take(self, row: GroupState) -> None:
        held = self._row
        # A controller that is behind may answer now, with what is over.
        if held is not None and (row.epoch, row.version) < (held.epoch, held.version):
            return
        self._row, self._missing = row, None
        self._epoch = max(self._epoch, row.epoch)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
