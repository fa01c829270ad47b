"""An instance that is called: a lean HTTP server that takes its time, can be full, and can fail.

    python -m benchmarks.balance.load.backend PORT TAKES_SECONDS AT_ONCE WAITING STATUS

`AT_ONCE` answers are worked on at a time, each for about TAKES_SECONDS (lognormal, or at once for 0); WAITING more may wait, the
others are turned away with 503 at once. STATUS is what is answered: 500 is one that fails, and that at once. The body of an
answer is the instant at which its request came, in monotonic nanoseconds, a clock that all processes of the machine share.
Prints its port when it listens (PORT 0: a free one).
"""

import asyncio
import math
import random
import sys
import time
from collections import deque
from typing import Final

import uvloop

SPREAD: Final = 0.5
"""Sigma of the lognormal times: one answer in a hundred takes nearly three times the mean."""
_HEAD_END: Final = b"\r\n\r\n"


class Work:
    """What is worked on and what waits, of all connections."""

    def __init__(self, takes_seconds: float, at_once: int, waiting: int, status: int) -> None:
        self.takes_seconds, self.at_once, self.waiting, self.status = takes_seconds, at_once, waiting, status
        self._busy = 0
        self._queue: deque[tuple[Connection, int]] = deque()
        self._dice = random.Random(at_once)

    def come(self, connection: "Connection", came_at: int) -> None:
        """A request has come."""
        if self.status != 200 or not self.takes_seconds:
            connection.answer(self.status, came_at)
        elif self._busy < self.at_once:
            self._begin(connection, came_at)
        elif len(self._queue) < self.waiting:
            self._queue.append((connection, came_at))
        else:
            connection.answer(503, came_at)

    def _begin(self, connection: "Connection", came_at: int) -> None:
        self._busy += 1
        # The mean of a lognormal lies above its median by this factor.
        median = self.takes_seconds / math.exp(SPREAD**2 / 2)
        seconds = median * self._dice.lognormvariate(0.0, SPREAD)
        asyncio.get_running_loop().call_later(seconds, self._done, connection, came_at)

    def _done(self, connection: "Connection", came_at: int) -> None:
        self._busy -= 1
        connection.answer(200, came_at)
        if self._queue:
            self._begin(*self._queue.popleft())


class Connection(asyncio.Protocol):
    """One connection, with one request at a time. No request has a body."""

    def __init__(self, work: Work) -> None:
        self._work, self._rest = work, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._rest += data
        if self._rest.endswith(_HEAD_END):
            self._rest = b""
            self._work.come(self, time.monotonic_ns())

    def answer(self, status: int, came_at: int) -> None:
        """Answer what was asked."""
        body = b"%d" % came_at
        # Who has gone meanwhile is not written to: uvloop would warn of that.
        if not self._transport.is_closing():
            head = b"HTTP/1.1 %d Told\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
            self._transport.write(head + body)  # type: ignore[attr-defined]


async def main(port: int, work: Work) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(lambda: Connection(work), "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    _, at_port, takes, *numbers = sys.argv
    uvloop.run(main(int(at_port), Work(float(takes), *map(int, numbers))))
