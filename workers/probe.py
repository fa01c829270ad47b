"""One run of a check: ask the instance once, and say in an operator's words what came of it.

A run finds success, failure, or nothing: when this process is out of files or memory, or was itself stopped while it
waited, that is no evidence against an instance, and thousands must not flip for it.
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

from domain.check import HttpCheck, TcpCheck

TEXT_CHARS_MAX: Final = 1024
BODY_BYTES_MAX: Final = 64 * 1024
LATE_SECONDS: Final = 0.25
"""A timer that fires later than this tells that the process, not the instance, was away."""
KEPT_SECONDS: Final = 30.0

# Our own shortages. EADDRNOTAVAIL is not among them: it also means an address that does not exist here.
_OURS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a run found: `success` is None when it says nothing about the instance; `text` has up to 1024 characters."""

    success: bool | None
    text: str


class Prober:
    """Runs checks over shared client sessions; an async context manager that owns their connections."""

    def __init__(self) -> None:
        self._kept: aiohttp.ClientSession
        self._fresh: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        # The number of checks in flight is limited by the caller, hence no limit here.
        self._kept = _session(aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_SECONDS))
        self._fresh = _session(aiohttp.TCPConnector(limit=0, force_close=True))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._kept.close()
        await self._fresh.close()

    async def run(self, check: HttpCheck | TcpCheck, *, fresh: bool) -> Finding:
        """Ask once, within the check's timeout. `fresh`: http connects anew, and the connection is not kept."""
        started = time.monotonic()
        try:
            if isinstance(check, TcpCheck):
                return await _connect(check)
            return await _request(self._fresh if fresh else self._kept, check)
        except TimeoutError:
            if time.monotonic() - started > check.timeout_seconds + LATE_SECONDS:
                return Finding(None, "not judged: the controller was stopped or overloaded while it waited")
            return Finding(False, f"no answer within {check.timeout_seconds:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in _OURS:
                return Finding(None, f"not judged: the controller has a shortage: {os.strerror(error.errno)}")
            return Finding(False, _why(error)[:TEXT_CHARS_MAX])


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    # Compressed bodies would have to be inflated to be matched: ask for plain ones.
    return aiohttp.ClientSession(
        connector=connector,
        headers={"User-Agent": "muster", "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )


async def _connect(check: TcpCheck) -> Finding:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(check.timeout_seconds):
            transport, _ = await loop.create_connection(asyncio.Protocol, check.host, check.port)
    except socket.gaierror as error:
        return Finding(False, f"cannot resolve {check.host}: {error.strerror}")
    transport.abort()
    return _found("connected")


async def _request(session: aiohttp.ClientSession, check: HttpCheck) -> Finding:
    # A parsed URL weighs 1 kB and takes 10 µs to make: cheaper to make than to keep for 100,000 instances.
    request = session.request(
        check.method,
        URL(check.url),
        headers=check.headers,
        allow_redirects=False,
        timeout=_within(check.timeout_seconds),
    )
    async with request as response:
        status, wanted = response.status, check.expected_status
        if status != wanted and (wanted is not None or status // 100 != 2):
            return Finding(False, f"HTTP {status}, expected {wanted or '2xx'}")
        if check.body_match is not None and not await _contains(response.content, check.body_match.encode()):
            return Finding(False, f"HTTP {status}, but the body does not contain {check.body_match!r}"[:TEXT_CHARS_MAX])
        return _found(f"HTTP {status}")


async def _contains(body: aiohttp.StreamReader, wanted: bytes) -> bool:
    seen = bytearray()
    while len(seen) < BODY_BYTES_MAX and (chunk := await body.read(BODY_BYTES_MAX - len(seen))):
        # Only what is new can hold a first match: a body that drips in must not cost a full search each time.
        start = max(0, len(seen) - len(wanted) + 1)
        seen += chunk
        if seen.find(wanted, start) >= 0:
            return True
    return False


@lru_cache(maxsize=256)
def _found(text: str) -> Finding:
    """One object for the same success, however many instances share it."""
    return Finding(True, text)


@lru_cache(maxsize=256)
def _within(seconds: float) -> aiohttp.ClientTimeout:
    # aiohttp rounds longer timeouts up to whole seconds unless told otherwise.
    return aiohttp.ClientTimeout(total=seconds, ceil_threshold=seconds + 1)


def _why(error: aiohttp.ClientError | OSError | ValueError) -> str:
    match error:
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
    if error.errno == errno.ECONNREFUSED:
        return "connection refused"
    if error.errno == errno.ECONNRESET:
        return "connection reset"
    return f"cannot connect: {error.strerror or error}"
