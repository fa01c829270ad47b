"""Data nodes: in this process, or as processes of their own that can be killed."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from workers.node.node import NodeServer
from workers.node.process import NodeSettings, agent_of


@asynccontextmanager
async def data_node(name: str, data: Path, url: str, lease_seconds: float = 5.0) -> AsyncIterator[NodeServer]:
    """A data node that takes part, for the length of the block."""
    settings = NodeSettings(node=name, data=data, urls=[url], lease_seconds=lease_seconds)
    async with NodeServer(data, name, patience_seconds=1.0) as node:
        taking_part = asyncio.create_task(agent_of(node, settings).run())
        try:
            yield node
        finally:
            taking_part.cancel()
            await asyncio.wait([taking_part])


class NodeProcess:
    """`muster node run` as a user starts it."""

    def __init__(self, name: str, data: Path, url: str) -> None:
        self.name = name
        self.log = data.with_suffix(".log")
        self._command = [sys.executable, "-m", "muster", "node", "run", "--id", name, "--data", str(data)]
        self._command += ["--url", url, "--lease-seconds", "2", "--zone", f"zone-{name}"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            root = Path(__file__).parents[2]
            self._process = subprocess.Popen(self._command, stderr=log, stdout=log, cwd=root)

    def kill(self) -> int:
        return self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def suspend(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(timeout=30)

    def _end(self, how: signal.Signals) -> int:
        self._signal(how)
        return self.wait()

    def _signal(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
