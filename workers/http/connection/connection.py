"""uvicorn's connections, bounded: heads, trailers, requests that wait, bodies that stall, answers that nobody reads.

    opened ──first byte──▶ head ──complete──▶ body ──complete──▶ (answered) ──first byte──▶ head …
       └───── head_seconds_max ─────┘           └─ body_silent_seconds_max without a byte

Whatever comes behind a refusal is not parsed. A refusal is an answer only when it is this request's turn; behind answers that are
still due, the last of them closes the connection instead: an answer out of turn would be taken for another request's.
"""

import asyncio
import contextlib
import fcntl
import http
import sys
import termios
from typing import Final
from urllib.parse import unquote

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from workers.http.asgi import Scope
from workers.http.connection.cycle import Cycle
from workers.http.connection.keeper import Keeper
from workers.http.exchange import problem

dropped_bytes_max: Final = 1_048_576
"""How much of a body is still taken in once its request was answered, for the sake of the next request on the connection."""


# What the next byte belongs to; in _BETWEEN it begins a head. Plain numbers: an enum's members cost more on every request.
_BETWEEN, _HEAD, _BODY = range(3)
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}


class _Refused(Exception):
    """The parser is to stop here; the connection has been told why."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, under the limits of its keeper."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        keeper: Keeper,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._keeper, self._limits = keeper, keeper.limits
        self._stage = _BETWEEN
        self._deaf = False
        # Bytes since the head began, or since the body last grew, and the size of what is being parsed.
        self._fed = self._piece = 0
        # When the head began, when the last byte came, and when the last answer was given.
        self._began = self._heard = self._answered = self.loop.time()
        self._dropped = 0
        self._unread, self._unread_since = 0, 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # As uvicorn has it.
        """See asyncio."""
        if self._keeper.admit(self):
            super().connection_made(transport)
            return
        self._deaf, self.transport = True, transport
        detail = f"{self._keeper.connections_max} connections are open (connections_max); try again, or ask another one"
        transport.write(_problem(503, "NotReady", detail, "connections_max"))
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._keeper.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._deaf:
            return
        self._heard = self.loop.time()
        if self._stage == _BETWEEN:
            self._stage, self._fed, self._began = _HEAD, 0, self._heard
        self._piece = len(data)
        self._fed += self._piece
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # An upgrade that nobody here speaks: the request is answered as it is (RFC 9110, 7.8).
        except httptools.HttpParserError:
            if not self._deaf:
                self._refuse("malformed", 0, _problem(400, "MalformedRequest", "this is no request of HTTP/1.1"))
            return
        if self._stage != _BETWEEN and not self._deaf:
            self._check_fed()

    def _check_fed(self) -> None:
        """Bound what the parser keeps before it tells us: a head, or trailers and the extensions of chunks."""
        limits = self._limits
        if self._fed > limits.head_bytes_max:
            self._refuse_head("head_bytes_max", limits.head_bytes_max, "bytes")
        elif len(self.headers) > limits.head_fields_max:
            self._refuse_head("head_fields_max", limits.head_fields_max, "fields")

    def on_message_begin(self) -> None:
        """See httptools."""
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        """See httptools."""
        limits = self._limits
        # The sizes are added up only where they might be too large: most heads come alone, in one small piece.
        if (self._fed > limits.head_bytes_max or self._piece > limits.head_bytes_max) and (
            len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers) > limits.head_bytes_max
        ):
            self._refuse_head("head_bytes_max", limits.head_bytes_max, "bytes")
            raise _Refused
        if len(self.headers) > limits.head_fields_max:
            self._refuse_head("head_fields_max", limits.head_fields_max, "fields")
            raise _Refused
        if len(self.pipeline) >= limits.queued_requests_max:
            self._refuse("queued_requests_max", limits.queued_requests_max)
            raise _Refused
        self._begin(self._scope())
        # Trailers would stand in the list of headers that the application reads: what a gateway has set would be undone.
        self.headers = []
        self._stage, self._fed, self._dropped = _BODY, 0, 0

    def _scope(self) -> Scope:
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": self.parser.get_http_version(),
            "method": self.parser.get_method().decode("ascii"),
            "scheme": self.scheme,
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
            "root_path": "",
            "headers": self.headers,
            "client": self.client,
            "server": self.server,
        }

    def _begin(self, scope: Scope) -> None:
        before = self.cycle
        self.cycle = Cycle(
            scope=scope,  # type: ignore[arg-type]  # uvicorn has a class for it.
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=scope["http_version"] != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            # Its turn comes when those before it are answered; until then nothing more is read.
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_response_complete(self) -> None:
        """See uvicorn."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._answered = self.loop.time()

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        super().on_body(body)
        self._fed = 0
        if self.cycle.response_complete:
            self._dropped += len(body)
            if self._dropped > dropped_bytes_max:
                self._refuse("dropped_bytes_max", dropped_bytes_max)

    def on_message_complete(self) -> None:
        """See httptools."""
        # As uvicorn has it, but for upgrades, which nobody here speaks.
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()
        # What follows in this piece is not counted as the head that it may be: the next piece begins it.
        self._stage = _BETWEEN

    def look(self, now: float) -> None:
        """End the connection if it has stood still for too long: nothing read of an answer, no head, no byte of a body."""
        limits = self._limits
        if self.flow.write_paused or self.transport.is_closing():
            self._look_at_unread(now)
            return
        self._unread = 0
        if self._deaf:
            return
        if self._stage == _BODY:
            # While we do not read, or answers to others are due before, it is not the client that is silent.
            if now - self._heard > limits.body_silent_seconds_max and not (self.flow.read_paused or self.pipeline):
                self._refuse_slow("body_silent_seconds_max", limits.body_silent_seconds_max, "no byte of the body came")
        elif self._busy:
            return
        elif self._stage == _BETWEEN and self.cycle is not None:
            # Nobody waits for an answer, so none is given.
            if now - self._answered > self.timeout_keep_alive:
                self.transport.close()
        elif now - max(self._began, self._answered) > limits.head_seconds_max:
            self._refuse_slow("head_seconds_max", limits.head_seconds_max, "the head was not complete")

    def _look_at_unread(self, now: float) -> None:
        unread = self.transport.get_write_buffer_size() + _in_kernel(self.transport)
        if unread != self._unread or not unread:
            self._unread, self._unread_since = unread, now
        elif now - self._unread_since > self._limits.unread_seconds_max:
            self._keeper.note("unread_seconds_max", self._limits.unread_seconds_max)
            # Not closed, which would wait until the client has read what is left.
            self.transport.abort()

    @property
    def _busy(self) -> bool:
        """Whether an answer is due."""
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse_head(self, limit: str, value: int, unit: str) -> None:
        detail = f"the head or the trailers have more than {value} {unit} ({limit})"
        self._refuse(limit, value, _problem(431, "TooLarge", detail, limit))

    def _refuse_slow(self, limit: str, seconds: float, what: str) -> None:
        self._refuse(limit, seconds, _problem(408, "TooSlow", f"{what} for {seconds} s ({limit})", limit))

    def _refuse(self, limit: str, value: float, answer: bytes = b"") -> None:
        """Take in nothing more; give this answer if it is the request's turn, and close once all is sent that is due."""
        self._deaf = True
        self._keeper.note(limit, value)
        if self._busy and self._stage != _BODY:
            # The last one that is due says that it is the last.
            self.cycle.keep_alive = False
            return
        # A body that will never be whole: its request is at its turn, waits behind others, or has its answer already.
        begun = self._stage == _BODY and (self.cycle.response_started or bool(self.pipeline))
        if not begun and not self.transport.is_closing():
            self.transport.write(answer)
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: a client could fill the log."""


def _in_kernel(transport: asyncio.Transport) -> int:
    """Bytes that the system holds for the client. It takes new ones only once much of them was read: alone, ours stand still."""
    with contextlib.suppress(OSError):
        told = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(told, sys.byteorder)
    return 0


def _problem(status: int, name: str, detail: str, limit: str = "malformed") -> bytes:
    """A problem as it stands on the wire: no application is asked."""
    reply = problem({"name": name, "status": status, "detail": detail, "limit": limit})
    headers = [reply.media, (b"content-length", b"%d" % len(reply.body)), *reply.headers, (b"connection", b"close")]
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (
        reply.status,
        http.HTTPStatus(reply.status).phrase.encode(),
        lines,
        reply.body,
    )
