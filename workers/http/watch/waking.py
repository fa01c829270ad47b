"""Wakes the tasks that wait to send, a few in each turn of the event loop.

All watchers of a service get a change in one go. If their tasks ran in one turn of the loop as well, every other task,
and first of all the one that answers the write, would wait for hundreds of sends.
"""

import asyncio
from collections import deque
from typing import Final

wakes_per_turn: Final = 8
answer_turns: Final = 6
"""How many turns of the loop an answer takes from the writer's future to its socket, with some to spare."""


class Waking:
    """Wakes in the order in which it was asked to."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._woken = 0
        self._turns_left = 0
        self._scheduled = False

    def wake(self, waiter: "asyncio.Future[None]") -> None:
        """Let the waiter's task go on: in the next turn of the loop, or later when it is one of many."""
        # A few cost nobody anything, and need not wait for an answer either.
        if self._woken < wakes_per_turn and not self._waiting:
            self._woken += 1
            _end(waiter)
        else:
            self._waiting.append(waiter)
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._turns_left = answer_turns
        self._turn()

    def _turn(self) -> None:
        self._woken = 0
        if self._turns_left and self._waiting:
            self._turns_left -= 1
        else:
            for _ in range(min(wakes_per_turn, len(self._waiting))):
                _end(self._waiting.popleft())
        self._scheduled = bool(self._waiting)
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._turn)


def _end(waiter: "asyncio.Future[None]") -> None:
    # Its task may have been cancelled since.
    if not waiter.done():
        waiter.set_result(None)
