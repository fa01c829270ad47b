"""A controller on the embedded engine, its HTTP face on a free port, and a client that shows all of an answer."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from infra.settings import Settings
from workers.controller.process import running
from workers.gateway import Gateway
from workers.http.application import Application

INSTANCE = "/v1/services/orders/instances/a"
SPEC = {"address": "10.0.0.7", "port": 8080}


@dataclass
class Told:
    """An answer."""

    status: int
    headers: Any
    body: Any

    @property
    def problem(self) -> tuple[int, str]:
        """The status and name of a problem, which stands as RFC 9457 wants it."""
        assert self.headers["content-type"] == "application/problem+json"
        assert self.body["status"] == self.status
        assert self.body["detail"]
        assert self.body["title"]
        return self.status, self.body["type"].removeprefix("urn:muster:")


class Api:
    """The controller under test: `url` and `gateway` are its own."""

    def __init__(self, url: str, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        self.url, self.gateway, self.session = url, gateway, session

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Told:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        named = {"content-type": "application/json"} if data else {}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, self.url + path, data=data, headers=named) as response:
            text = await response.read()
            is_json = "json" in response.headers.get("content-type", "")
            return Told(response.status, response.headers, json.loads(text) if is_json and text else text)

    async def put(self, path: str, body: Any = None, **headers: str) -> Told:
        return await self.ask("PUT", path, body, **headers)

    async def get(self, path: str, **headers: str) -> Told:
        return await self.ask("GET", path, **headers)

    async def delete(self, path: str, body: Any = None, **headers: str) -> Told:
        return await self.ask("DELETE", path, body, **headers)

    async def post(self, path: str, body: Any = None, **headers: str) -> Told:
        return await self.ask("POST", path, body, **headers)

    async def register(self, instance: str = "a", service: str = "orders", **spec: Any) -> Told:
        return await self.put(f"/v1/services/{service}/instances/{instance}", {**SPEC, **spec})

    @asynccontextmanager
    async def watch(self, what: str = "", **headers: str) -> AsyncIterator["Stream"]:
        """A watch: `what` stands behind `/v1/watch`, a query or another kind (`/shards?keyspace=users`)."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.get(f"{self.url}/v1/watch{what}", headers=named) as response:
            assert response.status == 200, await response.text()
            assert response.headers["content-type"] == "text/event-stream"
            yield Stream(response.content)


class Stream:
    """A watch being read: `next` is the next event, as (event, id, data)."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    async def next(self) -> tuple[str, str, Any]:
        while True:
            frame = (await self._content.readuntil(b"\n\n")).decode().strip("\n")
            if not frame.startswith(":"):
                fields = dict(line.split(": ", 1) for line in frame.split("\n"))
                return fields["event"], fields.get("id", ""), json.loads(fields["data"])

    async def rest(self) -> bytes:
        return await self._content.read()


async def ask(app: Application, method: str, path: str, query: bytes = b"") -> tuple[int, dict[bytes, bytes], bytes]:
    """One request, straight to the ASGI application."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": [], "root_path": ""}
    await app(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(part.get("body", b"") for part in sent)


@asynccontextmanager
async def controller(data: Path, **settings: Any) -> AsyncIterator[Api]:
    async with (
        running(Settings(data=data, http="127.0.0.1:0", **settings)) as found,
        aiohttp.ClientSession(read_bufsize=1 << 22) as session,
    ):
        yield Api(found.url, found.gateway, session)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with controller(tmp_path) as found:
        yield found
