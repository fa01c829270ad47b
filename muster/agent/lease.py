"""A data node's lease, as the node itself counts it: until when it may acknowledge, and whether it knows what it may serve.

    renewed ──it had not run out──▶ told
       └──────it had run out, or is the first──▶ a lapse: serve nothing ──compared with the shard map──▶ settled ──▶ told

It counts from before a renewal was sent, and ends early, so that it is over here before it can be over at the controller.
What was decided about the node's shards while it had no lease, the node does not know: after a lapse it serves nothing until
it has compared its copies with the shard map, read after the renewal was answered (invariant I5 stands on this order).
"""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

LEASE_SHARE: Final = 0.9
"""How much of its lease a node uses: clocks may differ in their rates, and an answer has yet to leave."""


class Lease:
    """Told to `tell`: the instant until which the node may acknowledge, in time.monotonic(); -inf: not at all."""

    def __init__(self, tell: Callable[[float], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.lapses = 0
        self._tell = tell
        self._clock = clock
        self._until = -math.inf
        self._settled = 0
        self._unsettled = asyncio.Event()

    def renewed(self, sent_at: float, seconds: float, *, anew: bool = False) -> None:
        """A renewal that was sent then has been answered. `anew`: the controller had held the lease for over, or this is
        another one.
        """
        now, until = self._clock(), sent_at + seconds * LEASE_SHARE
        if until <= now:
            return
        if anew or now >= self._until:
            self.end()
            self.lapses += 1
            self._unsettled.set()
        self._until = max(self._until, until)
        self._tell_if_settled()

    async def lapsed(self) -> int:
        """Wait for a lapse after which the lease is held again; its number, for `settled`."""
        await self._unsettled.wait()
        self._unsettled.clear()
        return self.lapses

    def settled(self, lapse: int) -> bool:
        """What is here has been compared with the shard map since that lapse; whether the lease has held all the while."""
        if lapse != self.lapses or self._clock() >= self._until:
            return False
        self._settled = lapse
        self._tell_if_settled()
        return True

    def end(self) -> None:
        """Serve nothing any more."""
        self._until = -math.inf
        self._tell(-math.inf)

    def _tell_if_settled(self) -> None:
        if self._settled == self.lapses:
            self._tell(self._until)
