"""Copies of a service that answer over HTTP, registered at a real controller; how each of them behaves can be set."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

from aiohttp import web

from muster import Client

Behaviour = Literal["well", "fails", "hangs", "breaks off", "overloaded", "not found", "half a body"]


class Copy:
    """One copy. `served` counts what it was asked, by method; `ids` what it was sent in the header `X-Id`. `moved`
    says where it sends those that ask for a path.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.behaviour: Behaviour = "well"
        self.served: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.hosts: set[str] = set()
        self.paths: set[str] = set()
        self.bodies: list[bytes] = []
        self.moved: dict[str, str] = {}
        self._runner: web.AppRunner | None = None

    @property
    def asked(self) -> int:
        """How often it was asked."""
        return self.served.total()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Nobody listens there any more; whoever is connected is cut off."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.served[request.method] += 1
        self.ids[request.headers.get("X-Id", "")] += 1
        self.hosts.add(request.headers["Host"])
        self.paths.add(request.raw_path)
        self.bodies.append(await request.read())
        if location := self.moved.get(request.path):
            return web.Response(status=302, headers={"Location": location})
        match self.behaviour:
            case "fails":
                return web.Response(status=500, text=self.name)
            case "overloaded":
                return web.Response(status=503, text=self.name)
            case "not found":
                return web.Response(status=404, text=self.name)
            case "hangs":
                await asyncio.Event().wait()
            case "breaks off":
                assert request.transport is not None
                request.transport.abort()
            case "half a body":
                response = web.StreamResponse(headers={"Content-Length": "1000"})
                await response.prepare(request)
                await response.write(b"half")
                assert request.transport is not None
                request.transport.abort()
                return response
        return web.Response(text=self.name)


@asynccontextmanager
async def copies(url: str, count: int, service: str = "users") -> AsyncIterator[list[Copy]]:
    """So many copies, listening and registered."""
    made = [Copy(f"{service}-{number}") for number in range(1, count + 1)]
    async with AsyncExitStack() as stack, Client(url, actor="test") as client:
        for copy in made:
            await copy.start()
            stack.push_async_callback(copy.stop)
            await client.register(service, copy.name, "127.0.0.1", copy.port)
        yield made
