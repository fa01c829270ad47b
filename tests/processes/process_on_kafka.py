"""`muster up --kafka` as a user starts it: processes that share a broker and can be killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from infra.local.child import free_port
from muster import Client


class MusterProcess:
    """One process of `muster`, which can be killed."""

    def __init__(self, log: Path, *words: str) -> None:
        self._log = log
        command = [sys.executable, "-m", "muster", *words]
        with log.open("ab") as written:
            self._process = subprocess.Popen(command, stdout=written, stderr=written, cwd=Path(__file__).parents[2])

    def signal(self, which: signal.Signals) -> None:
        os.kill(self._process.pid, which)

    def end(self) -> None:
        self._process.kill()
        self._process.wait(timeout=30)

    def log(self) -> str:
        return self._log.read_text(errors="replace")


class KafkaController(MusterProcess):
    """One controller process."""

    def __init__(self, data: Path, bootstrap: str, prefix: str, name: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        options = ["--kafka", bootstrap, "--prefix", prefix, "--http", f"127.0.0.1:{port}", "--data", str(data / name)]
        super().__init__(data / f"{name}.log", "up", *options)


@asynccontextmanager
async def controllers(data: Path, bootstrap: str, prefix: str, count: int) -> AsyncIterator[list[KafkaController]]:
    """So many controllers of one cluster, all ready to write."""
    started = [KafkaController(data, bootstrap, prefix, f"controller-{number}") for number in range(count)]
    try:
        async with asyncio.timeout(60):
            for one in started:
                async with Client(one.url, timeout_seconds=40) as client:
                    await client.register("probe", f"of-{one.url[-5:]}", "127.0.0.1", 1)
        yield started
    finally:
        for one in started:
            one.end()
