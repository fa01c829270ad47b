"""SIGTERM ends a controller within five seconds, whatever is away: its broker, its database, or who reads from it."""

import secrets
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from infra.local.kafka import LocalKafka
from infra.local.postgres import LocalPostgres
from tests.muster.controller import free_port
from tests.processes.process_on_kafka import MusterProcess
from tests.processes.test_ready import SPEC, became_ready

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]
stop_seconds_max = 5.0


class Stopping(MusterProcess):
    """A controller that is asked to stop."""

    def __init__(self, folder: Path, *options: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(
            folder / "up.log", "up", "--data", str(folder / "data"), "--http", f"127.0.0.1:{port}", *options
        )

    def stops(self) -> tuple[int, float]:
        """The exit code, and how long it took."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        try:
            code = self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.end()
            raise AssertionError(f"it still runs: {self.log()[-2_000:]}") from None
        return code, time.monotonic() - began


@asynccontextmanager
async def ready(folder: Path, *options: str) -> AsyncIterator[Stopping]:
    controller = Stopping(folder, *options)
    try:
        async with aiohttp.ClientSession() as session:
            await became_ready(session, controller.url)
            for number in range(8):
                async with session.put(f"{controller.url}/v1/services/s{number}/instances/a", json=SPEC) as answer:
                    assert answer.status == 200
        yield controller
    finally:
        controller.end()


@pytest.mark.kafka
async def test_it_stops_in_time_while_its_broker_says_nothing_or_is_gone(tmp_path: Path) -> None:
    async with LocalKafka(tmp_path / "kafka") as kafka:
        for name, away in (("suspended", kafka.suspend), ("gone", kafka.kill)):
            (tmp_path / name).mkdir()
            prefix = f"stop-{secrets.token_hex(3)}"
            async with ready(tmp_path / name, "--kafka", kafka.bootstrap, "--prefix", prefix) as controller:
                away()
                code, seconds = controller.stops()
                assert (code, seconds < stop_seconds_max) == (0, True), f"{name}: {seconds:.1f} s"
                assert "Traceback" not in controller.log()
            kafka.resume()


@pytest.mark.postgres
async def test_it_stops_in_time_while_its_database_says_nothing(tmp_path: Path) -> None:
    async with (
        LocalPostgres(tmp_path / "postgres") as postgres,
        ready(tmp_path, "--postgres", postgres.dsn) as controller,
    ):
        postgres.suspend()
        code, seconds = controller.stops()
        postgres.resume()
        assert (code, seconds < stop_seconds_max) == (0, True), f"{seconds:.1f} s"


async def test_it_stops_in_time_while_a_watcher_does_not_read(tmp_path: Path) -> None:
    async with ready(tmp_path) as controller:
        host, port = controller.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as watcher:
            watcher.sendall(f"GET /v1/watch HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            assert watcher.recv(10) == b"HTTP/1.1 2"
            code, seconds = controller.stops()
        assert (code, seconds < stop_seconds_max) == (0, True), f"{seconds:.1f} s"
