"""The processes of the demonstration: a controller and services, started, killed and stopped by their own ids.

Each has a folder with its log; all die with the demonstration, however that ends.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import aiohttp

from infra.cluster_key import KEY_FILE
from infra.local.child import ChildProcess, free_port

T = TypeVar("T")
ROOT: Final = Path(__file__).parents[2]
READY_SECONDS_MAX: Final = 30.0
STOP_SECONDS_MAX: Final = 10.0
TAIL_LINES: Final = 15
FIRST: Final = "controller"
SECOND: Final = "controller-2"
"""The controllers; the second one only on Kafka."""


class NotInTime(Exception):
    """Something that was waited for did not happen."""


class NotYet(Exception):
    """The controller does not answer yet."""


@dataclass(frozen=True, slots=True)
class Tool:
    """What a command line tool said, its exit code, and how long it took."""

    exit_code: int
    out: str
    error: str
    seconds: float


class Cluster:
    """The processes. `kafka` and `postgres` are addresses of real servers for `muster up`; without: embedded.

    `log` are the options with which tools find the log.
    """

    def __init__(self, folder: Path, kafka: str | None = None, postgres: str | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = ["--kafka", kafka] if kafka is not None else ["--data", str(self.data)]
        self._engine = ["--kafka", kafka] if kafka is not None else []
        self._engine += ["--postgres", postgres] if postgres is not None else []
        self._http = {name: f"127.0.0.1:{free_port()}" for name in (FIRST, SECOND)}
        self.url = self.url_of(FIRST)
        self._children: dict[str, ChildProcess] = {}

    def url_of(self, controller: str) -> str:
        """Where the controller is asked."""
        return f"http://{self._http[controller]}"

    async def start_controller(self, name: str = FIRST) -> float:
        """Start `muster up`; return when it answers reads, with the seconds that took."""
        began, url = time.monotonic(), self.url_of(name)
        where = ["--data", str(self.data), *self._engine]
        if name != FIRST:
            # It fills no tables: one projector does. The key is the one that the first controller has made.
            where = ["--data", str(self.data / name), "--cluster-key", str(self.data / KEY_FILE), *self.log]
        self._spawn(name, "muster", "up", "--http", self._http[name], *where)
        async with aiohttp.ClientSession() as session:

            async def ask() -> None:
                async with session.get(f"{url}/readyz") as answer:
                    if answer.status != 200:
                        raise NotYet(await answer.text())

            await self._children[name].ready(ask, (aiohttp.ClientError, NotYet), READY_SECONDS_MAX)
        return time.monotonic() - began

    def start_service(self, name: str, module: str, *options: str) -> None:
        """Start a copy of an example service, which registers itself under the name."""
        self._spawn(name, module, "--instance", name, "--muster", self.url, *options)

    def start_node(self, name: str, zone: str) -> None:
        """Start a data node, on its own folder."""
        options = ("--id", name, "--zone", zone, "--data", str(self.data_of(name)), "--url", self.url)
        self._spawn(name, "muster", "node", "run", *options)

    def data_of(self, node: str) -> Path:
        """The folder of a data node's store."""
        return self.folder / "nodes" / node

    def start_tool(self, name: str, module: str, *options: str) -> None:
        """Start something that runs until it is stopped."""
        self._spawn(name, module, *options)

    def log_of(self, name: str) -> str:
        """What the process has said so far."""
        return self._children[name].log.read_text(errors="replace")

    def kill(self, name: str) -> None:
        """SIGKILL; returns when the process is gone."""
        self._children[name].kill()

    def pid(self, name: str) -> int | None:
        """The process id while it runs."""
        return self._children[name].pid

    async def stop(self, name: str) -> None:
        """SIGTERM, and wait."""
        await self._children[name].stop(signal.SIGTERM, STOP_SECONDS_MAX)

    async def close(self) -> None:
        """Stop all, services first, so that they can leave the registry."""
        controllers = [name for name in (SECOND, FIRST) if name in self._children]
        await asyncio.gather(*(self.stop(name) for name in self._children if name not in controllers))
        for name in controllers:
            await self.stop(name)

    async def tool(self, *arguments: str, seconds: float = 30.0) -> Tool:
        """Run `muster ARGUMENTS` to its end."""
        return await self.run("muster", *arguments, seconds=seconds)

    async def run(self, module: str, *arguments: str, seconds: float = 60.0) -> Tool:
        """Run a module to its end."""
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(seconds):
                out, error = await process.communicate()
        except TimeoutError:
            raise NotInTime(f"{module} {' '.join(arguments)} did not end within {seconds:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return Tool(process.returncode or 0, out.decode(), error.decode(), time.monotonic() - began)

    def tails(self) -> str:
        """The last lines of every process's log."""
        told = []
        for name, child in self._children.items():
            lines = child.log.read_text(errors="replace").splitlines()[-TAIL_LINES:] if child.log.exists() else []
            told.append("\n    ".join([f"{name} ({'runs' if child.pid else 'has ended'}):", *(lines or ["(nothing)"])]))
        return "\n".join(told)

    def _spawn(self, name: str, module: str, *arguments: str) -> None:
        child = self._children.setdefault(name, ChildProcess(name, self.folder / name))
        os.environ["PYTHONPATH"] = str(ROOT)  # a child's working directory is its own folder
        with child.folder_held():
            child.spawn([sys.executable, "-m", module, *arguments])


async def eventually(check: Callable[[], Awaitable[T | None]], what: str, seconds: float) -> T:
    """Ask until the answer is something. Raises NotInTime."""
    try:
        async with asyncio.timeout(seconds):
            while not (found := await check()):  # noqa: ASYNC110 what is asked is elsewhere, and sets no event
                await asyncio.sleep(0.02)
            return found
    except TimeoutError:
        raise NotInTime(f"within {seconds:g} s, this was not so: {what}") from None
