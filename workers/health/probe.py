"""One run of a check: asks the instance once, and describes the result in words for operators.

The result is success, failure, or nothing. When this process has no files or memory left, or was itself stopped while it
waited, that is no evidence against an instance: otherwise thousands would become unhealthy at once.
"""

import asyncio
import errno
import os
import socket
import ssl
import time
from dataclasses import dataclass
from functools import lru_cache, partial
from types import TracebackType
from typing import Final, Self

from yarl import URL

from muster.wire.registry.check import HttpCheck, TcpCheck, timeout_seconds_max
from workers.health.connect import Connector, Crowded, Forbidden, context_of, server_name_of
from workers.health.plain_http import BrokenAnswer, Exchange, HttpAnswer, request_of
from workers.health.targets import Targets

TEXT_CHARS_MAX: Final = 1024
LATE_SECONDS: Final = 0.25
"""When a timer fires later than this, it was the process that did not run, not the instance."""
KEPT_SECONDS: Final = 30.0

# Our own shortages. EADDRNOTAVAIL is not among them: it also means an address that does not exist here.
_OURS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_FAULTS: Final = (BrokenAnswer, Forbidden, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of a run: `success` is None when it says nothing about the instance; `text` is one line of up to 1024
    characters, and never empty.
    """

    success: bool | None
    text: str


@dataclass(frozen=True, slots=True)
class Asker:
    """For whom is asked: the instance's `address`, its service as the `owner` of what is asked, and what `keeps` a connection
    of its own for its next run (None: nothing does).
    """

    address: str
    owner: str
    keeps: object | None = None


class Prober:
    """Runs checks of whom `targets` lets them ask; an async context manager that owns the connections kept for https.

    Plain http connects anew each time: that is cheap, and proves that the instance accepts new callers. A TLS handshake
    is expensive, so https may keep its connection. `tls` is the context to use where a check says nothing; None trusts the
    system's authorities.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, targets: Targets | None = None) -> None:
        self._tls = tls
        self._connector = Connector(targets or Targets())
        self._kept: dict[object, tuple[Exchange, asyncio.TimerHandle]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for keeper in list(self._kept):
            self._give_up(keeper)

    async def run(self, check: HttpCheck | TcpCheck, asker: Asker) -> ProbeResult:
        """Ask once, within the check's timeout."""
        started = time.monotonic()
        # What was registered before there was a limit is run within it.
        seconds = min(check.timeout_seconds, timeout_seconds_max(check))
        try:
            async with asyncio.timeout(seconds):
                if isinstance(check, TcpCheck):
                    return await self._connect(check, asker)
                return await self._request(check, asker)
        except TimeoutError:
            # A timeout that fires late means that this process stood still, and may have missed the answer.
            if time.monotonic() - started > seconds + LATE_SECONDS:
                return ProbeResult(None, "not judged: the controller was stopped or overloaded while it waited")
            return ProbeResult(False, f"no answer within {seconds:g} s")
        except Crowded:
            return ProbeResult(None, "not judged: too many names of this service are being looked up")
        except _FAULTS as error:
            if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno in _OURS:
                return ProbeResult(None, f"not judged: the controller has a shortage: {os.strerror(error.errno)}")
            return ProbeResult(False, line(_why(error, check), type(error).__name__))

    async def _connect(self, check: TcpCheck, asker: Asker) -> ProbeResult:
        connect = self._connector.connect
        transport, _ = await connect(asyncio.Protocol, check.host, check.port, address=asker.address, owner=asker.owner)
        transport.abort()
        return _success("connected")

    async def _request(self, check: HttpCheck, asker: Asker) -> ProbeResult:
        # Parsed at each run: to keep a parsed URL for each of 100,000 instances would take 100 MB.
        url = URL(check.url)
        wanted = check.body_match.encode() if check.body_match is not None else None
        status, found, more = await self._ask(url, check, wanted, asker)
        expected = check.expected_status
        if status != expected and (expected is not None or status // 100 != 2):
            return ProbeResult(False, f"HTTP {status}, expected {expected or '2xx'}")
        if not found:
            where = " in its first 64 KiB" if more else ""
            text = f"HTTP {status}, but the body does not contain {check.body_match!r}{where}"
            return ProbeResult(False, line(text, ""))
        return _success(f"HTTP {status}")

    async def _ask(self, url: URL, check: HttpCheck, wanted: bytes | None, asker: Asker) -> HttpAnswer:
        request = request_of(url, check.method, check.headers, keep=asker.keeps is not None)
        loop = asyncio.get_running_loop()
        if asker.keeps is not None and (exchange := self._taken(asker.keeps)) is not None:
            exchange.again(request, wanted, loop.create_future())
            try:
                return await self._answer(exchange, asker.keeps)
            except BrokenAnswer:
                # It was closed before the request came: nothing was heard, so nothing was said of the instance.
                if exchange.heard:
                    raise
        https = url.scheme == "https"
        _, exchange = await self._connector.connect(
            partial(Exchange, request, wanted, loop.create_future()),
            url.host or "",
            url.port or 0,
            address=asker.address,
            owner=asker.owner,
            tls=context_of(check, self._tls) if https else None,
            server_name=server_name_of(check),
        )
        return await self._answer(exchange, asker.keeps)

    async def _answer(self, exchange: Exchange, keeps: object | None) -> HttpAnswer:
        answered = False
        try:
            answer = await exchange.answer
            answered = True
            return answer
        finally:
            if answered and keeps is not None and not exchange.lost:
                # What is still to come of a short body comes before the next run, or the connection is not used again.
                handle = asyncio.get_running_loop().call_later(KEPT_SECONDS, self._give_up, keeps)
                self._kept[keeps] = exchange, handle
            else:
                exchange.close()

    def _taken(self, keeps: object) -> Exchange | None:
        """The connection that was kept, if it can be used again."""
        kept = self._kept.pop(keeps, None)
        if kept is None:
            return None
        exchange, handle = kept
        handle.cancel()
        if exchange.idle:
            return exchange
        exchange.close()
        return None

    def _give_up(self, keeps: object) -> None:
        exchange, handle = self._kept.pop(keeps)
        handle.cancel()
        exchange.close()


def line(text: str, otherwise: str) -> str:
    """The text as one line that can be shown anywhere, at most 1024 characters; `otherwise` if there is nothing of it."""
    shown = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * TEXT_CHARS_MAX]).split())
    return shown[:TEXT_CHARS_MAX] or otherwise


@lru_cache(maxsize=256)
def _success(text: str) -> ProbeResult:
    """One object for the same success, however many instances share it."""
    return ProbeResult(True, text)


def _why(error: Exception, check: HttpCheck | TcpCheck) -> str:
    match error:
        case BrokenAnswer() | Forbidden():
            return str(error)
        case socket.gaierror():
            host = check.host if isinstance(check, TcpCheck) else URL(check.url).host
            return f"cannot resolve {host}: {error.strerror or error}"
        case ssl.SSLError():
            return f"TLS failure: {error}"
        case OSError():
            return _why_not_connected(error)
        case _:
            return f"the check cannot be sent: {error}"


def _why_not_connected(error: OSError) -> str:
    # A name with several addresses, all of which refuse, gives an error without a number.
    if error.errno == errno.ECONNREFUSED or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return "connection refused"
    if error.errno == errno.ECONNRESET:
        return "connection reset"
    return f"cannot connect: {error.strerror or error or type(error).__name__}"
