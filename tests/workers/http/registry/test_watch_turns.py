"""The first pictures of many watches: encoded once, a few pieces in each turn of the loop, the others' turns in between."""

import asyncio
from collections import Counter
from collections.abc import Iterator

from workers.http.asgi import Message
from workers.http.exchange import Request
from workers.http.watch.stream import stream
from workers.http.watch.subscribers import Audience, snapshots_sent_max
from workers.views.views import Views

WATCHERS, PIECES = 50, 20


class Loop:
    """The event loop's turns, counted."""

    def __init__(self) -> None:
        self.turn = 0
        self._next()

    def _next(self) -> None:
        self.turn += 1
        asyncio.get_running_loop().call_soon(self._next)


async def watching(audience: Audience, loop: Loop, made: "Counter[int]", *, reads: bool = True) -> bytes:
    """What one watcher is sent up to the end of its first picture; without `reads`, nothing once its first piece has come."""
    subscriber, sent, ended = audience.admit(("instances", None), "0:0"), bytearray(), asyncio.Event()

    async def receive() -> Message:
        await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if sent and not reads:
            await asyncio.get_running_loop().create_future()
        sent.extend(message.get("body", b""))
        if sent.count(b"piece") == PIECES:
            ended.set()

    def pieces() -> Iterator[bytes]:
        for _ in range(PIECES):
            made[loop.turn] += 1
            yield b"piece"

    await stream(Request({"headers": []}, receive, send), audience, subscriber, pieces())
    return bytes(sent)


async def test_so_many_pieces_are_made_in_one_turn_of_the_loop() -> None:
    audience, loop, made = Audience(Views([0])), Loop(), Counter[int]()
    told = await asyncio.gather(*(watching(audience, loop, made) for _ in range(WATCHERS)))
    assert set(told) == {b"piece" * PIECES}
    assert max(made.values()) <= snapshots_sent_max
    audience.close()


async def test_who_does_not_read_takes_nobodys_turn() -> None:
    audience, loop, made = Audience(Views([0])), Loop(), Counter[int]()
    silent = [asyncio.create_task(watching(audience, loop, made, reads=False)) for _ in range(2 * snapshots_sent_max)]
    async with asyncio.timeout(5):
        assert await watching(audience, loop, made) == b"piece" * PIECES
    for task in silent:
        task.cancel()
    await asyncio.wait(silent)
    audience.close()
