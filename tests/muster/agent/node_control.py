"""A controller's routes for one data node, told what to say as a test goes on; it writes down what it was asked, in order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

LIMITS = {"value_bytes_max": 1_000, "shard_bytes_max": 100_000}


class NodeControl:
    """`asked` lists requests and reports. `map` are the shards of `users`; a `problem` answers renewals instead, and
    `answers` are given to the next reports; `watched` has the consistency that each watch of tasks asked for."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.joins: list[dict[str, Any]] = []
        self.map: dict[int, dict[str, Any]] = {}
        self.tasks: dict[str, dict[str, Any]] = {}
        self.reports: list[dict[str, Any]] = []
        self.batches: list[int] = []
        self.loads: list[dict[str, Any]] = []
        self.watched: list[str | None] = []
        self.answers: list[str] = []
        self.problem: str | None = None
        self.join_problem: str | None = None
        self.renewal = "unchanged"
        self.away = False
        self.talks = asyncio.Event()
        self.talks.set()
        self.map_read = asyncio.Event()
        self.map_read.set()
        self.hears = asyncio.Event()
        self.hears.set()
        self._watchers: set[asyncio.Queue[bytes | None]] = set()
        self._told = 0

    def put(self, shard: int, owner: str, epoch: int, *, fenced: bool = False) -> None:
        """The map says this of the shard."""
        status = "migrating" if fenced else "active"
        address = f"{owner}:1"
        row = {"keyspace": "users", "shard": shard, "owner": owner, "address": address, "epoch": epoch}
        self.map[shard] = {**row, "status": status, "fenced": fenced}

    def want(self, id_: str, kind: str, shard: int = 0, saga: str | None = "m", **params: Any) -> None:
        """The task is wanted, in place of an earlier one with this id."""
        about = {"id": id_, "node": "n1", "kind": kind, "keyspace": "users", "shard": shard}
        self.tasks[id_] = {**about, "saga": saga, "step": kind, "attempt": 1, "params": {"epoch": 1, **params}}
        self._tell([self.tasks[id_]], [])

    def drop(self, id_: str) -> None:
        """The task is not wanted any more."""
        del self.tasks[id_]
        self._tell([], [id_])

    def break_off(self) -> None:
        """End all watches."""
        for watcher in self._watchers:
            watcher.put_nowait(None)

    def told(self, id_: str) -> list[str]:
        """The outcomes that were reported of a task."""
        return [report["outcome"] for report in self.reports if report["id"] == id_]

    def _tell(self, items: list[dict[str, Any]], gone: list[str]) -> None:
        self._told += 1
        for watcher in self._watchers:
            watcher.put_nowait(_event(self._told, "delta", {"items": items, "gone": gone}))

    async def join(self, request: web.Request) -> web.StreamResponse:
        self.asked.append("join")
        self.joins.append(await request.json())
        if self.join_problem:
            return _problem(self.join_problem, 409)
        self.problem = None
        return self._written(incarnation=len(self.joins))

    async def renew(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(f"renew {body['incarnation']}")
        await self.talks.wait()
        if self.away:
            return _problem("NotReady", 503)
        if self.problem:
            return _problem(self.problem, 404 if self.problem == "NodeNotFound" else 409)
        status, self.renewal = self.renewal, "unchanged"
        return self._written(status=status)

    async def keyspaces(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"keyspaces {request.query.get('consistency')}")
        counts = {"active": 0, "migrating": 0, "inactive": 0, "cleanups": 0, "moves": 0}
        item = {"keyspace": "users", "shards": len(self.map), **counts, **LIMITS}
        return web.json_response({"items": [item], "token": "0:1", "age_seconds": 0.0})

    async def shards(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"shards {request.query.get('consistency')}")
        await self.map_read.wait()
        return web.json_response({"items": list(self.map.values()), "token": "0:1", "age_seconds": 0.0})

    async def report(self, request: web.Request) -> web.StreamResponse:
        await self.hears.wait()
        body = await request.json()
        self.reports += body["reports"]
        self.batches.append(len(body["reports"]))
        answer = self.answers.pop(0) if self.answers else "accepted"
        if answer == "NotReady":
            return _problem(answer, 503)
        items = [{"id": report["id"], "status": answer, "error": None} for report in body["reports"]]
        return web.json_response({"items": items})

    async def hear(self, request: web.Request) -> web.StreamResponse:
        self.loads.append(await request.json())
        return _problem("RouteNotFound", 404) if self.away else web.json_response({"shards": 1})

    async def watch(self, request: web.Request) -> web.StreamResponse:
        assert request.query["node"] == "n1"
        self.watched.append(request.query.get("consistency"))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(_event(self._told, "snapshot", {"items": list(self.tasks.values())}))
        told: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._watchers.add(told)
        try:
            while (data := await told.get()) is not None:
                await response.write(data)
        finally:
            self._watchers.discard(told)
        return response

    def _written(self, status: str = "accepted", incarnation: int | None = None) -> web.Response:
        return web.json_response(
            {"status": status, "partition": 0, "position": 1, "version": 1, "incarnation": incarnation}
        )


def _event(number: int, name: str, data: object) -> bytes:
    return b"id: 0:%d\nevent: %b\ndata: %b\n\n" % (number, name.encode(), orjson.dumps(data))


def _problem(name: str, status: int) -> web.Response:
    body = {"type": f"urn:muster:{name}", "title": name, "status": status, "detail": "so it is"}
    return web.json_response(body, status=status)


@asynccontextmanager
async def node_control() -> AsyncIterator[NodeControl]:
    control = NodeControl()
    app = web.Application()
    app.router.add_put("/v1/nodes/n1", control.join)
    app.router.add_post("/v1/nodes/n1/renew", control.renew)
    app.router.add_post("/v1/nodes/n1/loads", control.hear)
    app.router.add_get("/v1/keyspaces", control.keyspaces)
    app.router.add_get("/v1/keyspaces/users/shards", control.shards)
    app.router.add_get("/v1/watch/tasks", control.watch)
    app.router.add_post("/v1/tasks", control.report)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    control.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield control
    finally:
        control.map_read.set()
        control.hears.set()
        control.talks.set()
        control.break_off()
        await runner.cleanup()
