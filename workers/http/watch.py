"""The watch hub: what changes, told once to everyone who watches.

    views ──on_batch──▶ ring of recent changes ──▶ who resumes
               └──────▶ one encoded frame per watched service ──▶ each subscriber's bounded queue

Frames are server-sent events; `id` is the token behind the frame. `snapshot` is the whole current state, `delta` a list of
changes, and `reset` says that the snapshot that follows replaces all that was known. Who reads too slowly is cut off: its
queue is dropped, and it resumes from the last frame it was sent.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from domain.error import NotReady
from domain.instance import InstanceDeregistered
from infra.log import Cursor
from projections.instances import InstanceRow, item
from workers.http.encoded import Encoded, encode
from workers.http.exchange import JSON_OPTIONS
from workers.token import Token, format_token
from workers.view import Change, Views

ring_changes_max: Final = 16_384
resume_changes_max: Final = 4_096
queue_bytes_max: Final = 4_194_304
queue_frames_max: Final = 1_024
subscribers_max: Final = 10_000
slice_items_max: Final = 256
heartbeat_seconds: Final = 15.0
cut_grace_seconds: Final = 5.0


@dataclass(frozen=True, slots=True)
class Trace:
    """A change as the ring keeps it: where it stands, and the row before and after. `cause` is that of a removal."""

    partition: int
    position: int
    before: InstanceRow | None
    after: InstanceRow | None
    cause: str | None

    @property
    def service(self) -> str:
        """The service that changed."""
        row = self.after or self.before
        assert row is not None, "a change of nothing"
        return row.service


class Subscriber:
    """One watcher: its queue of frames, bounded in count and bytes. `token` is the id of the last frame taken."""

    __slots__ = (
        "_bytes_max",
        "_frames",
        "_frames_max",
        "_size",
        "_token",
        "_waiter",
        "closed",
        "cut",
        "service",
        "task",
        "token",
    )

    def __init__(self, service: str | None, token: str, frames_max: int, bytes_max: int) -> None:
        self.service = service
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self.token = self._token = token
        self.cut = False
        self.closed = False
        self.task: asyncio.Task[Any] | None = None
        self._frames: list[bytes] = []
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
            self._frames, self._size = [], 0
            self._wake()
            return False
        self._frames.append(frame)
        self._size += len(frame)
        self._token = token
        self._wake()
        return True

    def beat(self, token: str) -> None:
        """Queue a comment, so that both sides notice a dead connection; not if there is more to say.

        Its id says how far a watcher is to whom nothing had to be told.
        """
        if not self._frames:
            self.put(b": \nid: %b\n\n" % token.encode(), token)

    def close(self) -> None:
        """End the stream once what is queued is sent."""
        self.closed = True
        self._wake()

    async def take(self) -> bytes:
        """All that is queued, joined; waits for it. Nothing: the stream is over."""
        if not self._frames and not self.over:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        if self.cut:
            return b""
        taken = b"".join(self._frames)
        self._frames, self._size, self.token = [], 0, self._token
        return taken

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Hub:
    """All watchers of a controller and the ring.

    The views call `on_batch` from the first batch that they replay; tell `restored` before that if they were filled from
    snapshots: then watchers resume over a restart.
    """

    def __init__(
        self,
        views: Views,
        encoded: Encoded,
        *,
        changes_max: int = ring_changes_max,
        frames_max: int = queue_frames_max,
        bytes_max: int = queue_bytes_max,
    ) -> None:
        self.joined_total = 0
        self.cut_total = 0
        self.frames_total = 0
        self._views = views
        self._encoded = encoded
        self._changes_max = changes_max
        self._queue_max = (frames_max, bytes_max)
        self._ring: deque[Trace] = deque()
        # Everything behind a partition's floor is in the ring; of a partition without a floor nothing was read yet.
        self._floors: Token = views.token()
        self._subscribers: dict[str | None, set[Subscriber]] = {}
        self._count = 0
        self._beating: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        return self._count

    def restored(self) -> None:
        """The views hold what snapshots gave them, at their cursors; from here on the ring misses nothing."""
        self._floors = self._views.token() | self._floors

    def on_batch(self, partition: int, cursor: Cursor, changes: Sequence[Change]) -> None:
        """Remember the changes and tell those who watch."""
        if partition not in self._floors:
            # Had a snapshot filled the views without a word, what came before this batch is not in the ring.
            self._floors[partition] = changes[0].recorded.position - 1 if changes else cursor.position
        if changes:
            traces = [_trace(partition, change) for change in changes]
            self._remember(traces)
            if self._subscribers:
                self._tell(traces)

    def _remember(self, traces: Sequence[Trace]) -> None:
        ring = self._ring
        ring.extend(traces)
        while len(ring) > self._changes_max:
            oldest = ring.popleft()
            self._floors[oldest.partition] = oldest.position

    def _tell(self, traces: Sequence[Trace]) -> None:
        everyone = self._subscribers.get(None, ())
        encoded: dict[str, list[bytes]] = {}
        for trace in traces:
            if everyone or trace.service in self._subscribers:
                encoded.setdefault(trace.service, []).append(change_of(trace))
        if not encoded:
            return
        token = format_token(self._views.token())
        for service, changes in encoded.items():
            if watchers := self._subscribers.get(service):
                self._send(delta(token, changes), token, watchers)
        if everyone:
            self._send(delta(token, [change for some in encoded.values() for change in some]), token, everyone)

    def _send(self, frame: bytes, token: str, watchers: "set[Subscriber] | tuple[()]") -> None:
        self.frames_total += 1
        slow = [watcher for watcher in watchers if not watcher.put(frame, token)]
        for watcher in slow:
            self.cut_total += 1
            self.leave(watcher)
            _end(watcher)

    def join(self, service: str | None, after: Token | None) -> tuple[Subscriber, Iterator[bytes]]:
        """A watcher of the service (None: of all) and its first frames, without a gap to what it will be told.

        `after`: the token that it resumes from. Raises NotReady when there are too many watchers, or no more wanted.
        """
        if self._closed:
            raise NotReady("the controller is stopping; ask another one, or try again")
        if self._count >= subscribers_max:
            raise NotReady(f"{subscribers_max} watchers are connected; ask another controller")
        token = format_token(self._views.token())
        missed = None if after is None else self._since(after, service)
        if missed is not None:
            frames = iter([delta(token, list(map(change_of, missed)))] if missed else [b": nothing was missed\n\n"])
        else:
            frames = self._snapshot(service, token, reset=after is not None)
        subscriber = Subscriber(service, token, *self._queue_max)
        self._subscribers.setdefault(service, set()).add(subscriber)
        self._count += 1
        self.joined_total += 1
        if self._beating is None:
            self._beating = asyncio.get_running_loop().call_later(heartbeat_seconds, self._beat)
        return subscriber, frames

    def leave(self, subscriber: Subscriber) -> None:
        """Tell the watcher nothing any more."""
        watchers = self._subscribers.get(subscriber.service, set())
        if subscriber in watchers:
            watchers.remove(subscriber)
            self._count -= 1
            if not watchers:
                del self._subscribers[subscriber.service]

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
        token = format_token(self._views.token())
        for watchers in self._subscribers.values():
            for subscriber in watchers:
                subscriber.beat(token)
        self._beating = asyncio.get_running_loop().call_later(heartbeat_seconds, self._beat)

    def _since(self, after: Token, service: str | None) -> list[Trace] | None:
        """What has changed behind the token; None when the ring does not cover it, or the views are not that far."""
        now = self._views.token()
        if any(position > now.get(partition, -1) for partition, position in after.items()):
            return None
        if any(after.get(partition, -1) < self._floors.get(partition, now[partition]) for partition in now):
            return None
        missed = [
            trace
            for trace in self._ring
            if trace.position > after.get(trace.partition, -1) and service in (None, trace.service)
        ]
        return missed if len(missed) <= resume_changes_max else None

    def _snapshot(self, service: str | None, token: str, *, reset: bool) -> Iterator[bytes]:
        """The frames of the current state, in pieces: the rows are those of now, however slowly they are taken."""
        rows: list[InstanceRow] = []
        items: list[bytes] = []
        if service is not None:
            items = self._encoded.items(service)
        else:
            rows = [row for some in self._views.instances.values() for row in some.values()]
        return _snapshot(service, token, rows, items, reset=reset)


def _snapshot(
    service: str | None, token: str, rows: Sequence[InstanceRow], items: Sequence[bytes], *, reset: bool
) -> Iterator[bytes]:
    start = b'id: %b\nevent: snapshot\ndata: {"service":%b,"items":[' % (token.encode(), orjson.dumps(service))
    if reset:
        # No id: who loses the connection before the snapshot has come must not resume behind it.
        start = b'event: reset\ndata: {"token":"%b"}\n\n' % token.encode() + start
    yield start
    for first in range(0, max(len(rows), len(items)), slice_items_max):
        slice_ = slice(first, first + slice_items_max)
        yield (b"," if first else b"") + b",".join(items[slice_] or map(encode, rows[slice_]))
    yield b'],"token":"%b"}\n\n' % token.encode()


def _end(subscriber: Subscriber) -> None:
    # Its task may hang in a write to a client that reads no more.
    if subscriber.task is not None:
        asyncio.get_running_loop().call_later(cut_grace_seconds, subscriber.task.cancel)


def delta(token: str, changes: Sequence[bytes]) -> bytes:
    """A frame of encoded changes."""
    return b'id: %b\nevent: delta\ndata: {"changes":[%b]}\n\n' % (token.encode(), b",".join(changes))


def change_of(trace: Trace) -> bytes:
    """The change as watchers see it: `put` the whole item, `patch` what changed of it, or `remove` it."""
    before, after = trace.before, trace.after
    if after is None:
        assert before is not None, "a change of nothing"
        told: dict[str, Any] = {
            "op": "remove",
            "service": before.service,
            "instance": before.instance.id,
            "position": trace.position,
            "cause": trace.cause,
        }
    elif before is None:
        return b'{"op":"put","item":%b}' % encode(after)
    else:
        was, now = item(before), item(after)
        told = {
            "op": "patch",
            "service": after.service,
            "instance": after.instance.id,
            "version": after.instance.version,
            "position": after.position,
            "set": {
                name: value for name, value in now.items() if value != was[name] and name not in ("version", "position")
            },
        }
    return orjson.dumps(told, option=JSON_OPTIONS)


def _trace(partition: int, change: Change) -> Trace:
    event = change.recorded.event
    cause = event.cause if isinstance(event, InstanceDeregistered) else None
    return Trace(partition, change.recorded.position, change.before, change.after, cause)
