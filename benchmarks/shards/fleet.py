"""A controller and data nodes, each a process of its own, as users start them; and what is asked of them over HTTP."""

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.bench import EMBEDDED, Bench
from benchmarks.controller import HOST, Controller
from benchmarks.process import Usage, python, running, usage

NODE_COMMAND: Final = ("muster", "node", "run")
WAIT_SECONDS_MAX: Final = 120.0
_LOOK_SECONDS: Final = 0.01


@dataclass(frozen=True, slots=True)
class Node:
    """A started data node."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def usage(self) -> Usage:
        """What it has used so far."""
        return usage(self.process.pid)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """SIGSTOP for the length of the block."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@dataclass(frozen=True, slots=True)
class Fleet:
    """A controller, and data nodes by their names."""

    controller: Controller
    nodes: dict[str, Node] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Of the controller."""
        return f"http://{HOST}:{self.controller.port}"

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """The answer's body; raises when it is not 200."""
        status, content = self.controller.ask(method, path, body)
        if status != 200:
            raise RuntimeError(f"{method} {path} was answered {status}: {content[:500].decode()}")
        told: dict[str, Any] = orjson.loads(content)
        return told

    def address(self, node: str) -> str:
        """Where the node listens."""
        return str(self.ask("GET", f"/v1/nodes/{node}")["address"])

    def create(self, keyspace: str, shards: int, *nodes: str) -> None:
        """Have a keyspace with all its shards open on these nodes."""
        self.ask("PUT", f"/v1/keyspaces/{keyspace}", {"shards": shards, "nodes": nodes})
        self.wait(lambda: self.ask("GET", f"/v1/keyspaces/{keyspace}")["active"] == shards, "open shards")

    def move(self, keyspace: str, shard: int, target: str, **how: Any) -> str:
        """Begin a move that keeps nothing at its source; the path of the migration."""
        body = {"shard": shard, "to": target, "soak_seconds": 0, "cleanup_seconds": 0, **how}
        migration = self.ask("POST", f"/v1/keyspaces/{keyspace}/moves", body)["migration"]
        return f"/v1/migrations/{keyspace}/{migration.rpartition('/')[2]}"

    def moved(self, keyspace: str, shard: int, target: str) -> dict[str, Any]:
        """Move the shard; the migration, once it has completed."""
        return self.ended(self.move(keyspace, shard, target), "completed")

    def ended(self, path: str, phase: str) -> dict[str, Any]:
        """The migration, once it has ended; raises when not in this phase."""
        self.wait(lambda: self.ask("GET", path)["ended_at"] is not None, f"the end of {path}")
        told = self.ask("GET", path)
        if told["phase"] != phase:
            raise RuntimeError(f"{path} has ended {told['phase']}: {told['cause'] or told['error']}")
        return told

    def wait_for_step(self, path: str, *steps: str) -> None:
        """Wait until the migration is at one of these steps."""
        self.wait(lambda: self.ask("GET", path)["step"] in steps, f"{' or '.join(steps)} of {path}")

    def wait(self, reached: Callable[[], bool], what: str) -> None:
        """Wait until it is reached; raises when that takes too long."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while not reached():
            if time.monotonic() > deadline:
                raise RuntimeError(f"waited {WAIT_SECONDS_MAX:.0f} s for {what}; {self._last_words()}")
            time.sleep(_LOOK_SECONDS)

    def cpu_seconds(self) -> dict[str, float]:
        """What each process has used so far, by its role: the controller, and all nodes together."""
        nodes = sum(node.usage.cpu_seconds for node in self.nodes.values())
        return {"controller": self.controller.usage.cpu_seconds, "nodes": nodes}

    def _last_words(self) -> str:
        logs = {"the controller": self.controller.log} | {name: node.log for name, node in self.nodes.items()}
        return "; ".join(f"{name} says: …{log.read_text()[-500:]}" for name, log in logs.items())


@contextmanager
def fleet(bench: Bench, *names: str, engine: str = EMBEDDED) -> Iterator[Fleet]:
    """A controller with an empty log and these data nodes, empty and alive."""
    with ExitStack() as stack:
        started = Fleet(stack.enter_context(bench.fresh(engine)))
        for name in names:
            started.nodes[name] = stack.enter_context(_node(bench, name, started.url))
        for name in names:
            started.wait(lambda name=name: _alive(started, name), f"{name} to join")  # type: ignore[misc]
        yield started


def _alive(there: Fleet, node: str) -> bool:
    status, content = there.controller.ask("GET", f"/v1/nodes/{node}")
    return status == 200 and bool(orjson.loads(content)["alive"])


@contextmanager
def _node(bench: Bench, name: str, url: str) -> Iterator[Node]:
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=bench.folder))
    log = folder.with_suffix(".log")
    module, *verbs = NODE_COMMAND
    options = ("--id", name, "--zone", "a", "--data", folder, "--listen", f"{HOST}:0", "--url", url)
    try:
        with running(python(module, *verbs, *options), log) as process:
            yield Node(name, process, log)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def step(migration: dict[str, Any], name: str) -> dict[str, Any]:
    """The migration's step of this name."""
    found = next((one for one in migration["steps"] if one["name"] == name), None)
    if found is None:
        raise RuntimeError(f"{migration['id']} never came to {name}: {migration['cause'] or migration['error']}")
    return dict(found)


def instant(text: str) -> float:
    """An instant of an answer, in seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()
