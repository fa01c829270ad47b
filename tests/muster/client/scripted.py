"""A server that speaks the wire as a script says: for what a well-behaved controller cannot be made to do."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Seen:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class Wire:
    """Answers requests with the next handler of the script, the last one for ever.

    Which controllers live is asked by every client that is open for a while, and stands beside the script: `controllers` are
    their URLs. A `silent` server leaves that question open.
    """

    script: deque[Handler]
    url: str = ""
    controllers: list[str] = field(default_factory=list)
    silent: bool = False
    seen: list[Seen] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/controllers":
            if self.silent:
                await asyncio.Event().wait()
            items = [{"controller": url, "url": url} for url in self.controllers]
            return web.json_response({"cluster": "default", "items": items})
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        parsed = orjson.loads(body) if body else None
        self.seen.append(Seen(request.method, request.path, dict(request.query), headers, parsed))
        self.arrived.set()
        handler = self.script.popleft() if len(self.script) > 1 else self.script[0]
        return await handler(request)


@asynccontextmanager
async def wire(*script: Handler, port: int = 0) -> AsyncIterator[Wire]:
    served = Wire(deque(script))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", served.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield served
    finally:
        await runner.cleanup()


def answer(body: object, status: int = 200, **headers: str) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=orjson.dumps(body), status=status, headers=named, content_type="application/json")

    return handler


def written(position: int = 7, **fields: Any) -> Handler:
    body = {"status": "accepted", "partition": 0, "position": position, "version": 1, "incarnation": 0, **fields}
    return answer(body, Muster_Token=f"0:{position}")


def problem(name: str, status: int, detail: str = "no", **more: Any) -> Handler:
    return answer({"type": f"urn:muster:{name}", "title": name, "status": status, "detail": detail, **more}, status)


async def hang_up(request: web.Request) -> web.StreamResponse:
    """Close the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def events(*told: tuple[str, str, object], stay: bool = False, raw: bytes = b"") -> Handler:
    """A watch that tells these (id, event, data), then breaks off, or stays open."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for id_, event, data in told:
            await response.write(
                b"id: %b\nevent: %b\ndata: %b\n\n" % (id_.encode(), event.encode(), orjson.dumps(data))
            )
        await response.write(raw)
        if stay:
            await asyncio.Event().wait()
        return response

    return handler


def item(instance: str, position: int, **fields: Any) -> dict[str, Any]:
    """An instance as it stands on the wire."""
    return {
        "service": "orders",
        "instance": instance,
        "address": "10.0.0.7",
        "port": 8080,
        "metadata": {},
        "tags": [],
        "zone": "",
        "weight": 1,
        "checks": [],
        "lease_seconds": None,
        "deregister_after_seconds": None,
        "health": "healthy",
        "cause": None,
        "health_since": "2026-01-01T00:00:00Z",
        "check_status": {},
        "maintenance": None,
        "draining": None,
        "discoverable": True,
        "incarnation": 0,
        "version": position,
        "registered_at": "2026-01-01T00:00:00Z",
        "position": position,
        **fields,
    }
