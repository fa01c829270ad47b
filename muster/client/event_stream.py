"""Reading a watch: server-sent events, resumed where the connection broke."""

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from typing import Final, TypeVar

from muster.client.controllers.known import Misdirected, Way
from muster.client.transport import TOKEN, Transport
from muster.client.watch import OutOfStep, is_other_log
from muster.wire.error import Transient, Unreachable

T = TypeVar("T")
STEADY_SECONDS: Final = 1.0
HEARTBEAT: Final = ""
_END: Final = b"\n\n"


class EventParser:
    """Server-sent events from chunks of bytes: (id, event, data). An id holds until the next one; lines end in LF.

    A heartbeat, which has an id and no data, is the event HEARTBEAT.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._searched = 0
        self._id = ""

    def feed(self, chunk: bytes) -> Iterator[tuple[str, str, bytes]]:
        """The events that end within the chunk."""
        self._rest += chunk
        while (end := self._rest.find(_END, self._searched)) >= 0:
            block = bytes(self._rest[:end])
            del self._rest[: end + 2]
            self._searched = 0
            before, (event, data) = self._id, self._parsed(block)
            if data is not None or event == "reset":
                yield self._id, event, data or b""
            elif self._id != before:
                yield self._id, HEARTBEAT, b""
        # The last byte is looked at again: it may be the first half of an end.
        self._searched = max(0, len(self._rest) - 1)

    def _parsed(self, block: bytes) -> tuple[str, bytes | None]:
        event, data = "message", None
        for line in block.split(b"\n"):
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"event":
                event = value.decode()
            elif name == b"id":
                self._id = value.decode()
            elif name == b"data":
                data = value if data is None else data + b"\n" + value
        return event, data


async def follow(
    transport: Transport,
    path: str,
    query: Mapping[str, str],
    take: Callable[[str, bytes, str], Iterable[T]],
    reconnect_seconds_max: float,
    heard: Callable[[], None] = lambda: None,
) -> AsyncGenerator[T, None]:
    """What `take` makes of each event (its name, data and token) of the watch at `path`, for ever.

    Resumed after the last event that came whole, at any controller, or begun anew when `take` raises OutOfStep. Raises
    refusals, and Unreachable when none answers: at first within the transport's time, later within `reconnect_seconds_max`.
    `heard` is called with each sign that nothing was missed: an event or a heartbeat, but no reset.
    """
    seen, begun, loop = "", False, asyncio.get_running_loop()
    way, gives_up_at = Way(transport.controllers), loop.time() + transport.timeout_seconds
    while True:
        # Only the first one has to show what this client has seen; later ones resume at a place in the log, which all read.
        token, url, began_at = transport.token if not begun else "", way.url, loop.time()
        try:
            async with aclosing(_events(transport, url, path, query, token, seen)) as events:
                async for id_, event, data in events:
                    seen = _resumes_at(event, id_, seen)
                    if seen:
                        heard()
                    if event != HEARTBEAT:
                        begun, gives_up_at = True, math.inf
                        transport.observe(id_)
                        for change in take(event, data, id_):
                            yield change
        except OutOfStep:
            seen = ""
        except (Transient, Misdirected) as error:
            # The connection had worked until now, so the time to come back begins with this failure.
            gives_up_at = loop.time() + reconnect_seconds_max if gives_up_at == math.inf else gives_up_at
            # One that has worked goes on elsewhere at once; one that breaks off wherever it begins has to pause.
            if loop.time() - began_at >= STEADY_SECONDS:
                way = Way(transport.controllers)
            await asyncio.sleep(_pause(way, url, error, gives_up_at))


def _pause(way: Way, url: str, error: Transient | Misdirected, gives_up_at: float) -> float:
    """For how long to wait behind this failure. Raises what the failures on this way come to, when it would be too late then."""
    pause = way.failed(url, error)
    if asyncio.get_running_loop().time() + pause >= gives_up_at:
        raise way.trouble
    return pause


def _resumes_at(event: str, id_: str, seen: str) -> str:
    """Where the watch is resumed once this has come."""
    # After a reset comes a snapshot; until all of it is here, there is nothing to resume from.
    if event == "reset" or (event == HEARTBEAT and not seen):
        return ""
    # A heartbeat too: a watch on which little happens would else resume so far back that it has to begin anew.
    return id_


async def _events(
    transport: Transport, url: str, path: str, query: Mapping[str, str], token: str, seen: str
) -> AsyncGenerator[tuple[str, str, bytes], None]:
    """One connection's events, from the controller at `url`: resumed after `seen`, or from a snapshot at least as new as
    `token`. A `reset` for another log makes the transport forget its own.
    """
    query, headers = dict(query), {}
    if seen:
        headers["Last-Event-ID"] = seen
    elif token:
        headers[TOKEN] = token
        query.setdefault("consistency", "session")
    parser = EventParser()
    async with transport.stream(url, path, query, headers) as content:
        async for chunk in content.iter_any():
            for event in parser.feed(chunk):
                # What this client has seen elsewhere, or written, was in the log that is gone.
                if event[1] == "reset" and is_other_log(event[2]):
                    transport.forget()
                yield event
    # A watch never ends by itself: the controller stops, or has cut off a client that reads too slowly. Either way the
    # caller connects again.
    raise Unreachable(f"{url} ended the watch")
