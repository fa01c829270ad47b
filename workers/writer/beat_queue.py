"""The queue of heartbeats at a writer, beside that of commands: bounded in size and in time."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final

from muster.wire.error import MusterError, NotReady, Timeout
from muster.wire.telemetry.heartbeats import Heartbeats
from workers.machine.group import Unheard

queue_beats_max: Final = 50_000
group_beats_max: Final = 5_000

Heard = list[list[Unheard]]
"""For each message of heartbeats, those of its instances that were refused."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """Messages that were given together; `heard` is what became of the first of them."""

    messages: Sequence[Heartbeats]
    ends_at: float
    future: "asyncio.Future[Heard]"
    heard: Heard = field(default_factory=list)


class BeatQueue:
    """Messages of heartbeats in the order in which they came. Belongs to one event loop, so it needs no lock."""

    def __init__(self, partition: int, reply_timeout_seconds: float) -> None:
        self._partition = partition
        self._reply_timeout_seconds = reply_timeout_seconds
        self._waiting: deque[_Waiting] = deque()
        self.beats = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, messages: Sequence[Heartbeats], now: float) -> "asyncio.Future[Heard]":
        """Put the messages at the end; the future brings what became of them. Raises NotReady when there is no room."""
        future: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()
        size = _size(messages)
        if self.beats + size > queue_beats_max:
            raise NotReady(f"partition {self._partition} has {queue_beats_max} heartbeats waiting; beat less often")
        if messages:
            self._waiting.append(_Waiting(messages, now + self._reply_timeout_seconds, future))
            self.beats += size
        else:
            future.set_result([])
        return future

    def next(self) -> list[Heartbeats]:
        """The first messages, as many as one group should hear; they stay here until they are heard. Between groups only."""
        # A sign of life for which nobody waits any more is none of now.
        while self._waiting and self._waiting[0].future.done():
            self._remove_first()
        found: list[Heartbeats] = []
        room = group_beats_max
        for waiting in self._waiting:
            for message in waiting.messages[len(waiting.heard) :]:
                # One message at least, however long it is.
                if found and len(message.beats) > room:
                    return found
                found.append(message)
                room -= len(message.beats)
        return found

    def heard(self, results: Heard) -> None:
        """The first messages were heard, and the log has acknowledged it: answer those who have no more that wait."""
        left = deque(results)
        while left:
            first = self._waiting[0]
            while left and len(first.heard) < len(first.messages):
                first.heard.append(left.popleft())
            if len(first.heard) == len(first.messages):
                self._remove_first()
                if not first.future.done():
                    first.future.set_result(first.heard)

    def time_out(self, now: float) -> None:
        """Answer those who have waited too long. They stay until `next`: a group on its way may have the first of them."""
        for waiting in takewhile(lambda waiting: waiting.ends_at <= now, self._waiting):
            _fail(waiting, Timeout("the heartbeats were not heard in time: no writer reigns, or it is slow"))

    def refuse(self, error: MusterError) -> None:
        """Answer all that waits with the error."""
        while self._waiting:
            _fail(self._remove_first(), error)

    def _remove_first(self) -> _Waiting:
        found = self._waiting.popleft()
        self.beats -= _size(found.messages)
        return found


def _size(messages: Sequence[Heartbeats]) -> int:
    return sum(len(message.beats) for message in messages)


def _fail(waiting: _Waiting, error: MusterError) -> None:
    if not waiting.future.done():
        waiting.future.set_exception(error)
