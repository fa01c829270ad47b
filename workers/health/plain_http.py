"""One http request over one new connection: what a plain http check needs and no more.

A check asks for a status and at most the beginning of a body. A full client costs about twice the processor time for
that; docs/dependencies.md has the figures.
"""

import asyncio
import string
from base64 import b64encode
from collections.abc import Mapping
from typing import Final, cast

import httptools
from yarl import URL

BODY_BYTES_MAX: Final = 64 * 1024
HEAD_BYTES_MAX: Final = 64 * 1024

DEFAULTS: Final = {"User-Agent": "muster", "Accept": "*/*", "Accept-Encoding": "identity"}
"""Headers of every check unless it has its own. No compression: a compressed body could not be searched as it comes."""

_TOKEN: Final = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")


class BrokenAnswer(Exception):
    """No full answer came, or what came is not http; the text says which."""


async def ask(url: URL, method: str, headers: Mapping[str, str], wanted: bytes | None) -> tuple[int, bool]:
    """The final status of the answer, and whether the first 64 KiB of its body contain `wanted` (True for None).

    The body is not read when nothing is wanted. Raises BrokenAnswer, OSError when no connection can be made, and
    ValueError for a request that cannot be sent. The caller limits the time.
    """
    if not url.host or not url.port:
        raise ValueError("the URL names no host or no port")
    loop = asyncio.get_running_loop()
    exchange = _Exchange(_request(url, method, headers), wanted, loop.create_future())
    transport, _ = await loop.create_connection(lambda: exchange, url.host, url.port)
    try:
        return await exchange.answer
    finally:
        transport.abort()  # Not `close`, which waits for what is still to be sent: the answer is known, or nobody waits for it.
        exchange.forget()


def _request(url: URL, method: str, headers: Mapping[str, str]) -> bytes:
    head = {"Host": url.host_port_subcomponent or "", **DEFAULTS, "Connection": "close"}
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


class _Exchange(asyncio.Protocol):
    """Sends the request when connected; `answer` is done as soon as enough of the answer has come."""

    def __init__(self, request: bytes, wanted: bytes | None, answer: asyncio.Future[tuple[int, bool]]) -> None:
        self.answer = answer
        self._request = request
        self._wanted = wanted
        self._status = 0
        self._head_bytes = 0
        self._body = bytearray()
        self._parser = httptools.HttpResponseParser(self)
        # The question is whether the instance serves, not whether its http is flawless: bare line feeds pass, as in browsers.
        self._parser.set_dangerous_leniencies(lenient_headers=True, lenient_optional_cr_before_lf=True)

    def forget(self) -> None:
        """Break the reference cycle with the parser, so that the garbage collector need not find a thousand of them a second."""
        del self._parser

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports are no subclasses of asyncio's.
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.answer.done():
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._conclude(False)
        except httptools.HttpParserError as error:
            self._broken(f"no valid HTTP answer: {error}")
        if not self._status:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._broken("no valid HTTP answer: its head is too long")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        # 100 Continue and 103 Early Hints announce the answer; 101 is one.
        self._status = status if status >= 200 or status == 101 else 0
        if self._status and self._wanted is None:
            self._conclude(True)

    def on_body(self, body: bytes) -> None:
        wanted, seen = self._wanted, self._body
        if wanted is None or self.answer.done():
            return
        # Only what is new can complete a match: a body that drips in must not cost a full search each time.
        start = max(0, len(seen) - len(wanted) + 1)
        seen += body[: BODY_BYTES_MAX - len(seen)]
        if seen.find(wanted, start) >= 0:
            self._conclude(True)
        elif len(seen) >= BODY_BYTES_MAX:
            self._conclude(False)

    def on_message_complete(self) -> None:
        # An announcement like 100 Continue is a complete message too, and is not the answer.
        if self._status:
            self._conclude(False)

    def connection_lost(self, error: Exception | None) -> None:
        if self._status:
            self._conclude(False)
        else:
            self._broken("connection reset" if error else "the connection was closed before an answer came")

    def _conclude(self, found: bool) -> None:
        if not self.answer.done():
            self.answer.set_result((self._status, found))

    def _broken(self, why: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(BrokenAnswer(why))
