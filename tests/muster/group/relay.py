"""A relay before a controller, which can be slow with answers, and cut: as a whole, or in one direction."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from muster.clock import elapsed_seconds


class Relay:
    """`renewed_at`: when the newest renewal passed whose answer has passed too; `asked`: the paths of what was sent. In what
    controllers answer, the addresses `instead` are replaced by others of the same length: who learns of other controllers here
    is to go through relays to them too.
    """

    def __init__(self, url: str, instead: Mapping[bytes, bytes] | None = None) -> None:
        self._there = urlsplit(url)
        self.instead = dict(instead or {})
        self.answer_delay_seconds = 0.0
        self.renewed_at = 0.0
        self.asked: list[str] = []
        self.url = ""
        self._requests_pass = asyncio.Event()
        self._answers_pass = asyncio.Event()
        self._refuses = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.StreamWriter] = set()
        self.mend()

    def cut(self, *, requests: bool = True, answers: bool = True) -> None:
        """Let no requests through any more, or no answers, or neither; connections stay. What is held up passes when mended."""
        if requests:
            self._requests_pass.clear()
        if answers:
            self._answers_pass.clear()

    def reset(self) -> None:
        """Break all connections, with whatever is on its way, and refuse new ones."""
        self._refuses = True
        for end in list(self._ends):
            end.transport.abort()

    def mend(self) -> None:
        """Let everything through again."""
        self._refuses = False
        self._requests_pass.set()
        self._answers_pass.set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        try:
            if self._refuses:
                raise ConnectionRefusedError
            there, answers = await asyncio.open_connection(self._there.hostname, self._there.port)
        except OSError:
            # There is no controller: who asks is to hear of that at once, as without a relay.
            writer.transport.abort()
            return
        sent: list[float] = []
        self._ends |= {writer, answers}
        self._start(self._carry_requests(reader, answers, sent))
        self._start(self._carry_answers(there, writer, sent))

    async def close(self) -> None:
        """Carry nothing more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_requests(self, here: asyncio.StreamReader, there: asyncio.StreamWriter, sent: list[float]) -> None:
        with suppress(ConnectionError):
            while data := await here.read(65_536):
                await self._requests_pass.wait()
                if data.startswith((b"POST ", b"GET ")):
                    self.asked.append(data.split(b" ", 2)[1].decode())
                if b"/renew " in data or b"muster.group.renew.v1" in data:
                    sent.append(elapsed_seconds())
                there.write(data)
                await there.drain()
        self._ends.discard(there)
        there.close()

    async def _carry_answers(self, there: asyncio.StreamReader, here: asyncio.StreamWriter, sent: list[float]) -> None:
        with suppress(ConnectionError):
            while data := await there.read(65_536):
                await asyncio.sleep(self.answer_delay_seconds)
                await self._answers_pass.wait()
                if sent:
                    self.renewed_at = max(self.renewed_at, *sent)
                    sent.clear()
                for said, meant in self.instead.items():
                    data = data.replace(said, meant)
                here.write(data)
                await here.drain()
        self._ends.discard(here)
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
