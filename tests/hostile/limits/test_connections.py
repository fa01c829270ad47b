"""Connections that take more than their share: huge and slow heads, trailers, pipelines, bodies that stall, too many of them."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile.limits.attacked import Attacked, answer_of, attacked, bystander, limit_of, until

pytestmark = pytest.mark.process

GET = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
PUT = b"PUT /v1/services/t/instances/t HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
CHUNKED = PUT + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"


def pour(one: socket.socket, start: bytes, piece: bytes) -> bytes:
    """Send the piece over and over, 40 MB in all or as long as it is taken; what comes back."""
    with contextlib.suppress(ConnectionError):
        one.sendall(start)
        for _ in range(640):
            one.sendall(piece)
    return answer_of(one)


async def on_all(sockets: list[socket.socket], attack: Callable[[socket.socket], bytes]) -> list[bytes]:
    """What each connection was answered."""
    return list(await asyncio.gather(*(asyncio.to_thread(attack, one) for one in sockets)))


@pytest.mark.parametrize(
    ("start", "piece", "limit"),
    [
        pytest.param(GET + b"A: ", b"a" * 65_536, "head_bytes_max", id="one endless header"),
        pytest.param(b"GET /", b"a" * 65_536, "head_bytes_max", id="an endless path"),
        pytest.param(GET, b"A: b\r\n" * 10_000, "head_bytes_max", id="headers without end"),
        pytest.param(CHUNKED + b"0\r\nA: ", b"a" * 65_536, "head_bytes_max", id="an endless trailer"),
        # The fields or the bytes, whichever are too many first: that depends on the pieces in which they come.
        pytest.param(CHUNKED + b"0\r\n", b"A: b\r\n" * 10_000, "limit=head_", id="trailers without end"),
        pytest.param(CHUNKED + b"1;a=", b"a" * 65_536, "head_bytes_max", id="an endless extension of a chunk"),
    ],
)
async def test_a_head_without_end_takes_little_and_holds_nobody_up(
    tmp_path: Path, start: bytes, piece: bytes, limit: str
) -> None:
    async with attacked(tmp_path) as controller, bystander(controller):
        with controller.sockets(4) as sockets:
            began = time.monotonic()
            await on_all(sockets, lambda one: pour(one, start, piece))
            assert time.monotonic() - began < 5, "it was ended by what it sent, not by a deadline"
        assert limit in controller.log


async def refused(controller: Attacked, request: bytes) -> bytes:
    with controller.sockets(1) as [one]:
        one.sendall(request)
        return await asyncio.to_thread(answer_of, one)


async def test_what_is_over_a_limit_is_refused_with_its_name(tmp_path: Path) -> None:
    slow = ("head_seconds_max=0.5", "body_silent_seconds_max=0.5")
    async with attacked(tmp_path, *slow) as controller, bystander(controller):
        for request, status, limit in (
            (GET + b"A: b\r\n" * 100 + b"\r\n", 431, "head_fields_max"),
            (GET + b"A: %b\r\n\r\n" % (b"a" * 32_768), 431, "head_bytes_max"),
            (b"", 408, "head_seconds_max"),
            (GET, 408, "head_seconds_max"),
            (PUT + b"Content-Length: 9\r\n\r\n{", 408, "body_silent_seconds_max"),
            (CHUNKED, 408, "body_silent_seconds_max"),
            (b"nonsense\r\n\r\n", 400, "malformed"),
        ):
            answer = await refused(controller, request)
            assert (int(answer.split()[1]), limit_of(answer)) == (status, limit), request[:80]
        status, metrics = await controller.ask("GET", "/metrics")
        assert status == 200
        assert b'muster_http_refused_total{limit="body_silent_seconds_max"} 2.0' in metrics
        assert b"muster_http_connections " in metrics


async def test_what_is_within_the_limits_is_served(tmp_path: Path) -> None:
    async with attacked(tmp_path) as controller:
        for head in (GET + b"A: b\r\n" * 97, GET + b"A: %b\r\n" % (b"a" * 32_000)):
            answer = await refused(controller, head + b"Connection: close\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_body_that_broke_off_is_not_carried_out(tmp_path: Path) -> None:
    """Its fields stand in the body; without them, it would be another command."""
    async with attacked(tmp_path, "body_silent_seconds_max=0.5") as controller:
        await controller.register("t", 1)
        drain = PUT.replace(b"/t/instances/t ", b"/t/instances/i0/drain ") + b"Content-Length: 20\r\n\r\n"
        assert limit_of(await refused(controller, drain)) == "body_silent_seconds_max"
        with controller.sockets(1) as [one]:
            one.sendall(drain)
            one.shutdown(socket.SHUT_WR)
        _, row = await controller.ask("GET", "/v1/services/t/instances/i0?consistency=strong")
        assert b'"draining":null' in row


async def test_trailers_are_no_headers(tmp_path: Path) -> None:
    async with attacked(tmp_path) as controller:
        body = b'{"address":"1.2.3.4","port":8}'
        head = (
            PUT.replace(b"Content-Type", b"Muster-Actor: gateway\r\nContent-Type") + b"Transfer-Encoding: chunked\r\n"
        )
        chunk = b"%x\r\n%b\r\n0\r\nMuster-Actor: evil\r\nConnection: close\r\n\r\n" % (len(body), body)
        with controller.sockets(1) as [one]:
            one.sendall(head + b"Connection: close\r\n\r\n" + chunk)
            assert (await asyncio.to_thread(answer_of, one)).startswith(b"HTTP/1.1 200 ")
        _, history = await controller.ask("GET", "/v1/history/t/t?consistency=strong")
        assert b'"gateway"' in history
        assert b"evil" not in history


async def test_requests_that_nobody_waits_for_do_not_pile_up(tmp_path: Path) -> None:
    """20,000 tiny requests on each connection, the answers unread: 44 MB for each of them, once."""
    async with attacked(tmp_path) as controller, bystander(controller):
        with controller.sockets(10, receive_bytes=4_096) as sockets:

            def attack(one: socket.socket) -> bytes:
                with contextlib.suppress(ConnectionError):
                    one.sendall((GET.replace(b"/healthz", b"/v1/status") + b"\r\n") * 20_000)
                time.sleep(1.0)
                return b""

            await on_all(sockets, attack)
            assert "queued_requests_max" in controller.log


async def test_of_requests_at_once_so_many_are_answered_and_the_last_answer_says_that_it_is_the_last(
    tmp_path: Path,
) -> None:
    async with attacked(tmp_path) as controller:
        answers = await refused(controller, (GET + b"\r\n") * 40)
        assert answers.count(b"HTTP/1.1 200 ") == 17
        assert answers.count(b"connection: close") == 1
        assert answers.rindex(b"HTTP/1.1 ") < answers.index(b"connection: close")


async def test_beyond_the_bound_of_connections_the_newest_are_refused_and_the_others_go_on(tmp_path: Path) -> None:
    async with attacked(tmp_path, "connections_max=20", "head_seconds_max=1") as controller, bystander(controller):
        # One client more is there from the beginning: the bystander.
        await until(controller, b"muster_http_connections 2.0")
        with controller.sockets(60) as sockets:
            answers = await on_all(sockets[30:], answer_of)
            assert {limit_of(answer) for answer in answers} == {"connections_max"}
            assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in answers)
        assert controller.log.count("limit=connections_max") == 1, "one line in ten seconds"
        # Who says nothing is ended, so that others find room.
        await until(controller, b"muster_http_connections 2.0")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param(b"GET /healthz HTTP/1.1\r\n\r\n", 400, id="no host"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1\r\n\r\n", 400, id="two hosts"),
        pytest.param(b"GET /healthz\r\n\r\n", 505, id="HTTP/0.9"),
        pytest.param(
            b"PUT /healthz HTTP/1.0\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            id="HTTP/1.0, chunked",
        ),
        pytest.param(b"GET /healthz HTTP/2.0\r\nHost: 127.0.0.1\r\n\r\n", 505, id="HTTP/2.0"),
        pytest.param(b"GET /healthz HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n", 200, id="HTTP/1.0"),
    ],
)
async def test_requests_that_http_forbids_are_refused(tmp_path: Path, head: bytes, status: int) -> None:
    async with attacked(tmp_path) as controller:
        with controller.sockets(1) as [one]:
            one.sendall(head)
            one.settimeout(3)
            assert int(one.recv(1 << 16).split()[1]) == status
