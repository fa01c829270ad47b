"""One http request over one connection, with TLS or without: what a check needs and no more.

A check asks for a status and at most the beginning of a body. A full client costs about twice the processor time for
that; decision 23 has the figures. Both ways are read by the same code, so that what is healthy over one is so over the other.
"""

import asyncio
import string
from base64 import b64encode
from collections.abc import Mapping
from typing import Final, NamedTuple, cast

import httptools
from yarl import URL

BODY_BYTES_MAX: Final = 64 * 1024
HEAD_BYTES_MAX: Final = 64 * 1024

DEFAULTS: Final = {"User-Agent": "muster", "Accept": "*/*", "Accept-Encoding": "identity", "Muster-Check": "1"}
"""Headers of every check unless it has its own. No compression: a compressed body could not be searched as it comes. By the last
one, which a check can change and not leave out, controllers know that they are checked, and refuse.
"""

_TOKEN: Final = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")


class BrokenAnswer(Exception):
    """No full answer came, or what came is not http; the text says which."""


class HttpAnswer(NamedTuple):
    """The final status; whether the first 64 KiB of the body have what was wanted; whether the body went on behind them."""

    status: int
    found: bool
    more: bool


def request_of(url: URL, method: str, headers: Mapping[str, str], *, keep: bool) -> bytes:
    """The request; `keep`: its connection is used again. Raises ValueError for one that cannot be sent."""
    if not url.host or not url.port:
        raise ValueError("the URL names no host or no port")
    head = {"Host": url.host_port_subcomponent or "", **DEFAULTS}
    if not keep:
        head["Connection"] = "close"
    if method in ("POST", "PUT"):
        # Without a length some servers refuse these methods with 411.
        head["Content-Length"] = "0"
    if url.user is not None:
        head["Authorization"] = "Basic " + b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
    if headers:
        given = {name.lower() for name in headers}
        head = {name: value for name, value in head.items() if name.lower() not in given} | _valid(headers)
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"{method} {url.raw_path_qs} HTTP/1.1\r\n{lines}\r\n".encode()


def _valid(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not name or not _TOKEN.issuperset(name) or any(mark in value for mark in "\r\n\0"):
            raise ValueError(f"header {name!r} is not valid")
    return dict(headers)


class Exchange(asyncio.Protocol):
    """A connection on which a request is sent once it is made, and another one when the answer has come whole.

    `answer` is done as soon as enough of the answer has come. `idle`: all of it has, and the connection can be used again.
    Raises, by `answer`, BrokenAnswer.
    """

    def __init__(self, request: bytes, wanted: bytes | None, answer: "asyncio.Future[HttpAnswer]") -> None:
        self._transport: asyncio.Transport | None = None
        self.lost = False
        self._begin(request, wanted, answer)

    def _begin(self, request: bytes, wanted: bytes | None, answer: "asyncio.Future[HttpAnswer]") -> None:
        self.answer = answer
        self.idle = self.heard = False
        self._request = request
        self._wanted = wanted
        self._status = 0
        self._head_bytes = self._drained_bytes = 0
        self._body = bytearray()
        self._parser = httptools.HttpResponseParser(self)
        # The question is whether the instance serves, not whether its http is flawless: bare line feeds pass, as in browsers.
        self._parser.set_dangerous_leniencies(lenient_headers=True, lenient_optional_cr_before_lf=True)

    def again(self, request: bytes, wanted: bytes | None, answer: "asyncio.Future[HttpAnswer]") -> None:
        """Ask once more on the idle connection."""
        assert self.idle, "the answer before is not whole yet"
        assert self._transport is not None, "it is idle, so it was connected"
        self._begin(request, wanted, answer)
        self._transport.write(request)

    def close(self) -> None:
        """Give the connection up. The reference cycle with the parser is broken, so that the garbage collector need not find a
        thousand of them a second.
        """
        self.lost, self.idle = True, False
        if self._transport is not None:
            # Not `close`, which waits for what is still to be sent: the answer is known, or nobody waits for it.
            self._transport.abort()
        del self._parser

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        # A cast: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Read on. Behind an answer that is known the rest is read too, if it is short: then the connection is idle."""
        self.heard = True
        if self.lost or self.idle or self._drained_bytes > BODY_BYTES_MAX:
            # Nobody has asked for this.
            self.idle, self._drained_bytes = False, BODY_BYTES_MAX + 1
            return
        if self.answer.done():
            self._drained_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._conclude(False)
        except httptools.HttpParserError as error:
            self._drained_bytes = BODY_BYTES_MAX + 1
            self._broken(f"no valid HTTP answer: {error}")
        if not self._status:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._broken("no valid HTTP answer: its head is too long")

    def on_headers_complete(self) -> None:
        """See httptools."""
        status = self._parser.get_status_code()
        # 100 Continue and 103 Early Hints announce the answer; 101 is one.
        self._status = status if status >= 200 or status == 101 else 0
        if self._status and self._wanted is None:
            self._conclude(True)

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        wanted, seen = self._wanted, self._body
        if wanted is None or self.answer.done():
            return
        # Only what is new can complete a match: a body that drips in must not cost a full search each time.
        start, room = max(0, len(seen) - len(wanted) + 1), BODY_BYTES_MAX - len(seen)
        seen += body[:room]
        if seen.find(wanted, start) >= 0:
            self._conclude(True)
        elif len(body) > room:
            self._conclude(False, more=True)

    def on_message_complete(self) -> None:
        """See httptools."""
        # An announcement like 100 Continue is a complete message too, and is not the answer.
        if self._status:
            self._conclude(False)
            self.idle = self._status != 101 and self._parser.should_keep_alive()

    def connection_lost(self, error: Exception | None) -> None:
        """A body may end with its connection; an answer that has not begun is none."""
        self.lost, self.idle = True, False
        if self._status:
            self._conclude(False)
        else:
            self._broken("connection reset" if error else "the connection was closed before an answer came")

    def _conclude(self, found: bool, *, more: bool = False) -> None:
        if not self.answer.done():
            self.answer.set_result(HttpAnswer(self._status, found, more))

    def _broken(self, why: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(BrokenAnswer(why))
