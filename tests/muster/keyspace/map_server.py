"""A controller's routes of one keyspace and its shard map, told what to say as a test goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

from tests.muster.client.scripted import Seen
from tests.muster.keyspace.shard_node import Node


def shard_item(shard: int, node: Node | None, epoch: int = 1, **fields: Any) -> dict[str, Any]:
    """A shard as it stands on the wire, served by the node."""
    return {
        "keyspace": "users",
        "shard": shard,
        "owner": node.name if node is not None else None,
        "address": node.address if node is not None else None,
        "epoch": epoch,
        "status": "active" if node is not None else "inactive",
        "fenced": False,
        "migration": None,
        "pinned": False,
        **fields,
    }


class MapServer:
    """Serves the keyspace `users`. Event ids are `0:<number>`; a watch is resumed behind the id that it names."""

    def __init__(self, items: list[dict[str, Any]], facts: dict[str, Any]) -> None:
        self.url = ""
        self.seen: list[Seen] = []
        self.items = {item["shard"]: item for item in items}
        self.deltas: list[list[dict[str, Any]]] = []
        self.forgets = False
        self._facts = facts
        self._watchers: set[asyncio.Queue[bytes | None]] = set()

    def tell(self, *items: dict[str, Any]) -> None:
        """These shards have changed."""
        self.items.update({item["shard"]: item for item in items})
        self.deltas.append(list(items))
        for watcher in self._watchers:
            watcher.put_nowait(self._delta(len(self.deltas)))

    def break_off(self) -> None:
        """End all watches."""
        for watcher in self._watchers:
            watcher.put_nowait(None)

    @property
    def watches(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.path == "/v1/watch/shards"]

    async def keyspace(self, request: web.Request) -> web.StreamResponse:
        self._see(request)
        if request.match_info["name"] != "users":
            body = {"type": "urn:muster:KeyspaceNotFound", "title": "no", "status": 404, "detail": "no such keyspace"}
            return web.json_response(body, status=404)
        token = f"0:{len(self.deltas)}"
        return web.json_response(
            {"keyspace": "users", "shards": len(self.items), **self._facts}, headers={"Muster-Token": token}
        )

    async def watch(self, request: web.Request) -> web.StreamResponse:
        seen = self._see(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        resumes = seen.headers.get("last-event-id")
        if resumes and not self.forgets:
            for number in range(int(resumes.partition(":")[2]) + 1, len(self.deltas) + 1):
                await response.write(self._delta(number))
        else:
            if resumes:
                await response.write(event(len(self.deltas), "reset", {}))
            data = {"items": list(self.items.values()), "shards": len(self.items)}
            await response.write(event(len(self.deltas), "snapshot", data))
        told: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._watchers.add(told)
        try:
            while (data := await told.get()) is not None:
                await response.write(data)
        finally:
            self._watchers.discard(told)
        return response

    def _delta(self, number: int) -> bytes:
        return event(number, "delta", {"items": self.deltas[number - 1]})

    def _see(self, request: web.Request) -> Seen:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(request.method, request.path, dict(request.query), headers, None))
        return self.seen[-1]


def event(number: int, name: str, data: object) -> bytes:
    return b"id: 0:%d\nevent: %b\ndata: %b\n\n" % (number, name.encode(), orjson.dumps(data))


@asynccontextmanager
async def map_server(*items: dict[str, Any], **facts: Any) -> AsyncIterator[MapServer]:
    served = MapServer(list(items), facts)
    app = web.Application()
    app.router.add_get("/v1/keyspaces/{name}", served.keyspace)
    app.router.add_get("/v1/watch/shards", served.watch)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield served
    finally:
        served.break_off()
        await runner.cleanup()
