"""A controller in a process of its own, and who attacks it: raw sockets, its memory, and how another client fares meanwhile."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import orjson

from infra.local.child import free_port

memory_bytes_max = 64 << 20
delay_seconds_max = 0.1
answers_min = 10
slack_seconds = 0.3
"""What a machine kept busy by others may add to a delay. Without the guards the delays are of seconds."""


class Attacked:
    """The controller under attack."""

    def __init__(self, folder: Path, port: int, limits: Sequence[str]) -> None:
        self.url, self.log_file = f"http://127.0.0.1:{port}", folder / "log"
        self.address = ("127.0.0.1", port)
        options = [word for limit in limits for word in ("--limit", limit)]
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "muster",
                    "up",
                    "--data",
                    str(folder / "data"),
                    "--http",
                    urlsplit(self.url).netloc,
                    *options,
                ],
                stderr=log,
                env={**os.environ, "PYTHONPATH": "."},
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    @property
    def memory(self) -> int:
        """Its resident memory in bytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None, "the controller is gone"
        return int(found[1]) * 1024

    def end(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """One request of a client with a connection of its own."""
        timeout = aiohttp.ClientTimeout(total=10)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, self.url + path, json=body) as answer,
        ):
            return answer.status, await answer.read()

    async def register(self, service: str, instances: int, note_bytes: int = 200) -> None:
        """This many instances, each a little larger than its note."""
        spec = {"address": "10.0.0.7", "port": 80, "metadata": {"note": "x" * note_bytes}}
        for first in range(0, instances, 250):
            commands = [
                {
                    "id": f"{service}/{number}",
                    "type": "muster.instance.register.v1",
                    "stream": f"service/{service}",
                    "data": {"instance": f"i{number}", "spec": spec},
                }
                for number in range(first, min(first + 250, instances))
            ]
            status, answer = await self.ask("POST", "/v1/commands", commands)
            assert status == 200, answer

    @contextmanager
    def sockets(self, count: int, *, receive_bytes: int | None = None) -> Iterator[list[socket.socket]]:
        """Connections of an attacker; with `receive_bytes`, little of an answer fits into his own kernel."""
        with ExitStack() as stack:
            opened = []
            for _ in range(count):
                one = stack.enter_context(socket.socket())
                if receive_bytes is not None:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
                one.settimeout(10)
                one.connect(self.address)
                opened.append(one)
            yield opened


@asynccontextmanager
async def attacked(folder: Path, *limits: str) -> AsyncIterator[Attacked]:
    """A controller that is ready, with these limits."""
    found = Attacked(folder, free_port(), limits)
    try:
        async with asyncio.timeout(30):
            while "muster is ready" not in found.log:  # noqa: ASYNC110 another process writes it
                await asyncio.sleep(0.05)
        yield found
    finally:
        found.end()


async def until(controller: Attacked, metric: bytes) -> None:
    """Wait until the controller says this in its metrics."""
    async with asyncio.timeout(10):
        while True:
            status, text = await controller.ask("GET", "/metrics")
            if status == 200 and metric in text:
                return
            await asyncio.sleep(0.05)


class Bystander:
    """Another client, who asks all the time on a connection of its own: how long its answers took, and the memory's peak."""

    def __init__(self, controller: Attacked) -> None:
        self._controller = controller
        self.before = controller.memory
        self.grown = 0
        self.delays: list[float] = []

    async def run(self) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                began = time.perf_counter()
                async with session.get(f"{self._controller.url}/healthz") as answer:
                    assert answer.status == 200
                    await answer.read()
                self.delays.append(time.perf_counter() - began)
                self.grown = max(self.grown, self._controller.memory - self.before)
                await asyncio.sleep(0.02)


@asynccontextmanager
async def bystander(controller: Attacked) -> AsyncIterator[Bystander]:
    """For the length of the block: afterwards nobody was held up, and little memory was taken."""
    found = Bystander(controller)
    asking = asyncio.create_task(found.run())
    yield found
    # An attack may be over before it was looked at.
    async with asyncio.timeout(20):
        while len(found.delays) < answers_min and not asking.done():  # noqa: ASYNC110 what is waited for is a number
            await asyncio.sleep(0.02)
    assert not asking.done(), asking
    asking.cancel()
    await asyncio.wait([asking])
    # The second slowest: one stumble is the test machine's own, a loop that is held up shows more than once.
    assert sorted(found.delays)[-2] < delay_seconds_max + slack_seconds, sorted(found.delays)[-5:]
    assert found.grown < memory_bytes_max, f"{found.grown >> 20} MiB"


def answer_of(one: socket.socket) -> bytes:
    """All that comes until the server closes; a reset ends it too."""
    parts = []
    try:
        while part := one.recv(1 << 16):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def limit_of(answer: bytes) -> str:
    """The limit that a refusal names."""
    return str(orjson.loads(answer.partition(b"\r\n\r\n")[2])["limit"])
