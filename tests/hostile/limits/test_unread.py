"""Answers and watches that nobody reads: they take little, hold nobody up, and are cut off."""

import asyncio
import socket
from pathlib import Path

import orjson
import pytest

from tests.hostile.limits.attacked import answer_of, attacked, bystander, until

pytestmark = pytest.mark.process
BIG, NOTE_BYTES = 2_000, 4_000
"""Instances, and what each of them says: 9 MB of JSON, of which kernels take 3 MB."""


@pytest.mark.parametrize(
    "path", ["/v1/discover/big", "/v1/services/big/instances", "/v1/watch?service=big", "/v1/watch"]
)
async def test_what_nobody_reads_takes_little_holds_nobody_up_and_is_cut_off(tmp_path: Path, path: str) -> None:
    async with attacked(tmp_path, "unread_seconds_max=2") as controller:
        await controller.register("big", BIG, NOTE_BYTES)
        # Once, so that what is asked of all is there: it is not the attack's.
        status, _ = await controller.ask("GET", "/v1/discover/big")
        assert status == 200
        async with bystander(controller):
            with controller.sockets(40, receive_bytes=4_096) as sockets:
                for one in sockets:
                    one.sendall(b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % path.encode())
                await until(controller, b"muster_http_connections 42.0")
                await until(controller, b"muster_http_connections 2.0")
        assert "limit=unread_seconds_max" in controller.log


@pytest.mark.parametrize("path", ["/v1/events?limit=1000", "/v1/events?newest=true&limit=1000", "/v1/history/big/i0"])
async def test_pages_of_the_past_that_nobody_reads_take_little(tmp_path: Path, path: str) -> None:
    """They are made for each who asks: of 1,000 events they had 4 MB, and a history has 64 events of 250 KB."""
    async with attacked(tmp_path) as controller:
        await controller.register("big", BIG, NOTE_BYTES)
        notes = {f"n{number}": "x" * 4_000 for number in range(60)}
        for port in range(1, 65):
            spec = {"address": "10.0.0.7", "port": port, "metadata": {**notes, "port": str(port)}}
            status, _ = await controller.ask("PUT", "/v1/services/big/instances/i0", spec)
            assert status == 200
        async with bystander(controller):
            with controller.sockets(40, receive_bytes=4_096) as sockets:
                for one in sockets:
                    one.sendall(b"GET %b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % path.encode())
                for one in sockets:
                    # The first bytes of the answer are there, and stay there.
                    assert await asyncio.to_thread(one.recv, 13, socket.MSG_PEEK) == b"HTTP/1.1 200 "


async def test_a_long_answer_is_whole(tmp_path: Path) -> None:
    async with attacked(tmp_path, "unread_seconds_max=1") as controller:
        await controller.register("big", BIG, NOTE_BYTES)
        for path in ("/v1/discover/big", "/v1/services/big/instances", "/v1/services/big/instances?health=healthy"):
            status, body = await controller.ask("GET", path)
            assert (status, len(orjson.loads(body)["items"])) == (200, BIG)
        # Who reads, however slowly, is not cut off.
        with controller.sockets(1, receive_bytes=4_096) as [one]:
            one.sendall(b"GET /v1/discover/big HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            first = b""
            for _ in range(10):
                await asyncio.sleep(0.3)
                first += await asyncio.to_thread(one.recv, 1 << 20)
            rest = await asyncio.to_thread(answer_of, one)
        body = (first + rest).partition(b"\r\n\r\n")[2]
        assert len(orjson.loads(body)["items"]) == BIG
