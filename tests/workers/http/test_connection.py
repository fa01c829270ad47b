"""The HTTP connection, byte by byte: what a client sends and sees, and what the application is told."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from workers.http.connection import Connection, Turn, unread_bytes_max

GET = b"GET /a HTTP/1.1\r\nhost: h\r\n\r\n"
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Client:
    """A connection to the server under test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def some(self) -> bytes:
        """What the next read brings."""
        return await asyncio.wait_for(self.reader.read(65_536), 5)

    async def until(self, end: bytes) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(end), 5)

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        return await asyncio.wait_for(self.reader.read(), 5)


class Server:
    """An application behind connections of ours; `connect` gives clients."""

    def __init__(self, server: uvicorn.Server, port: int) -> None:
        self.server, self._port = server, port

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)


@asynccontextmanager
async def serving(app: App, **options: Any) -> AsyncIterator[Server]:
    headers = {"date_header": False, "server_header": False}
    config = uvicorn.Config(
        app, http=Connection, lifespan="off", log_config=None, timeout_graceful_shutdown=2, **headers, **options
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        task = asyncio.create_task(server._serve([listening]))
        while not server.started:  # noqa: ASYNC110 uvicorn has no event for it
            await asyncio.sleep(0.01)
        yield Server(server, listening.getsockname()[1])
        server.should_exit = True
        await task


def answering(*pieces: bytes, status: int = 200, headers: Any = ()) -> App:
    """Answers these pieces to everything, once the whole body is there."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for piece in pieces[:-1]:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": pieces[-1]})

    return app


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers what was asked."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    told = f"{scope['method']} {scope['path']} {scope['raw_path'].decode()} {scope['query_string'].decode()} ".encode()
    told += body
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(told))]})
    await send({"type": "http.response.body", "body": told})


async def told(server_app: App, data: bytes) -> bytes:
    """All that a client sees who sends this and waits for the connection's end."""
    async with serving(server_app) as server, server.connect() as client:
        client.send(data)
        return await client.rest()


def closing(method: str = "GET", target: str = "/a", body: bytes = b"", version: str = "1.1") -> bytes:
    head = f"{method} {target} HTTP/{version}\r\nhost: h\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def test_a_small_response_leaves_in_one_piece() -> None:
    async with serving(answering(b"hello", headers=[(b"content-length", b"5")])) as server, server.connect() as client:
        client.send(GET)
        assert await client.some() == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
        client.send(GET)
        assert (await client.some()).endswith(b"hello")


async def test_a_large_one_is_whole() -> None:
    large = b"x" * 300_000
    assert (await told(answering(large, headers=[(b"content-length", b"300000")]), closing())).endswith(
        b"\r\n\r\n" + large
    )


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("/a%20b/c?d=e&f=?", b"GET /a b/c /a%20b/c d=e&f=? "),
        ("http://host:1/a?b", b"GET /a /a b "),
        ("/", b"GET / /  "),
    ],
)
async def test_the_target_in_its_parts(target: str, seen: bytes) -> None:
    assert (await told(echo, closing(target=target))).endswith(b"\r\n\r\n" + seen)


async def test_a_body_in_chunks_and_in_drops() -> None:
    async with serving(echo) as server, server.connect() as client:
        for drop in (
            b"PUT /a HTTP/1.1\r\ntransfer-enc",
            b"oding: chunked\r\n\r\n",
            b"3\r\nabc\r\n",
            b"2\r\nde\r\n0\r\n\r\n",
        ):
            client.send(drop)
            await asyncio.sleep(0.02)
        assert await client.until(b"abcde")


async def test_requests_that_come_at_once_are_answered_in_turn_and_one_by_one() -> None:
    under_way = most = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01 if scope["path"] == "/last" else 0.03)
        under_way -= 1
        await echo(scope, receive, send)

    put = b"PUT /%d HTTP/1.1\r\ncontent-length: 1\r\n\r\n%d"
    seen = await told(app, b"".join(put % (n, n) for n in range(5)) + closing("PUT", "/last", b"!"))
    found = [part.split(b"\r\n\r\n")[1] for part in seen.split(b"HTTP/1.1 200 OK")[1:]]
    assert found == [b"PUT /%d /%d  %d" % (n, n, n) for n in range(5)] + [b"PUT /last /last  !"]
    assert most == 1


async def test_nothing_is_done_of_what_comes_behind_a_close() -> None:
    paths = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        paths.append(scope["path"])
        await echo(scope, receive, send)

    assert (await told(app, closing() + GET)).count(b"HTTP/1.1") == 1
    assert paths == ["/a"]


async def test_a_body_is_sent_when_it_is_asked_for() -> None:
    async with serving(echo) as server, server.connect() as client:
        client.send(b"PUT /a HTTP/1.1\r\ncontent-length: 2\r\nexpect: 100-Continue\r\n\r\n")
        assert await client.some() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hi")
        assert (await client.some()).endswith(b"hi")


async def test_who_answers_without_the_body_does_not_ask_for_it_and_the_next_request_is_read() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async with serving(app) as server, server.connect() as client:
        client.send(b"PUT /a HTTP/1.1\r\ncontent-length: 1000000\r\nexpect: 100-continue\r\n\r\n")
        assert (await client.some()).startswith(b"HTTP/1.1 413")
        client.send(b"x" * 1_000_000 + GET)
        assert (await client.some()).startswith(b"HTTP/1.1 413")


async def test_without_a_length_it_comes_in_chunks() -> None:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    assert await told(answering(b"ab", b"", b"c"), closing()) == head + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"


async def test_to_http_1_0_the_end_of_the_connection_is_that_of_the_body() -> None:
    seen = await told(answering(b"ab", b"c"), b"GET /a HTTP/1.0\r\n\r\n")
    assert seen == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_what_has_no_body_gets_none(method: str, status: int) -> None:
    seen = await told(answering(b"abc", status=status, headers=[(b"content-length", b"3")]), closing(method))
    assert seen.startswith(b"HTTP/1.1 %d" % status)
    assert seen.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "garbage",
    [
        b"no http\r\n\r\n",
        b"GET /\xe4 HTTP/1.1\r\n\r\n",
        b"PUT /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
async def test_what_is_no_http_is_refused(garbage: bytes) -> None:
    assert (await told(echo, garbage)).startswith(b"HTTP/1.1 400")


async def test_what_is_no_http_behind_a_request_is_not_taken_for_its_answer() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.05)
        await echo(scope, receive, send)

    assert await told(app, GET + b"no http\r\n\r\n") == b""


async def test_another_protocol_is_answered_with_this_one() -> None:
    seen = await told(echo, b"GET /a HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
    assert seen.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in seen


@pytest.mark.parametrize(
    "app",
    [
        answering(b"a", headers=[(b"x-a", b"b\r\nset-cookie: c")]),
        answering(b"a", headers=[(b"x-a", b"b\n")]),
        answering(b"abc", headers=[(b"content-length", b"2")]),
        answering(b"abc", headers=[(b"content-length", b"4")]),
    ],
)
async def test_a_response_that_is_none_is_broken_off(app: App) -> None:
    assert await told(app, GET) == b""


async def test_half_a_response_does_not_pass_for_a_whole_one() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        raise ValueError("on purpose")

    assert (await told(app, GET)).endswith(b"\r\n\r\n2\r\nab\r\n")


async def test_the_application_hears_that_the_client_has_gone() -> None:
    heard: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        messages = [(await receive())["type"] for _ in range(2)]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        heard.set_result(messages)

    async with serving(app) as server:
        async with server.connect() as client:
            client.send(GET)
            await asyncio.sleep(0.05)
        assert await asyncio.wait_for(heard, 5) == ["http.request", "http.disconnect"]
        assert server.connections == 0


async def test_no_more_is_read_of_a_body_than_the_application_takes() -> None:
    go_on, taken = asyncio.Event(), 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal taken
        await go_on.wait()
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            taken = max(taken, len(message["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serving(app) as server, server.connect() as client:
        client.send(b"PUT /a HTTP/1.1\r\ncontent-length: 8000000\r\n\r\n" + b"x" * 8_000_000)
        await asyncio.sleep(0.3)
        go_on.set()
        assert (await client.some()).startswith(b"HTTP/1.1 200")
    assert taken < unread_bytes_max + 1_000_000


async def test_no_more_requests_are_read_ahead_than_came_at_once() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(60)

    async with serving(app) as server, server.connect() as client:
        client.send(GET * 60_000)
        await asyncio.sleep(0.3)
        assert 0 < sum(isinstance(known, Turn) for known in gc.get_objects()) < 20_000
        for task in server.server.server_state.tasks:
            task.cancel()


async def test_no_more_is_sent_than_the_client_takes() -> None:
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100):
            await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})
            sent += 1
        await send({"type": "http.response.body", "body": b""})

    async with serving(app) as server, server.connect() as client:
        client.send(closing())
        await asyncio.sleep(0.5)
        assert 0 < sent < 50
        assert len(await client.rest()) > 100_000_000


async def test_who_rests_too_long_is_let_go_and_who_asks_now_and_then_is_not() -> None:
    async with serving(echo, timeout_keep_alive=1) as server, server.connect() as busy, server.connect() as idle:
        began = asyncio.get_running_loop().time()
        idle.send(GET)
        await idle.some()
        for _ in range(4):
            busy.send(GET)
            assert await busy.some()
            await asyncio.sleep(0.4)
        assert (await idle.some()) == b""
        assert server.connections == 1
        assert (await busy.some()) == b""
        assert asyncio.get_running_loop().time() - began >= 1.2 + 1


async def test_who_waits_for_an_answer_does_not_rest() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.0 if scope["path"] == "/a" else 1.3)
        await echo(scope, receive, send)

    async with serving(app, timeout_keep_alive=1) as server, server.connect() as client:
        client.send(GET)
        await client.some()
        client.send(b"GET /slow HTTP/1.1\r\n\r\n")
        assert b"/slow" in await client.some()


async def test_a_server_that_stops_answers_what_is_under_way() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.3)
        await echo(scope, receive, send)

    async with serving(app) as server, server.connect() as client, server.connect() as idle:
        client.send(GET)
        await asyncio.sleep(0.1)
        server.server.should_exit = True
        assert b"connection: close" in await client.rest()
        assert await idle.rest() == b""
