"""Controllers, data nodes and traffic as real processes, which can be killed, stopped for a while, and checked at the end."""

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from infra.local.child import ChildProcess, free_port
from muster import Client
from tests.processes.process_on_kafka import cluster_key

ROOT: Final = Path(__file__).parents[2]
KEYSPACE: Final = "users"
LEASE_SECONDS: Final = 1.0
AT_ONCE: Final = {"soak_seconds": 0.0, "cleanup_seconds": 0.0}
T = TypeVar("T")


class ShardCluster:
    """The processes by name: `c1`…, `n1`…, `traffic`; without `kafka` on the embedded engine, with it two controllers.

    The nodes are spread over the controllers. `n1`, `n3`… always listen at the same port, the others at any.
    """

    def __init__(self, folder: Path, *, nodes: int = 3, kafka: str | None = None, prefix: str = "muster") -> None:
        self.folder = folder
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.controllers = ["c1"] if kafka is None else ["c1", "c2"]
        self._log = ["--data", str(folder / "log")] if kafka is None else ["--kafka", kafka, "--prefix", prefix]
        self._kafka = kafka is not None
        self._ports = {name: free_port() for name in (*self.controllers, *self.nodes)}
        self._children = {name: ChildProcess(name, folder / name) for name in (*self._ports, "traffic")}
        self._starts = Counter[str]()
        (folder / "journals").mkdir()

    def url(self, name: str = "c1") -> str:
        """The controller's; a node's is that of the controller that it speaks with."""
        if name in self.nodes:
            name = self.controllers[self.nodes.index(name) % len(self.controllers)]
        return f"http://127.0.0.1:{self._ports[name]}"

    def start(self, name: str) -> None:
        """Start the controller or the node, again on what it has left."""
        if name in self.nodes:
            port = self._ports[name] if self.nodes.index(name) % 2 == 0 else 0
            where = ("--data", str(self.data_of(name)), "--listen", f"127.0.0.1:{port}")
            lease = ("--lease-seconds", str(LEASE_SECONDS))
            self._spawn(name, "muster", "node", "run", "--id", name, "--url", self.url(name), *where, *lease)
        else:
            own = ("--data", str(self.folder / name / "data"), "--cluster-key", str(cluster_key(self.folder)))
            data = own if self._kafka else ()
            self._spawn(name, "muster", "up", "--http", f"127.0.0.1:{self._ports[name]}", *self._log, *data)

    def start_traffic(self, *options: str) -> None:
        """Start writers and readers; `ready` is in their log when their own keys are there."""
        where = ("--url", self.url(), "--keyspace", KEYSPACE, "--journal", str(self.folder / "journals" / "t.jsonl"))
        self._spawn("traffic", "examples.shards.traffic", *where, *options)

    async def open(self, shards: int, nodes: list[str] | None = None) -> None:
        """Start all but the traffic; return when the keyspace is served."""
        for name in (*self.controllers, *self.nodes):
            self.start(name)
        async with self.client() as client:

            async def joined() -> bool:
                return {node.node for node in (await client.shards.nodes()).items if node.alive} == set(self.nodes)

            async def opened() -> bool:
                return (await client.shards.keyspace(KEYSPACE)).active == shards

            await eventually(joined)
            await client.shards.create_keyspace(KEYSPACE, shards, nodes=nodes)
            await eventually(opened)

    def client(self, name: str = "c1") -> Client:
        """A client of a controller, which is patient."""
        return Client(self.url(name), timeout_seconds=30.0)

    def data_of(self, node: str) -> Path:
        """The folder of a node's store."""
        return self.folder / "nodes" / node

    async def started(self, name: str) -> None:
        """Return when the process that was started last is up."""
        up = "listens at" if name in self.nodes else "muster is ready" if name in self.controllers else "ready"

        async def is_up() -> bool:
            return self.log_of(name).count(up) >= self._starts[name]

        await eventually(is_up, 60.0)

    def log_of(self, name: str) -> str:
        """What the process has said."""
        log = self._children[name].log
        return log.read_text(errors="replace") if log.exists() else ""

    def address_of(self, node: str) -> str:
        """Where a node listens that always listens there."""
        assert self.nodes.index(node) % 2 == 0
        return f"127.0.0.1:{self._ports[node]}"

    def kill(self, name: str) -> None:
        """SIGKILL; returns when it is gone."""
        self._children[name].kill()

    def suspend(self, name: str) -> None:
        """SIGSTOP."""
        self._children[name].suspend()

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self._children[name].resume()

    async def stop(self, name: str) -> None:
        """SIGTERM, and wait."""
        await self._children[name].stop(signal.SIGTERM, 20.0)

    async def end_traffic(self) -> dict[str, Any]:
        """Stop the traffic; what it says of itself."""
        await self.stop("traffic")
        found: dict[str, Any] = orjson.loads(self.log_of("traffic").strip().splitlines()[-1])
        return found

    async def checked(self) -> dict[str, Any]:
        """Stop the nodes and the controllers; what the checker says."""
        for name in (*self.nodes, *self.controllers):
            await self.stop(name)
        return await check(self.folder / "journals", {node: self.data_of(node) for node in self.nodes}, self._log)

    def close(self) -> None:
        """Kill whatever runs still."""
        for child in self._children.values():
            child.kill()

    def _spawn(self, name: str, module: str, *arguments: str) -> None:
        child = self._children[name]
        self._starts[name] += 1
        os.environ["PYTHONPATH"] = str(ROOT)  # a child's working directory is its own folder
        with child.folder_held():
            child.spawn([sys.executable, "-m", module, *arguments])


@asynccontextmanager
async def shard_cluster(folder: Path, **options: Any) -> AsyncIterator[ShardCluster]:
    """A cluster whose processes end with the block."""
    cluster = ShardCluster(folder, **options)
    try:
        yield cluster
    finally:
        cluster.close()


async def check(journals: Path, nodes: dict[str, Path], log: list[str]) -> dict[str, Any]:
    """What the checker says, as a process of its own."""
    where = [f"--node={name}={path}" for name, path in nodes.items()]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "examples.shards.checker", "--journals", str(journals), *where, *log),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    assert process.returncode in (0, 1), error.decode()
    found: dict[str, Any] = orjson.loads(out)
    assert bool(found["breaches"]) == bool(process.returncode)
    return found


async def eventually(condition: Callable[[], Awaitable[T | None]], seconds: float = 60.0) -> T:
    """Ask until the answer is something."""
    async with asyncio.timeout(seconds):
        while not (found := await condition()):  # noqa: ASYNC110 what is asked is elsewhere, and sets no event
            await asyncio.sleep(0.02)
        return found
