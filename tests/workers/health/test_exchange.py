"""Odd but legal answers, and broken ones, in one table: http and https are judged alike, in one line."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme

from muster.wire.registry.check import HttpCheck
from workers.health.probe import Asker, Prober, ProbeResult, line

AUTHORITY = trustme.CA()
ASKER = Asker("127.0.0.1", "service/orders")
OK = b"HTTP/1.1 200 OK\r\n"
LARGE = b"x" * 70_000


@asynccontextmanager
async def speaking(answer: bytes, scheme: str) -> AsyncIterator[str]:
    """A server that hears a request, says `answer` and hangs up; its URL."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    tls = None
    if scheme == "https":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        AUTHORITY.issue_cert("127.0.0.1").configure_cert(tls)
    async with await asyncio.start_server(speak, "127.0.0.1", 0, ssl=tls) as server:
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def asked(answer: bytes, scheme: str, **changes: Any) -> ProbeResult:
    trust = ssl.create_default_context()
    AUTHORITY.configure_trust(trust)
    async with speaking(answer, scheme) as url, Prober(trust) as prober:
        return await prober.run(HttpCheck(**{"url": url, "body_match": "ready", **changes}), ASKER)


HEALTHY = {
    "chunked": OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nrea\r\n2\r\ndy\r\n0\r\n\r\n",
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nready",
    "two announcements": b"HTTP/1.1 100 Continue\r\n\r\n" * 2 + OK + b"Content-Length: 5\r\n\r\nready",
    "until the end": b"HTTP/1.0 200 OK\r\n\r\nall is ready",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nready",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nready",
    "an odd reason": b"HTTP/1.1 200 \xe4 ok\r\nContent-Length: 5\r\n\r\nready",
    "http 1.0 that keeps": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nready",
    "no space behind the colon": OK + b"Content-Length:5\r\n\r\nready",
    "a header of 30 KB": OK + b"X: " + b"y" * 30_000 + b"\r\nContent-Length: 5\r\n\r\nready",
    "500 headers": OK + b"X: y\r\n" * 500 + b"Content-Length: 5\r\n\r\nready",
    "other letters": OK + b"X-Name: v\xe4lue\r\nContent-Length: 5\r\n\r\nready",
    "a trailer": OK + b"Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nready\r\n0\r\nX: y\r\n\r\n",
    "more than was said": OK + b"Content-Length: 5\r\n\r\nreadymore",
    "the end is missing": OK + b"Content-Length: 9\r\n\r\nready",
    "a coding": OK + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nready",
    "at the end of what is read": OK + b"\r\n" + b"x" * (65_536 - 5) + b"ready" + LARGE,
}
BROKEN = {
    "another protocol": (b"SSH-2.0-OpenSSH_9.2\r\n", "no valid HTTP answer: "),
    "nothing": (b"", "the connection was closed before an answer came"),
    "half a head": (OK, "the connection was closed before an answer came"),
    "an endless head": (OK + b"X-Long: 1\r\n" * 10_000, "no valid HTTP answer: its head is too long"),
    "half a body": (OK + b"Content-Length: 100\r\n\r\nshort", "HTTP 200, but the body does not contain 'ready'"),
    "a large body": (
        OK + b"\r\n" + LARGE + b"ready",
        "HTTP 200, but the body does not contain 'ready' in its first 64 KiB",
    ),
    "just as much": (OK + b"\r\n" + LARGE[:65_536], "HTTP 200, but the body does not contain 'ready'"),
    "only an announcement": (b"HTTP/1.1 100 Continue\r\n\r\n", "the connection was closed before an answer came"),
    "a status of two": (b"HTTP/1.1 20 OK\r\n\r\n", "no valid HTTP answer: "),
    "a chunk that is none": (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "no valid HTTP answer: "),
    "a line of a parser's": (b"HTTP/1.1 200 OK\r\nA\x00\nB: \x1b[2J\r\n\r\n", ""),
    "another status": (b"HTTP/1.1 503 \r\n\r\nready", "HTTP 503, expected 2xx"),
    "a redirect": (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "HTTP 302, expected 2xx"),
}


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("answer", HEALTHY)
async def test_an_odd_answer_is_understood_over_both(answer: str, scheme: str):
    assert await asked(HEALTHY[answer], scheme) == ProbeResult(True, "HTTP 200")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("answer", BROKEN)
async def test_a_broken_answer_is_told_in_one_line_over_both(answer: str, scheme: str):
    said, cause = BROKEN[answer]
    told = await asked(said, scheme)
    assert told.success is False
    assert told.text.startswith(cause)
    assert told.text.isprintable()
    assert 0 < len(told.text) <= 1024


@pytest.mark.parametrize("answer", [*HEALTHY.values(), *(said for said, _ in BROKEN.values())])
async def test_both_say_the_same_of_everything(answer: bytes):
    assert await asked(answer, "http") == await asked(answer, "https")
    assert await asked(answer, "http", body_match=None) == await asked(answer, "https", body_match=None)


async def test_what_was_wanted_is_shown_in_one_line_whatever_it_is():
    told = await asked(OK + b"\r\n", "http", body_match="\x1b[31m\n" * 200)
    assert told.text.isprintable()
    assert len(told.text) <= 1024


def test_a_cause_of_which_nothing_can_be_shown_is_not_empty():
    assert line("\x1b \n\t", "OSError") == "OSError"
