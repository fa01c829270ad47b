"""Waiting for a shard that no node serves at the moment, without many calls asking the same question over and over.

A shard's gate is closed while a call waits at it. One waiting call at a time knocks (tries), after a pause that doubles
from 2 to 50 ms. When it is refused it waits again after all others, so that no single call can keep them waiting.
As soon as one is answered, or the map says that the shard is served elsewhere, the gate opens: for `AT_ONCE` calls, and for
one more with each answer. So thousands of calls that have waited do not all ask at once.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, Literal

from muster.wire.backoff import pause_seconds

PAUSE_FIRST_SECONDS: Final = 0.002
PAUSE_MAX_SECONDS: Final = 0.05
AT_ONCE: Final = 64
KNOCKS_WHILE_OPENING: Final = 4
Turn = Literal["open", "knock", "over"]
Waiter = asyncio.Future[Turn]


def knock_seconds(tries: int) -> float:
    """A random pause that doubles with the tries: half to all of 2 ms, 4 ms, … up to 50 ms."""
    return pause_seconds(tries, PAUSE_FIRST_SECONDS, PAUSE_MAX_SECONDS, random.random())


class Gate:
    """Where the calls on one shard wait for their turn."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: OrderedDict[Waiter, None] = OrderedDict()
        self._knocking = False
        self._tries = 0
        self._opening = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def closed(self) -> bool:
        """Whether a call waits here, or knocks."""
        return self._knocking or bool(self._waiting)

    async def turn(self, ends_at: float) -> Turn:
        """Wait until the gate opens, it is the caller's turn to knock (it calls `knocked` after that), or the time is over."""
        mine: Waiter = self._loop.create_future()
        over = self._loop.call_at(ends_at, self._give, mine, "over")
        self._waiting[mine] = None
        self._arm()
        try:
            return await mine
        except asyncio.CancelledError:
            # Cancelled in the same moment in which its turn came: the turn goes to the next one, or none would ever knock.
            if mine.done() and not mine.cancelled() and mine.result() == "knock":
                self.knocked()
            raise
        finally:
            self._waiting.pop(mine, None)
            over.cancel()

    def knocked(self) -> None:
        """The call that knocked has been answered or refused: the next one may knock."""
        self._knocking = False
        self._arm()

    def open(self) -> None:
        """Let waiting calls in, in the order in which they came: some at first, then one for each answer."""
        self._tries, self._knocking = 0, False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        admitted = 1 if self._opening else AT_ONCE
        while self._waiting and admitted:
            admitted -= self._give(next(iter(self._waiting)), "open")
        self._opening = bool(self._waiting)
        self._arm()

    def open_wide(self) -> None:
        """Let all waiting calls in."""
        while self._waiting:
            self._give(next(iter(self._waiting)), "open")

    def _arm(self) -> None:
        if self._timer is None and not self._knocking and self._waiting:
            self._timer = self._loop.call_later(knock_seconds(self._tries), self._let_one_knock)

    def _let_one_knock(self) -> None:
        self._timer = None
        # No call was answered for a while: the shard has gone again.
        self._opening = self._opening and self._tries < KNOCKS_WHILE_OPENING
        while self._waiting and not self._knocking:
            self._knocking = self._give(next(iter(self._waiting)), "knock")
        self._tries += 1

    def _give(self, waiter: Waiter, turn: Turn) -> bool:
        self._waiting.pop(waiter, None)
        # This call was cancelled, or its time is over: the turn is not used up, and goes to the next one.
        if waiter.done():
            return False
        waiter.set_result(turn)
        return True


class Gates:
    """The gates of a keyspace's shards, made when they are first needed."""

    def __init__(self) -> None:
        self._gates: dict[int, Gate] = {}
        self._pausing: dict[asyncio.Future[None], frozenset[int]] = {}

    def at(self, shard: int) -> Gate:
        """The shard's gate."""
        return self._gates.get(shard) or self._gates.setdefault(shard, Gate())

    def closed(self, shard: int) -> bool:
        """Whether calls on the shard have to wait."""
        gate = self._gates.get(shard)
        return gate is not None and gate.closed

    def open(self, shard: int) -> None:
        """Let calls in that wait for the shard; see `Gate.open`."""
        gate = self._gates.get(shard)
        if gate is not None:
            gate.open()
        for waiter, shards in self._pausing.items():
            if shard in shards:
                _release(waiter)

    def open_all(self) -> None:
        """Let all waiting calls in, because the client closes."""
        for gate in self._gates.values():
            gate.open_wide()
        for waiter in self._pausing:
            _release(waiter)

    async def pause(self, shards: Iterable[int], seconds: float) -> None:
        """Wait until one of the gates opens, at most `seconds`: for a batch that waits at many gates at once."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._pausing[waiter] = frozenset(shards)
        over = loop.call_later(seconds, _release, waiter)
        try:
            await waiter
        finally:
            over.cancel()
            del self._pausing[waiter]


class Held:
    """The operations that are held back, and the bytes of their keys and values, within limits."""

    def __init__(self, operations_max: int, bytes_max: int) -> None:
        self.operations = 0
        self.operations_most = 0
        self.bytes = 0
        self._operations_max = operations_max
        self._bytes_max = bytes_max

    def take(self, size: int) -> str | None:
        """Hold an operation of `size` bytes, until `give`. Returns None, or the reason why there is no room."""
        if self.operations >= self._operations_max:
            return f"this client holds {self.operations} operations back already (held_operations_max)"
        if self.bytes + size > self._bytes_max:
            return f"this client holds {self.bytes} bytes back already (held_bytes_max is {self._bytes_max})"
        self.operations += 1
        self.bytes += size
        self.operations_most = max(self.operations_most, self.operations)
        return None

    def give(self, size: int) -> None:
        """Stop holding it."""
        self.operations -= 1
        self.bytes -= size


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
