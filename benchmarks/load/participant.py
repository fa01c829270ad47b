"""Data nodes that store nothing and answer at once, in a process of their own: how fast are the sagas by themselves?

    python -m benchmarks.load.participant URL NODES

It joins as several nodes and watches the tasks of all. Their answers go back in lists, one request under way for each node.
Orders come on standard input, one a line, each answered on standard output with a line of JSON once it is carried out:

    answer KINDS      answer tasks of these kinds from now on, and those that are wanted now; `*`: of all kinds
    forget            begin to count anew
    offered SAGAS     wait until tasks of SAGAS sagas have been offered; prints when (`at`, in time.monotonic())
    release SAGAS     from now on answer all tasks of SAGAS more sagas, too
    tell              tells how many tasks were answered in how many requests, and the processor time that it took
"""

import asyncio
import math
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing, suppress
from itertools import islice
from typing import Any, Final

import orjson
import uvloop

from muster.client.event_stream import follow
from muster.client.transport import Transport, path_of
from muster.wire.command import new_id

LEASE_SECONDS: Final = 3_600.0
REPORTS_MAX: Final = 500
_AGAIN_SECONDS: Final = 0.02
_EXTENT: Final = {"position": 3, "digest": "aa", "records": 1, "bytes": 9}


class Participants:
    """The nodes. `wanted` are the tasks as they stand, by id; a task that was answered may stand a while longer."""

    def __init__(self, transport: Transport, nodes: list[str]) -> None:
        self._transport = transport
        self._wanted: dict[str, dict[str, Any]] = {}
        self._kinds: frozenset[str] = frozenset()
        self._released: set[str] = set()
        self._offered: dict[str, None] = {}
        self._changed = asyncio.Condition()
        self._ready: dict[str, dict[str, None]] = {node: {} for node in nodes}
        self._wake = {node: asyncio.Event() for node in nodes}
        self.answered = 0
        self.requests = 0

    async def join(self) -> None:
        """Be data nodes."""
        for node in self._ready:
            about = {"address": "127.0.0.1:1", "process": node, "store": node, "lease_seconds": LEASE_SECONDS}
            await self._transport.write("PUT", path_of("nodes", node), about, command_id=new_id())

    async def watch(self) -> None:
        """Follow the tasks, for ever."""
        path = path_of("watch", "tasks")
        async with aclosing(follow(self._transport, path, {}, self._take, math.inf)) as changes:
            async for _ in changes:
                async with self._changed:
                    self._changed.notify_all()

    def _take(self, event: str, data: bytes, _token: str) -> Iterator[None]:
        if event not in ("snapshot", "delta"):
            return
        told = orjson.loads(data)
        if event == "snapshot":
            self._wanted.clear()
        for id_ in told.get("gone", ()):
            self._wanted.pop(id_, None)
        for task in told["items"]:
            self._wanted[task["id"]] = task
            if task["saga"] is not None:
                self._offered[task["saga"]] = None
            self._consider(task)
        yield

    def _consider(self, task: dict[str, Any]) -> None:
        if task["kind"] in self._kinds or "*" in self._kinds or task["saga"] in self._released:
            self._ready[task["node"]][task["id"]] = None
            self._wake[task["node"]].set()

    async def report(self, node: str) -> None:
        """Answer the node's tasks, for ever."""
        ready, wake = self._ready[node], self._wake[node]
        while True:
            await wake.wait()
            wake.clear()
            while ids := list(islice(ready, REPORTS_MAX)):
                for id_ in ids:
                    del ready[id_]
                reports = [{"id": id_, "outcome": "done", "result": {"extent": _EXTENT}} for id_ in ids]
                body = {"node": node, "reports": reports}
                reply = await self._transport.write("POST", path_of("tasks"), body, command_id=new_id())
                outcomes = orjson.loads(reply.body)["items"]
                if refused := next((one for one in outcomes if one["status"] == "refused"), None):
                    raise RuntimeError(f"a report was refused: {refused}")
                # The partition's writer is being replaced: who is offered a task reports until it is heard.
                unheard = [id_ for id_, one in zip(ids, outcomes, strict=True) if one["status"] == "unknown"]
                self.answered += len(ids) - len(unheard)
                self.requests += 1
                if unheard:
                    ready.update(dict.fromkeys(unheard))
                    await asyncio.sleep(_AGAIN_SECONDS)

    async def obey(self, order: str, argument: str) -> dict[str, Any]:
        """Carry out an order."""
        match order:
            case "answer":
                self._kinds = frozenset(argument.split(","))
                self._consider_all()
            case "forget":
                self._offered.clear()
            case "offered":
                async with self._changed:
                    await self._changed.wait_for(lambda: len(self._offered) >= int(argument))
            case "release":
                self._released.update(islice(self._offered, int(argument)))
                self._consider_all()
            case "tell":
                return {"answered": self.answered, "requests": self.requests, "cpu_seconds": time.process_time()}
            case _:
                raise ValueError(f"{order} is no order")
        return {"at": time.monotonic()}

    def _consider_all(self) -> None:
        for task in self._wanted.values():
            self._consider(task)


async def run(url: str, nodes: int) -> None:
    """Take part until standard input ends."""
    transport = Transport(url, actor="participant", timeout_seconds=60.0)
    await transport.open()
    with suppress(asyncio.CancelledError):
        async with asyncio.TaskGroup() as group:
            names = [f"n{number}" for number in range(nodes)]
            participants = Participants(transport, names)
            await participants.join()
            working = [group.create_task(participants.watch())]
            working += [group.create_task(participants.report(name)) for name in names]
            print("ready", flush=True)
            while line := await asyncio.to_thread(sys.stdin.readline):
                order, _, argument = line.strip().partition(" ")
                print(orjson.dumps(await participants.obey(order, argument)).decode(), flush=True)
            for task in working:
                task.cancel()
    await transport.close()


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], int(sys.argv[2])))
