"""A relay before a controller, which can be slow with answers, and cut."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from muster.clock import elapsed_seconds


class Relay:
    """`renewed_at`: when the newest renewal passed whose answer has passed too; `asked`: the paths of what was sent."""

    def __init__(self, url: str) -> None:
        self._there = urlsplit(url)
        self.answer_delay_seconds = 0.0
        self.renewed_at = 0.0
        self.asked: list[str] = []
        self.url = ""
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Let nothing through any more; connections stay."""
        self._is_open.clear()

    def mend(self) -> None:
        """Let everything through again."""
        self._is_open.set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        there, answers = await asyncio.open_connection(self._there.hostname, self._there.port)
        sent: list[float] = []
        self._start(self._carry_requests(reader, answers, sent))
        self._start(self._carry_answers(there, writer, sent))

    async def close(self) -> None:
        """Carry nothing more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: "asyncio._CoroutineLike[None]") -> None:
        self._tasks.add(asyncio.ensure_future(work))

    async def _carry_requests(self, here: asyncio.StreamReader, there: asyncio.StreamWriter, sent: list[float]) -> None:
        with suppress(ConnectionError):
            while data := await here.read(65_536):
                await self._is_open.wait()
                if data.startswith((b"POST ", b"GET ")):
                    self.asked.append(data.split(b" ", 2)[1].decode())
                if b"/renew " in data or b"muster.group.renew.v1" in data:
                    sent.append(elapsed_seconds())
                there.write(data)
                await there.drain()
        there.close()

    async def _carry_answers(self, there: asyncio.StreamReader, here: asyncio.StreamWriter, sent: list[float]) -> None:
        with suppress(ConnectionError):
            while data := await there.read(65_536):
                await asyncio.sleep(self.answer_delay_seconds)
                await self._is_open.wait()
                if sent:
                    self.renewed_at = max(self.renewed_at, *sent)
                    sent.clear()
                here.write(data)
                await here.drain()
        here.close()


@asynccontextmanager
async def relay(url: str) -> AsyncIterator[Relay]:
    """A relay before the controller at `url`."""
    found = Relay(url)
    server = await asyncio.start_server(found.connected, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield found
    finally:
        server.close()
        await found.close()
