"""Watchers: streams of frames with bounded queues, kept alive, and cut off when they read too slowly.

A hub encodes what has changed, once, and sends it to a *topic*; all watchers of the topic get the same bytes. A watcher that
reads too slowly is cut off: its queue is dropped, and it resumes from the last frame it was sent. Many watchers are woken a
few at a time, so that the answer to the write that they hear of goes out first.
"""

import asyncio
from collections import deque
from typing import Any, Final

from muster.wire.error import NotReady
from workers.http.exchange import slice_bytes_max
from workers.http.watch.waking import Waking
from workers.views.views import Views

Topic = tuple[str, str | None]
"""What kind of things is watched, and which of them (None: all)."""

queue_bytes_max: Final = 4_194_304
queue_frames_max: Final = 1_024
subscribers_max: Final = 10_000
snapshots_sent_max: Final = 8
heartbeat_seconds: Final = 15.0
cut_grace_seconds: Final = 5.0


class Subscriber:
    """One watcher: its queue of frames, bounded in count and bytes. `token` is the id of the last frame taken."""

    __slots__ = (
        "_bytes_max",
        "_frames",
        "_frames_max",
        "_size",
        "_waiter",
        "_waking",
        "closed",
        "cut",
        "task",
        "token",
        "topic",
    )

    def __init__(self, topic: Topic, token: str, frames_max: int, bytes_max: int, waking: Waking) -> None:
        self.topic = topic
        self._waking = waking
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self.token = token
        self.cut = False
        self.closed = False
        self.task: asyncio.Task[Any] | None = None
        self._frames: deque[tuple[bytes, str]] = deque()
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None

    @property
    def over(self) -> bool:
        """Whether the stream is to end."""
        return self.cut or self.closed

    def put(self, frame: bytes, token: str) -> bool:
        """Queue the frame; False: the queue is over its bound, the watcher is cut off now."""
        if self._size + len(frame) > self._bytes_max or len(self._frames) >= self._frames_max:
            self.cut = True
            self._frames.clear()
            self._size = 0
            self._wake()
            return False
        self._frames.append((frame, token))
        self._size += len(frame)
        self._wake()
        return True

    def beat(self, token: str) -> None:
        """Queue a comment, so that both sides notice a dead connection; not if there is more to say.

        Its id is a watcher's position when none of the changes up to there concerned it.
        """
        if not self._frames:
            self.put(b": \nid: %b\n\n" % token.encode(), token)

    def close(self) -> None:
        """End the stream once what is queued is sent."""
        self.closed = True
        self._wake()

    async def take(self) -> bytes:
        """What is queued, joined, but little more than `slice_bytes_max`; waits for it. Nothing: the stream is over."""
        if not self._frames and not self.over:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        taken: list[bytes] = []
        size = 0
        # The frames are everyone's, joined they are this watcher's own: no more than it reads soon.
        while self._frames and size < slice_bytes_max:
            frame, self.token = self._frames.popleft()
            taken.append(frame)
            size += len(frame)
        self._size -= size
        return b"".join(taken)

    def _wake(self) -> None:
        # Once for all frames that come until its task runs.
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self._waking.wake(waiter)


class Audience:
    """All watchers of a controller, whatever they watch. In `turns` the pieces of their first pictures are sent."""

    def __init__(self, views: Views, *, frames_max: int = queue_frames_max, bytes_max: int = queue_bytes_max) -> None:
        self.joined_total = 0
        self.cut_total = 0
        self.frames_total = 0
        self.turns = asyncio.Semaphore(snapshots_sent_max)
        self._views = views
        self._queue_max = (frames_max, bytes_max)
        self._waking = Waking()
        self._subscribers: dict[Topic, set[Subscriber]] = {}
        self._count = 0
        self._beating: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return self._count

    def __contains__(self, topic: Topic) -> bool:
        """Whether anyone watches the topic."""
        return topic in self._subscribers

    def watches(self, kind: str) -> bool:
        """Whether anyone watches things of this kind."""
        return any(topic[0] == kind for topic in self._subscribers)

    def admit(self, topic: Topic, token: str) -> Subscriber:
        """A watcher of the topic, which gets all that comes after the token. Raises NotReady when there are too many
        watchers, or no more wanted.
        """
        if self._closed:
            raise NotReady("the controller is stopping; ask another one, or try again")
        if self._count >= subscribers_max:
            raise NotReady(f"{subscribers_max} watchers are connected; ask another controller")
        subscriber = Subscriber(topic, token, *self._queue_max, self._waking)
        self._subscribers.setdefault(topic, set()).add(subscriber)
        self._count += 1
        self.joined_total += 1
        # Begun by the first watcher: where the audience is made there may be no event loop, as for the API's document.
        if self._beating is None:
            self._beating = asyncio.get_running_loop().call_later(heartbeat_seconds, self._beat)
        return subscriber

    def tell(self, topic: Topic, frame: bytes, token: str) -> None:
        """Queue the frame for all who watch the topic; those who read too slowly are cut off."""
        watchers = self._subscribers.get(topic)
        if watchers is None:
            return
        self.frames_total += 1
        # Found first and removed afterwards: `leave` changes the set that is walked through here.
        slow = [watcher for watcher in watchers if not watcher.put(frame, token)]
        for watcher in slow:
            self.cut_total += 1
            self.leave(watcher)
            _end(watcher)

    def leave(self, subscriber: Subscriber) -> None:
        """Send the watcher nothing more."""
        watchers = self._subscribers.get(subscriber.topic, set())
        if subscriber in watchers:
            watchers.remove(subscriber)
            self._count -= 1
            if not watchers:
                del self._subscribers[subscriber.topic]

    def close(self) -> None:
        """End all streams; what is queued is still sent."""
        self._closed = True
        if self._beating is not None:
            self._beating.cancel()
        for watchers in list(self._subscribers.values()):
            for subscriber in watchers:
                subscriber.close()
                _end(subscriber)

    def _beat(self) -> None:
        token = self._views.token()
        for watchers in self._subscribers.values():
            for subscriber in watchers:
                subscriber.beat(token)
        self._beating = asyncio.get_running_loop().call_later(heartbeat_seconds, self._beat)


def _end(subscriber: Subscriber) -> None:
    # Its task may hang in a write to a client that reads no more.
    if subscriber.task is not None:
        asyncio.get_running_loop().call_later(cut_grace_seconds, subscriber.task.cancel)
