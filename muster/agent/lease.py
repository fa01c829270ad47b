"""A data node's lease, as the node itself counts it: until when it may acknowledge, and whether it knows what it may serve.

    renewed ──it had not run out──▶ announced
       └──────it had run out, or is the first──▶ a lapse: serve nothing ──compared with the shard map──▶ settled ──▶ announced

It counts from before a renewal was sent, and ends early, so that it is over here before it can be over at the controller.
The node does not know what was decided about its shards while it had no lease. So after a lapse it serves nothing until it
has compared its copies with the shard map, read after the renewal was answered (invariant I5 depends on this order).
"""

import asyncio
import math
from collections.abc import Callable
from typing import Final

from muster.clock import elapsed_seconds

LEASE_SHARE: Final = 0.9
"""How much of its lease a node uses: clocks may run at different rates, and the last answer takes time to leave."""


class Lease:
    """Calls `announce` with the instant (elapsed_seconds()) until which the node may acknowledge; -inf: not at all."""

    def __init__(self, announce: Callable[[float], None], *, clock: Callable[[], float] = elapsed_seconds) -> None:
        self.lapses = 0
        self._announce = announce
        self._clock = clock
        self._until = -math.inf
        self._settled = 0
        self._unsettled = asyncio.Event()

    def renewed(self, sent_at: float, seconds: float, *, anew: bool = False) -> None:
        """A renewal that was sent at `sent_at` has been answered. `anew`: it is the first one, or the controller had taken
        the lease for lost.
        """
        now, until = self._clock(), sent_at + seconds * LEASE_SHARE
        # An answer that took this long is of no use: by this node's own count the lease is over already.
        if until <= now:
            return
        # With `anew` the instant announced before may still lie ahead, so it is taken back: nothing is served until the
        # copies have been compared.
        if anew or now >= self._until:
            self.end()
            self.lapses += 1
            self._unsettled.set()
        self._until = max(self._until, until)
        self._announce_if_settled()

    async def lapsed(self) -> int:
        """Wait for a lapse after which the lease is held again. Returns its number, for `settled`."""
        await self._unsettled.wait()
        self._unsettled.clear()
        return self.lapses

    def settled(self, lapse: int) -> bool:
        """The copies have been compared with the shard map since that lapse. Returns whether the lease has held meanwhile."""
        # After another lapse the comparison may be too old. If the lease has run out, the next renewal begins a lapse
        # of its own.
        if lapse != self.lapses or self._clock() >= self._until:
            return False
        self._settled = lapse
        self._announce_if_settled()
        return True

    def end(self) -> None:
        """Serve nothing from now on."""
        self._until = -math.inf
        self._announce(-math.inf)

    def _announce_if_settled(self) -> None:
        if self._settled == self.lapses:
            self._announce(self._until)
