"""A subscriber's frames as a stream of server-sent events, straight onto ASGI."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, Final

from muster.wire.error import InvalidCommand, OtherLog, Timeout
from muster.wire.token import parse_token, positions_of
from workers.http.asgi import Receive
from workers.http.exchange import Reading, Request
from workers.http.reading import Reader
from workers.http.routing import Handler, Route
from workers.http.watch.frames import OTHER_LOG, Resumed
from workers.http.watch.subscribers import Audience, Subscriber

HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    # nginx would hold frames back until its buffer is full.
    (b"x-accel-buffering", b"no"),
]


def watch_route(kind: str, handler: Handler, tag: str, query: type[Reading]) -> Route:
    """The route of a watch of rows."""
    return Route("GET", f"/v1/watch/{kind}", handler, f"Follow {kind} (server-sent events)", tag, query=query)


async def settled(
    reader: Reader, request: Request, reading: Reading, after: str | None, partitions: Sequence[int]
) -> Resumed:
    """Wait until the views are as current as asked, and at the token that the watcher resumes from. Returns where it resumes.

    Raises Timeout when the views are later than the watcher: it must not be taken back.
    """
    text = request.header(b"last-event-id") or after
    seen = parse_token(text) if text else None
    if seen is not None and (unknown := seen.keys() - set(range(reader.gateway.partitions))):
        raise InvalidCommand(f"after: there is no partition {min(unknown)} here", field="after")
    try:
        await reader.settle(reading, request.header(b"muster-token"), partitions)
        if seen is not None:
            await reader.reach(seen, reading.timeout_seconds)
    except OtherLog:
        return OTHER_LOG
    except Timeout:
        # Without a mark nobody can tell a late view from another log: as before there were any, it is a reset.
        if seen is None or any(place.term for place in seen.values()):
            raise
    return None if seen is None else positions_of(seen)


async def stream(request: Request, audience: Audience, subscriber: Subscriber, frames: Iterator[bytes]) -> None:
    """Send the first frames, then all that is queued for the subscriber, until it goes, is cut off, or all streams end."""
    subscriber.task = asyncio.current_task()
    # Only reading tells that a client has gone: a stream with nothing to say does not write for a long time.
    gone = asyncio.create_task(_until_gone(request.receive, subscriber))
    try:
        await _stream(request, audience, subscriber, frames)
    except asyncio.CancelledError:
        if not subscriber.over:
            raise
    finally:
        audience.leave(subscriber)
        gone.cancel()
        await asyncio.wait([gone])  # Not awaited: our own cancellation must not pass for its.


async def _stream(request: Request, audience: Audience, subscriber: Subscriber, frames: Iterator[bytes]) -> None:
    send = request.send
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    while True:
        # Until the client has read most of what it has. It waits here, not in its turn: who does not read takes nobody's.
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        async with audience.turns:
            frame = next(frames, None)
            if frame is None:
                break
            if subscriber.over:
                # Half a frame without its blank line is none: the client starts anew.
                return await send({"type": "http.response.body", "body": b""})
            await send({"type": "http.response.body", "body": frame, "more_body": True})
            # A long snapshot lets others run between its pieces.
            await asyncio.sleep(0)
    while taken := await subscriber.take():
        await send({"type": "http.response.body", "body": taken, "more_body": True})
    last = b": cut off for reading too slowly; resume after %b\n\n" % subscriber.token.encode()
    return await send({"type": "http.response.body", "body": last if subscriber.cut else b""})


async def _until_gone(receive: Receive, subscriber: Subscriber) -> None:
    message: dict[str, Any] = {"type": ""}
    while message["type"] != "http.disconnect":
        message = dict(await receive())
    subscriber.close()
