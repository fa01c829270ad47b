"""HTTP connections, as who sits at the other end of the socket sees them."""

import asyncio
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import uvicorn
import uvloop

from workers.http.asgi import Receive, Scope, Send
from workers.http.connection.connection import Connection
from workers.http.connection.keeper import Keeper

App = Callable[[Scope, Receive, Send], Awaitable[None]]
Run = Callable[[Coroutine[Any, Any, None]], None]

GET = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
CLOSING = b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
PIECE = b"x" * 65_536

on_both_loops = pytest.mark.parametrize("run", [asyncio.run, uvloop.run])


class Client:
    """A connection to the server under test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def sees(self, wanted: bytes) -> None:
        async with asyncio.timeout(5):
            assert await self._reader.readexactly(len(wanted)) == wanted

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        async with asyncio.timeout(10):
            return await self._reader.read()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._writer.get_extra_info("sockname")
        return host, port

    def reset(self) -> None:
        """Go, and let the server know by a reset."""
        connected: socket.socket = self._writer.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    @property
    def unsent(self) -> int:
        """How many bytes the server has not let us send yet, beside those under way."""
        return self._writer.transport.get_write_buffer_size()

    @property
    def segments(self) -> int:
        """How many TCP segments have brought data: tcpi_data_segs_in of Linux' tcp_info."""
        connected: socket.socket = self._writer.get_extra_info("socket")
        return int(struct.unpack_from("I", connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160), 152)[0])


@asynccontextmanager
async def talking(app: App, *, idle_seconds_max: int = 5) -> AsyncIterator[tuple[Client, uvicorn.Server]]:
    """A client of a server with this application."""
    config = uvicorn.Config(
        app,
        http=partial(Connection, keeper=Keeper()),  # type: ignore[arg-type]
        lifespan="off",
        log_config=None,
        date_header=False,
        server_header=False,
        timeout_keep_alive=idle_seconds_max,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        task = asyncio.create_task(server._serve([listening]))
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        yield Client(reader, writer), server
        writer.close()
        server.should_exit = True
        await task


async def start(send: Send, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await start(send, (b"content-length", b"5"))
    await send({"type": "http.response.body", "body": b"hello"})


@on_both_loops
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how many segments came")
def test_a_response_comes_in_one_segment(run: Run) -> None:
    async def asked() -> None:
        async with talking(hello) as (client, _):
            for count in (1, 2, 3):
                client.send(GET)
                await client.sees(HELLO)
                assert client.segments == count

    run(asked())


@on_both_loops
def test_a_streams_head_comes_before_it_has_anything_to_say(run: Run) -> None:
    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await receive()
        assert (await receive())["type"] == "http.disconnect"

    async def asked() -> None:
        async with talking(stream) as (client, _):
            client.send(GET)
            await client.sees(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")

    run(asked())


async def test_a_head_that_has_no_body_comes_alone_and_the_next_response_behind_it() -> None:
    async with talking(hello) as (client, _):
        client.send(GET.replace(b"GET", b"HEAD") + GET)
        await client.sees(HELLO.removesuffix(b"hello") + HELLO)


async def test_requests_that_come_at_once_are_answered_in_turn() -> None:
    async with talking(hello) as (client, _):
        client.send(GET * 16)
        await client.sees(HELLO * 16)


async def test_a_body_is_sent_when_it_is_asked_for() -> None:
    async with talking(hello) as (client, _):
        client.send(b"PUT / HTTP/1.1\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        await client.sees(b"HTTP/1.1 100 Continue\r\n\r\n")
        client.send(b"hi")
        await client.sees(HELLO)


async def test_a_body_that_nobody_reads_is_not_taken_in() -> None:
    wanted = asyncio.Event()

    async def reading(scope: Scope, receive: Receive, send: Send) -> None:
        await wanted.wait()
        while (await receive())["more_body"]:
            pass
        await start(send, (b"content-length", b"5"))
        await send({"type": "http.response.body", "body": b"hello"})

    async with talking(reading) as (client, _):
        client.send(b"PUT / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (512 * len(PIECE)) + 512 * PIECE)
        await asyncio.sleep(0.5)
        assert client.unsent > 0
        wanted.set()
        await client.sees(HELLO)


async def test_who_asks_nothing_more_is_left_without_a_word() -> None:
    async with talking(hello, idle_seconds_max=0) as (client, _):
        client.send(GET)
        await client.sees(HELLO)
        assert await client.rest() == b""


async def test_the_application_knows_who_asks() -> None:
    async def who(scope: Scope, receive: Receive, send: Send) -> None:
        known.append(scope["client"])
        await hello(scope, receive, send)

    known: list[tuple[str, int]] = []
    async with talking(who) as (client, _):
        client.send(GET)
        await client.sees(HELLO)
        assert known == [client.address]


async def test_a_last_response_is_whole() -> None:
    async with talking(hello) as (client, _):
        client.send(CLOSING)
        assert await client.rest() == HELLO.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")


async def test_who_fails_behind_its_head_has_sent_nothing_of_it() -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, (b"content-length", b"5"))
        raise ValueError("behind the head")

    async with talking(failing) as (client, _):
        client.send(GET)
        assert (await client.rest()).startswith(b"HTTP/1.1 500 ")


async def test_a_body_of_another_length_than_its_head_says_ends_the_connection() -> None:
    async def longer(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, (b"content-length", b"5"))
        await send({"type": "http.response.body", "body": b"hell", "more_body": True})
        await send({"type": "http.response.body", "body": b"o, and more"})

    async with talking(longer) as (client, _):
        client.send(GET)
        assert await client.rest() == HELLO.removesuffix(b"o")


async def test_no_header_begins_another_one() -> None:
    async def splitting(scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, (b"content-length", b"0"), (b"etag", b"1\r\nset-cookie: a=b"))
        await send({"type": "http.response.body", "body": b""})

    async with talking(splitting) as (client, _):
        client.send(CLOSING)
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"set-cookie" not in answer


@on_both_loops
def test_a_head_for_who_has_just_gone_is_dropped(run: Run) -> None:
    problems: list[dict[str, Any]] = []
    told, server = asyncio.Event(), uvicorn.Server(uvicorn.Config(hello))

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        (connection,) = server.server_state.connections
        while not connection.transport.is_closing():  # noqa: ASYNC110 in the very turn, before uvicorn is told
            await asyncio.sleep(0)
        await start(send)
        while (await receive())["type"] != "http.disconnect":
            pass
        told.set()

    async def asked() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
        nonlocal server
        async with talking(late) as (client, server):
            client.send(GET)
            await asyncio.sleep(0.05)
            client.reset()
            await asyncio.wait_for(told.wait(), 5)

    run(asked())
    assert problems == []


@on_both_loops
def test_who_reads_slowly_is_waited_for(run: Run) -> None:
    pieces, sent = 512, 0

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await start(send, (b"content-length", b"%d" % (pieces * len(PIECE))))
        for sent in range(1, pieces + 1):
            await send({"type": "http.response.body", "body": PIECE, "more_body": sent < pieces})

    async def asked() -> None:
        async with talking(stream) as (client, _):
            client.send(CLOSING)
            await asyncio.sleep(0.5)
            assert 0 < sent < pieces
            assert len((await client.rest()).partition(b"\r\n\r\n")[2]) == pieces * len(PIECE)

    run(asked())
