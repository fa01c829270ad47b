"""One client's connection to uvicorn's server: HTTP/1.1, as llhttp parses it, onto ASGI.

    bytes ──llhttp──▶ Turn (a request and its response) ⇄ application

Requests that come ahead of their turn wait for it; between turns the connection rests, and is closed when that takes too long.
uvicorn's own class takes 39 µs of processor time for a request that is answered at once, this one 27: a response leaves in one
write, no timer is set and cancelled for each request, and line breaks in headers are looked for once per response.
"""

import asyncio
import logging
from collections import deque
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools
from starlette.types import ASGIApp, Message, Scope
from uvicorn import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr
from uvicorn.server import ServerState

LOG: Final = logging.getLogger("muster.http")
unread_bytes_max: Final = 65_536
joined_bytes_max: Final = 65_536
_STATUS_LINES: Final = {int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n".encode() for status in HTTPStatus}
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_INVALID: Final = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Connection(asyncio.Protocol):
    """A connection as uvicorn's server makes and ends it; answers leave in the order of the requests, one at a time."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: Any = None) -> None:
        self.server = server_state
        self.loop = asyncio.get_running_loop()
        self.writable = asyncio.Event()
        self.writable.set()
        self._application: ASGIApp = config.loaded_app
        self._scope: Scope = {}
        self._state = app_state
        self._rest_seconds_max = config.timeout_keep_alive
        self._resting_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._turns: deque[Turn] = deque()  # Those not answered yet; the first one has begun.
        self._reads = True
        self._parser = httptools.HttpRequestParser(self)
        # What comes behind a request with `connection: close` does not take its answer away.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        # Casts: uvloop's transports are no subclasses of asyncio's, and this is none of uvicorn's own protocols.
        self.transport = cast(asyncio.Transport, transport)
        self.server.connections.add(cast(Any, self))
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "scheme": "http",
            "root_path": "",
            "server": get_local_addr(self.transport),
            "client": get_remote_addr(self.transport),
        }

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self.server.connections.discard(cast(Any, self))
        if self._timer is not None:
            self._timer.cancel()
        self._end_turns()
        self.writable.set()
        del self._parser  # It holds us, and we hold it: the garbage collector would have to find that.

    def shutdown(self) -> None:
        """The server stops: close once what is under way is answered."""
        if not self._turns:
            self.transport.close()
        for turn in self._turns:
            turn.keeps_alive = False

    def pause_writing(self) -> None:
        """See asyncio."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """See asyncio."""
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._resting_since = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # Answered as HTTP/1.1, as who does not know the other protocol may do.
        except httptools.HttpParserError:
            self._refuse()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url, self._headers, self._expects = b"", list[tuple[bytes, bytes]](), False

    def on_url(self, url: bytes) -> None:
        """A piece of its target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        name = name.lower()
        if name == b"expect":
            self._expects = value.lower() == b"100-continue"
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The application may begin, if nothing before it waits for its answer; the body is still to come."""
        version, target = self._parser.get_http_version(), self._url
        if not target.startswith(b"/"):  # As one asks a proxy.
            url = httptools.parse_url(target)
            target = url.path + (b"?" + url.query if url.query else b"")
        path, _, query = target.partition(b"?")
        scope = {
            **self._scope,
            "http_version": version,
            "method": self._parser.get_method().decode("ascii"),
            "path": unquote(path.decode("ascii")) if b"%" in path else path.decode("ascii"),
            "raw_path": path,
            "query_string": query,
            "headers": self._headers,
            "state": self._state.copy(),
        }
        stays = version == "1.1" and self._parser.should_keep_alive() and not self._parser.should_upgrade()
        self._reading = Turn(self, scope, keeps_alive=stays, expects=self._expects)
        self._turns.append(self._reading)
        if len(self._turns) == 1:
            self._begin()
        else:
            self.flow()

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        self._reading.take(body)
        self.flow()

    def on_message_complete(self) -> None:
        """It is whole."""
        self._reading.complete()

    def flow(self) -> None:
        """Read on, unless a request waits for its turn already, or the application for no more of the body."""
        wanted = len(self._turns) < 2 and self._reading.unread_bytes <= unread_bytes_max
        if wanted != self._reads and not self.transport.is_closing():
            self._reads = wanted
            if wanted:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def _begin(self) -> None:
        task = self.loop.create_task(self._answer(self._turns[0]))
        self.server.tasks.add(task)
        task.add_done_callback(self.server.tasks.discard)

    async def _answer(self, turn: "Turn") -> None:
        try:
            await self._application(turn.scope, turn.receive, turn.send)
        except Exception as error:
            LOG.error("a response was broken off", exc_info=error)
        finally:
            if not turn.over:
                self.transport.close()  # Who asked must not take half a response for a whole one.

    def answered(self) -> None:
        """The first turn's response has left."""
        turn = self._turns.popleft()
        if not turn.keeps_alive:
            self.transport.close()
            return
        self.flow()
        if self._turns:
            self._begin()
            return
        self._resting_since = self.loop.time()
        if self._timer is None:
            self._timer = self.loop.call_later(self._rest_seconds_max, self._look)

    def _look(self) -> None:
        """Close when nothing has come for too long. One timer for many rests: setting one for each costs 3 µs a request."""
        self._timer = None
        if self._resting_since is None:
            return
        left = self._resting_since + self._rest_seconds_max - self.loop.time()
        if left <= 0:
            self.transport.close()
        else:
            self._timer = self.loop.call_later(left, self._look)

    def _refuse(self) -> None:
        """What came is no HTTP; what was asked whole before it loses its answer, as by a broken connection."""
        if not any(turn.whole or turn.begun for turn in self._turns):
            self.transport.write(_INVALID)
        self._end_turns()
        self.transport.close()

    def _end_turns(self) -> None:
        for turn in self._turns:
            turn.end()
        self._turns.clear()


class Turn:
    """One request and its response: ASGI's `scope`, `receive` and `send`.

    `over`: answered, or nobody waits for the answer any more. `whole`: the whole request has come. `begun`: the response has.
    """

    __slots__ = (
        "_arrival",
        "_bodiless",
        "_body_left",
        "_chunked",
        "_connection",
        "_expects",
        "_head",
        "_parts",
        "_received",
        "begun",
        "keeps_alive",
        "over",
        "scope",
        "unread_bytes",
        "whole",
    )

    def __init__(self, connection: Connection, scope: Scope, *, keeps_alive: bool, expects: bool) -> None:
        self.scope = scope
        self.keeps_alive = keeps_alive
        self.over = self.whole = self.begun = False
        self.unread_bytes = 0
        self._connection = connection
        self._expects = expects  # The client sends its body only when it is told to.
        self._parts: list[bytes] = []
        self._received = False
        self._arrival: asyncio.Future[None] | None = None
        self._head = b""

    def take(self, body: bytes) -> None:
        """A piece of the body has come. Whoever is answered already is not heard any more."""
        if not self.over:
            self._parts.append(body)
            self.unread_bytes += len(body)
            self._wake()

    def complete(self) -> None:
        """The whole request has come."""
        self.whole = True
        self._wake()

    def end(self) -> None:
        """The client has gone, or the response has left."""
        self.over, self.unread_bytes, self._parts = True, 0, []
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def receive(self) -> Message:
        """See ASGI."""
        connection = self._connection
        if self._expects and not self.over:
            self._expects = False
            connection.transport.write(_CONTINUE)
        while not (self.over or self._parts or (self.whole and not self._received)):
            self._arrival = connection.loop.create_future()
            await self._arrival
        if self.over:
            return {"type": "http.disconnect"}
        body, self._parts, self.unread_bytes = b"".join(self._parts), [], 0
        self._received = self.whole
        connection.flow()
        return {"type": "http.request", "body": body, "more_body": not self.whole}

    async def send(self, message: Message) -> None:
        """See ASGI. Raises RuntimeError for what is no response."""
        connection = self._connection
        if not connection.writable.is_set():
            await connection.writable.wait()
        if self.over:
            return
        if message["type"] == "http.response.start":
            self._start(message["status"], message.get("headers", ()))
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if not self.begun and not self._head:
            raise RuntimeError("a response begins with its status")
        data = self._framed(body, more=more)
        # ASGI lets the head wait for the first of the body: a small response is one write.
        if self._head and len(data) > joined_bytes_max:
            connection.transport.write(self._head)
        elif self._head:
            data = self._head + data
        self._head, self.begun = b"", True
        if data:
            connection.transport.write(data)
        if not more:
            self.end()
            connection.answered()

    def _start(self, status: int, headers: Any) -> None:
        lines, length = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status], None
        for name, value in (*self._connection.server.default_headers, *headers):
            lines.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length":
                length = int(value)
        self._bodiless = self.scope["method"] == "HEAD" or status in (204, 304)
        self._body_left = length
        # Without a length only the end of the connection tells HTTP/1.0 the end of a body.
        self._chunked = length is None and not self._bodiless and self.scope["http_version"] == "1.1"
        if self._chunked:
            lines.append(b"transfer-encoding: chunked\r\n")
        if not self.keeps_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if not head.count(b"\n") == head.count(b"\r") == len(lines):
            raise RuntimeError("a header holds a line break")
        self._head = head + b"\r\n"

    def _framed(self, body: bytes, *, more: bool) -> bytes:
        """The body's piece as it goes over the wire."""
        if self._bodiless:
            return b""
        if self._chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return chunk if more else chunk + b"0\r\n\r\n"
        if self._body_left is not None:
            self._body_left -= len(body)
            if self._body_left < 0 or (self._body_left and not more):
                raise RuntimeError("the body is not as long as its content-length says")
        return body
