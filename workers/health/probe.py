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
from functools import lru_cache
from types import TracebackType
from typing import Final, Self

import aiohttp
from yarl import URL

from muster.wire.registry.check import HttpCheck, TcpCheck, timeout_seconds_max
from workers.health.plain_http import BODY_BYTES_MAX, DEFAULTS, BrokenAnswer, ask

TEXT_CHARS_MAX: Final = 1024
LATE_SECONDS: Final = 0.25
"""When a timer fires later than this, it was the process that did not run, not the instance."""
KEPT_SECONDS: Final = 30.0

# Our own shortages. EADDRNOTAVAIL is not among them: it also means an address that does not exist here.
_OURS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of a run: `success` is None when it says nothing about the instance; `text` has up to 1024 characters."""

    success: bool | None
    text: str


class Prober:
    """Runs checks; an async context manager that owns the connections kept for https.

    Plain http connects anew each time: that is cheap, and proves that the instance accepts new callers. A TLS handshake
    is expensive, so https may keep its connection. `tls` is the context to use; None trusts the system's authorities.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._kept: aiohttp.ClientSession
        self._fresh: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        # The number of checks in flight is limited by the caller, hence no limit here.
        trust = self._tls or True
        self._kept = _session(aiohttp.TCPConnector(limit=0, ssl=trust, keepalive_timeout=KEPT_SECONDS))
        self._fresh = _session(aiohttp.TCPConnector(limit=0, ssl=trust, force_close=True))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._kept.close()
        await self._fresh.close()

    async def run(self, check: HttpCheck | TcpCheck, *, fresh: bool) -> ProbeResult:
        """Ask once, within the check's timeout. `fresh`: https connects anew, and the connection is not kept."""
        started = time.monotonic()
        # What was registered before there was a limit is run within it.
        seconds = min(check.timeout_seconds, timeout_seconds_max(check))
        try:
            async with asyncio.timeout(seconds):
                if isinstance(check, TcpCheck):
                    return await _connect(check)
                return await self._request(check, fresh)
        except TimeoutError:
            # A timeout that fires late means that this process stood still, and may have missed the answer.
            if time.monotonic() - started > seconds + LATE_SECONDS:
                return ProbeResult(None, "not judged: the controller was stopped or overloaded while it waited")
            return ProbeResult(False, f"no answer within {seconds:g} s")
        except socket.gaierror as error:
            host = check.host if isinstance(check, TcpCheck) else URL(check.url).host
            return ProbeResult(False, f"cannot resolve {host}: {error.strerror}")
        except (aiohttp.ClientError, BrokenAnswer, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in _OURS:
                return ProbeResult(None, f"not judged: the controller has a shortage: {os.strerror(error.errno)}")
            return ProbeResult(False, _why(error)[:TEXT_CHARS_MAX])

    async def _request(self, check: HttpCheck, fresh: bool) -> ProbeResult:
        # Parsed at each run: to keep a parsed URL for each of 100,000 instances would take 100 MB.
        url = URL(check.url)
        wanted = check.body_match.encode() if check.body_match is not None else None
        if url.scheme == "https":
            status, found = await _ask_over_tls(self._fresh if fresh else self._kept, url, check, wanted)
        else:
            status, found = await ask(url, check.method, check.headers, wanted)
        expected = check.expected_status
        if status != expected and (expected is not None or status // 100 != 2):
            return ProbeResult(False, f"HTTP {status}, expected {expected or '2xx'}")
        if not found:
            return ProbeResult(
                False, f"HTTP {status}, but the body does not contain {check.body_match!r}"[:TEXT_CHARS_MAX]
            )
        return _success(f"HTTP {status}")


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        headers=DEFAULTS,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        # No timeout here: `run` limits the whole check, name resolution included.
        timeout=aiohttp.ClientTimeout(total=None),
    )


async def _connect(check: TcpCheck) -> ProbeResult:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, check.host, check.port)
    transport.abort()
    return _success("connected")


async def _ask_over_tls(
    session: aiohttp.ClientSession, url: URL, check: HttpCheck, wanted: bytes | None
) -> tuple[int, bool]:
    """As `ask`, over TLS."""
    async with session.request(check.method, url, headers=check.headers, allow_redirects=False) as response:
        return response.status, wanted is None or await _contains(response.content, wanted)


async def _contains(body: aiohttp.StreamReader, wanted: bytes) -> bool:
    seen = bytearray()
    while len(seen) < BODY_BYTES_MAX and (chunk := await body.read(BODY_BYTES_MAX - len(seen))):
        # A match may have begun in what came before, but not lie in it as a whole.
        start = max(0, len(seen) - len(wanted) + 1)
        seen += chunk
        if seen.find(wanted, start) >= 0:
            return True
    return False


@lru_cache(maxsize=256)
def _success(text: str) -> ProbeResult:
    """One object for the same success, however many instances share it."""
    return ProbeResult(True, text)


def _why(error: aiohttp.ClientError | BrokenAnswer | OSError | ValueError) -> str:
    match error:
        case BrokenAnswer():
            return str(error)
        case aiohttp.ClientConnectorDNSError():
            return f"cannot resolve {error.host}: {error.os_error.strerror or error.os_error}"
        case aiohttp.ClientConnectorCertificateError():
            return f"TLS failure: {error.certificate_error}"
        case aiohttp.ClientConnectorError() if isinstance(error.os_error, ssl.SSLError):
            return f"TLS failure: {error.os_error}"
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed before an answer came"
        case aiohttp.ClientResponseError():
            return f"no valid HTTP answer: {error.message}"
        case aiohttp.ClientPayloadError():
            return "the body broke off"
        case OSError():
            return _why_not_connected(error)
        case _:
            return f"the check cannot be sent: {error}"


def _why_not_connected(error: OSError) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    # A name with several addresses, all of which refuse, gives an error without a number.
    if error.errno == errno.ECONNREFUSED or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return "connection refused"
    if error.errno == errno.ECONNRESET:
        return "connection reset"
    return f"cannot connect: {error.strerror or error}"
