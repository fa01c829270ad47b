"""How current an answer is: the four consistency levels, and what every answer says of its position and age.

eventual   the local view as it is
session    … once it has reached the client's own token (header `Muster-Token`)
causal     … once it has reached a token handed over by another client; the same wait
strong     … once it has reached the head that the partition's writer has just proven

What a token has seen of another log, which was lost or replaced, can never be reached: such a read is refused (`OtherLog`). A
view that is only late is waited for; whether it is late or its log shorter, the head says that the writer proves.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import orjson

from muster.wire.error import NotReady, Timeout
from muster.wire.token import Positions, Token, parse_token, positions_of
from workers.gateway import Gateway
from workers.http.exchange import JSON_OPTIONS, Headers, Items, Reading, Reply

late_seconds: Final = 0.5
"""How long a view may be behind a token before the writer is asked whether its log ends there."""

Unready = Callable[[], str | None]
"""Why the controller cannot answer yet and what to do; None when it can."""


def always_ready() -> None:
    """For tests and for controllers that recover before they listen."""


Marks = tuple[str, float, Headers]
"""An answer's token, its age in seconds, and the headers that say so."""


@dataclass(frozen=True, slots=True)
class Reader:
    """What all reads share. A view older than `stale_after_seconds` still answers, and says that it is stale."""

    gateway: Gateway
    unready: Unready
    stale_after_seconds: float
    unwritten: Unready = always_ready

    def ready(self) -> None:
        """Raises NotReady until the first recovery is complete."""
        why = self.unready()
        if why is not None:
            raise NotReady(why)

    def writes(self) -> None:
        """Raises NotReady while reads are not answered, or a partition takes no writes."""
        self.ready()
        why = self.unwritten()
        if why is not None:
            raise NotReady(why)

    async def settle(self, reading: Reading, token: str | None, partitions: Sequence[int]) -> None:
        """Wait until the views are as current as asked. Raises NotReady, Timeout, InvalidCommand (no token), OtherLog."""
        self.ready()
        level, seconds = reading.consistency, reading.timeout_seconds
        # A token that was sent along counts only for the levels that ask for one.
        if level == "eventual":
            return
        wanted = parse_token(token) if token else {}
        if level == "strong":
            # The heads take the place of the token: no client can have seen more of these partitions than is proven now.
            await self.gateway.views.reach(await self._heads(partitions, seconds), seconds)
        else:
            await self.reach(wanted, seconds)

    async def reach(self, token: Token, seconds: float) -> None:
        """Wait until the views have seen what the token has. Raises NotReady, Timeout (they are late) and OtherLog."""
        views, wanted = self.gateway.views, positions_of(token)
        views.check(token)
        if views.has_reached(wanted):
            return
        clock = asyncio.get_running_loop().time
        ends_at = clock() + seconds
        marked = [partition for partition, place in token.items() if place.term]
        if marked:
            with suppress(Timeout):
                await views.reach(wanted, min(late_seconds, seconds))
            if not views.has_reached(wanted):
                await self._check_length(token, marked, ends_at - clock())
        await views.reach(wanted, max(0.0, ends_at - clock()))
        # Only now is it known which term reigned there.
        views.check(token)

    async def _check_length(self, token: Token, marked: Sequence[int], seconds: float) -> None:
        """Raises OtherLog when the log of a partition ends before the token's place; Timeout when that takes too long."""
        views = self.gateway.views
        ahead = [number for number in marked if token[number].position > views.cursors[number].position]
        # Where nobody can prove a head now, nobody knows; then only waiting is left.
        with suppress(NotReady):
            heads = await self._heads(ahead, seconds)
            # First as far as the log goes, so that whoever begins anew is not taken back.
            await views.reach(heads, seconds)
            views.check_length(token, heads)

    async def _heads(self, partitions: Sequence[int], seconds: float) -> Positions:
        try:
            async with asyncio.timeout(seconds):
                heads = await asyncio.gather(*map(self.gateway.prove, partitions))
        except TimeoutError:
            raise Timeout(f"the writer did not prove its head within {seconds} s; read again") from None
        return dict(zip(partitions, heads, strict=True))

    def marks(self, partitions: Sequence[int]) -> Marks:
        """The answer's token, its age in seconds, and the headers that say so."""
        views = self.gateway.views
        token = views.token()
        # The answer is as old as the oldest view that it was made from.
        age = round(max(map(views.age_seconds, partitions)), 3)
        headers: Headers = [(b"muster-token", token.encode()), (b"muster-age", b"%.3f" % age)]
        if age > self.stale_after_seconds:
            headers.append(STALE)
        return token, age, headers

    def staleness(self) -> Headers:
        """What a refusal has to say of the views that it was judged by: nothing, unless one of them is stale."""
        _, _, headers = self.marks(range(self.gateway.partitions))
        return [header for header in headers if header[0] != b"muster-token"] if STALE in headers else []

    def listing(
        self, items: Items | bytes, partitions: Sequence[int], parked: Sequence[str] = (), marks: Marks | None = None
    ) -> Reply:
        """A list's answer around its encoded items (bytes: their array); `parked` names the rows in it that stand still.

        `marks`: those of the moment at which the first item was read, where others have run since.
        """
        token, age, headers = marks or self.marks(partitions)
        tail = b"" if not parked else b',"parked":' + orjson.dumps(parked)
        end = b',"token":"%b","age_seconds":%.3f%b}' % (token.encode(), age, tail)
        if isinstance(items, bytes):
            return Reply(b'{"items":%b%b' % (items, end), 200, headers)
        return Reply(b'{"items":[', 200, headers, items=items, end=b"]" + end)

    def whole(self, item: dict[str, object], partitions: Sequence[int], headers: Headers | None = None) -> Reply:
        """One thing's answer."""
        return Reply(orjson.dumps(item, option=JSON_OPTIONS), 200, [*self.marks(partitions)[2], *(headers or ())])


STALE: Final = (b"muster-stale", b"true")
