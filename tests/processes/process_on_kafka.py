"""`muster up --kafka` as a user starts it: processes that share a broker and can be killed."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from infra.cluster_key import KEY_FILE, own_key
from infra.local.child import free_port
from muster import Client


def cluster_key(folder: Path) -> Path:
    """The file with the key of the cluster whose controllers have their data under this folder."""
    own_key(folder)
    return folder / KEY_FILE


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

    def ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process.poll() is not None

    def peak_bytes(self) -> int:
        """The most memory that the process has had."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self._process.pid}/status").read_text())
        assert found is not None, "the process is gone"
        return int(found[1]) * 1024

    def log(self) -> str:
        return self._log.read_text(errors="replace")


class KafkaController(MusterProcess):
    """One controller process. All of a test under `data` are one cluster, with one key, unless it is given another."""

    def __init__(
        self, data: Path, bootstrap: str, prefix: str, name: str, key: Path | None = None, more: Sequence[str] = ()
    ) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        options = ["--kafka", bootstrap, "--prefix", prefix, "--http", f"127.0.0.1:{port}", "--data", str(data / name)]
        key = cluster_key(data) if key is None else key
        super().__init__(data / f"{name}.log", "up", "--cluster-key", str(key), *options, *more)


@asynccontextmanager
async def controllers(
    data: Path, bootstrap: str, prefix: str, count: int, *options: str
) -> AsyncIterator[list[KafkaController]]:
    """So many controllers of one cluster, all ready to write, which are started with these options beside."""
    started = [
        KafkaController(data, bootstrap, prefix, f"controller-{number}", more=options) for number in range(count)
    ]
    try:
        async with asyncio.timeout(60):
            for one in started:
                async with Client(one.url, timeout_seconds=40) as client:
                    await client.register("probe", f"of-{one.url[-5:]}", "127.0.0.1", 1)
        yield started
    finally:
        for one in started:
            one.end()
