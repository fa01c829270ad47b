"""A controller in this process, and participants that answer their tasks as they are told to: for tests of what is in between."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

from domain.catalogue import Answer
from domain.saga import ReportStep, Saga
from domain.shards.keyspace import CreateKeyspace, MoveShard, ReportDropped, ReportOpened
from domain.shards.node import JoinNode
from infra.settings import Settings
from muster.wire.command import Command, Envelope
from sagas.tasks import TaskRow
from workers.controller.process import running
from workers.gateway import Gateway
from workers.views.shards import ShardsChanged, ShardViews

EXTENT = {"extent": {"position": 3, "digest": "aa", "records": 1, "bytes": 9}}
WAIT_SECONDS_MAX = 20.0


class Participants:
    """The controller's gateway and shard views, and nodes that answer every task whose kind is not in `silent`; those of a
    kind and node in `refusing` fail for good."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.views: ShardViews = gateway.views.shards
        self.silent: set[str] = set()
        self.refusing: set[tuple[str, str]] = set()
        self._numbers = count()
        self._asked: set[Any] = set()
        self.views.listen(self._changed)

    async def give(self, stream: str, command: Command, **about: Any) -> Answer:
        """The answer to a command, which must not be refused."""
        answer = await self.gateway.submit(Envelope(f"test-{id(self)}-{next(self._numbers)}", stream, command, **about))
        assert answer.error is None, answer.error
        return answer

    async def join(self, *nodes: str, lease_seconds: float = 600.0) -> None:
        """Have these nodes."""
        for node in nodes:
            facts = {"address": "127.0.0.1:1", "process": "p", "store": node, "lease_seconds": lease_seconds}
            await self.give("cluster", JoinNode(node=node, **facts))

    async def keyspace(self, name: str, shards: int, *nodes: str) -> None:
        """Have a keyspace with all shards open."""
        await self.give(f"keyspace/{name}", CreateKeyspace(shards=shards, nodes=nodes))
        await self.until(lambda: self._open(name, shards))

    def _open(self, name: str, shards: int) -> bool:
        return sum(shard.status == "active" for shard in self.views.keyspaces[name].shards.values()) == shards

    async def move(self, name: str, shard: int, target: str, **how: Any) -> str:
        """Start a move without soaking; its id."""
        command = MoveShard(shard=shard, target=target, **{"soak_seconds": 0, "cleanup_seconds": 0, **how})
        answer = await self.give(f"keyspace/{name}", command)
        return f"keyspace/{name}/migration/{answer.incarnation}"

    def saga(self, id_: str) -> Saga:
        """How the migration stands."""
        return self.views.sagas[id_]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds."""
        async with asyncio.timeout(WAIT_SECONDS_MAX):
            while not condition():  # noqa: ASYNC110 — views tell of changes, but not of this one
                await asyncio.sleep(0.005)

    def task(self, kind: str) -> TaskRow | None:
        """The task of this kind that is wanted now."""
        return next((task for tasks in self.views.tasks.values() for task in tasks.values() if task.kind == kind), None)

    def speak(self) -> None:
        """Answer from now on, and what is wanted now."""
        self.silent.clear()
        for tasks in list(self.views.tasks.values()):
            for task in list(tasks.values()):
                self.answer(task)

    def answer(self, task: TaskRow, **how: Any) -> Awaitable[Answer]:
        """Report the task as done, or as `how` says."""
        stream, command = f"keyspace/{task.keyspace}", report(task, **how)
        asked = self.gateway.submit(Envelope(f"report/{task.id}/{task.node}/{how}", task.saga or stream, command))
        self._asked.add(asked)
        asked.add_done_callback(self._asked.discard)  # type: ignore[attr-defined]
        return asked

    def _changed(self, partition: int, token: Any, changed: ShardsChanged) -> None:
        for node, id_ in changed.tasks:
            task = self.views.tasks.get(node, {}).get(id_)
            if task is not None and task.kind not in self.silent:
                failing = {"outcome": "failed", "result": {}, "error": "ReadFailed: a disk", "final": True}
                self.answer(task, **(failing if (task.kind, node) in self.refusing else {}))


def report(task: TaskRow, **how: Any) -> Command:
    """The command that reports the task, done unless `how` says otherwise."""
    if task.kind == "open":
        return ReportOpened(shard=task.shard, node=task.node, epoch=task.params["epoch"])
    if task.saga is None:
        return ReportDropped(shard=task.shard, node=task.node, migration=task.params["migration"])
    assert task.step is not None
    told = {"outcome": "done", "result": EXTENT, **how}
    return ReportStep(step=task.step, attempt=task.attempt, node=task.node, **told)


@asynccontextmanager
async def controller(data: Path) -> AsyncIterator[Participants]:
    """A controller on this folder."""
    async with running(Settings(data=data, http="127.0.0.1:0")) as started:
        yield Participants(started.gateway)
