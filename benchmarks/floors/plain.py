"""The floor for HTTP: a plain ASGI function on the same server software that does nothing but answer the same bytes.

    python -m benchmarks.floors.plain PORT < answer

`GET /v1/watch…` stays open; a request with a body is also sent to all watchers, as a frame of the size of ours.
"""

import asyncio
import re
import sys
from functools import partial
from typing import Any, Final

import uvicorn

from workers.http.connection.connection import Connection
from workers.http.connection.keeper import Keeper

_SENT_AT: Final = re.compile(rb"at \d+")
_SNAPSHOT: Final = b'id: 0:0\nevent: snapshot\ndata: {"service":"bench","items":[],"token":"0:0"}\n\n'
_DELTA: Final = (
    b'id: 0:12345\nevent: delta\ndata: {"changes":[{"op":"patch","service":"service-1","instance":"i1","version":12345,'
    b'"position":12345,"set":{"health":"unhealthy","cause":"%b","health_since":"2026-01-01T00:00:00.000000Z",'
    b'"check_status":{"reported":{"status":"unhealthy","cause":"%b","since":"2026-01-01T00:00:00.000000Z"}},'
    b'"discoverable":false}}]}\n\n'
)


class Plain:
    """The application."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        self._watchers: list[asyncio.Queue[bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["method"] == "GET" and scope["path"].startswith("/v1/watch"):
            return await self._watch(send)
        message = await receive()
        body = message.get("body", b"")
        while message.get("more_body"):
            message = await receive()
            body += message.get("body", b"")
        if self._watchers and (sent := _SENT_AT.search(body)):
            frame = _DELTA % (sent[0], sent[0])
            for watcher in self._watchers:
                watcher.put_nowait(frame)
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        await send({"type": "http.response.body", "body": self._answer})
        return None

    async def _watch(self, send: Any) -> None:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._watchers.append(queue)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        await send({"type": "http.response.body", "body": _SNAPSHOT, "more_body": True})
        while True:
            await send({"type": "http.response.body", "body": await queue.get(), "more_body": True})


if __name__ == "__main__":
    uvicorn.run(
        Plain(sys.stdin.buffer.read()),
        port=int(sys.argv[1]),
        loop="uvloop",
        http=partial(Connection, keeper=Keeper()),  # type: ignore[arg-type]  # uvicorn calls what it is given as a class.
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=4096,
    )
