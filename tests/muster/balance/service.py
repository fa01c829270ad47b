"""Copies of a small service, over real HTTP, whose answers a test can make slow, wrong or silent."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from muster import Attempt, Client, Request


@dataclass
class Copy:
    """One copy: what it was asked, and how it answers. `gate` is closed: it does not answer."""

    name: str
    status: int = 200
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[str] = field(default_factory=list)
    port: int = 0
    runner: web.AppRunner | None = None

    async def answer(self, request: web.Request) -> web.Response:
        self.seen.append(request.headers.get("x-request-id", ""))
        await self.gate.wait()
        return web.Response(status=self.status, text=self.name)

    async def start(self) -> None:
        self.gate.set()
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self.answer)
        self.runner = web.AppRunner(app, shutdown_timeout=0.01)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self.runner.addresses[0][1]

    async def kill(self) -> None:
        """Close its port and its connections, in the middle of whatever it does."""
        if self.runner is not None:
            for connection in self.runner.server.connections if self.runner.server else ():
                if connection.transport is not None:
                    connection.transport.abort()
            await self.runner.cleanup()
            self.runner = None


@asynccontextmanager
async def copies(client: Client, service: str, *names: str, **fields: object) -> AsyncIterator[dict[str, Copy]]:
    """So many copies, running and registered."""
    started = {name: Copy(name) for name in names}
    try:
        for name, copy in started.items():
            await copy.start()
            await client.register(service, name, "127.0.0.1", copy.port, **fields)  # type: ignore[arg-type]
        yield started
    finally:
        for copy in started.values():
            copy.gate.set()
            await copy.kill()


def call_by(session: "object"):
    """A call as an application writes it, for `send`."""

    async def call(attempt: Attempt, request: Request) -> str:
        url = f"http://{attempt.instance.endpoint}/"
        async with session.post(url, data=request.data, headers={"x-request-id": request.id}) as answer:  # type: ignore[attr-defined]
            attempt.answered(failed=answer.status >= 500, overloaded=answer.status == 503)
            answer.raise_for_status()
            return str(await answer.text())

    return call


async def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 it is read, not told
            await asyncio.sleep(0.005)


async def register(client: Client, *names: str, **fields: object) -> None:
    for name in names:
        await client.register("users", name, "10.0.0.1", 80, **fields)  # type: ignore[arg-type]
