"""What the drivers' suite is played on: three nodes, what clients and machines do to them, and moves as sentences."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol

import pytest

from muster.wire.error import MusterError
from muster.wire.shards.driver import CopyLimits, Extent, Location, Progress, ShardDriver, ShardId, ShardLimits

SHARD = ShardId("users", 3)
OTHER = ShardId("users", 4)
LIMITS = ShardLimits()
QUICKLY = CopyLimits()
SLOWLY = CopyLimits(bytes_per_second=4 << 20)
ELSEWHERE = Location("n9", "10.0.0.9:7400")
big_values, big_value_bytes = 128, 16 << 10
wait_seconds_max = 10.0


class Node(Protocol):
    """A node as the tests need it: its driver, what clients do, and what happens to machines."""

    @property
    def driver(self) -> ShardDriver:
        """The driver of the store as it runs now."""

    @property
    def location(self) -> Location:
        """Where other nodes find it; the same after a restart."""

    async def put(self, shard: ShardId, key: str, value: bytes, write_id: str = "") -> int:
        """As a client: the change's number, once it is durable."""

    async def delete(self, shard: ShardId, key: str, write_id: str = "") -> int:
        """As a client: the change's number, once it is durable."""

    async def get(self, shard: ShardId, key: str) -> bytes | None:
        """As a client; None: no such key."""

    async def extent(self, shard: ShardId) -> Extent:
        """What the copy here holds, hidden or not, by the store's own books."""

    async def damage(self, shard: ShardId, key: str) -> None:
        """Flip a bit of the key's stored value, behind the store's back."""

    def sent_bytes(self) -> int:
        """How many bytes of pairs it has sent to other nodes."""

    async def kill(self) -> None:
        """The process is gone, whatever it was doing; the disk stays."""

    async def start(self) -> None:
        """A new process on the same disk."""


Nodes = tuple[Node, Node, Node]


class Heard:
    """Keeps the progress that was told; `reached` waits until so many bytes have come."""

    def __init__(self) -> None:
        self.progress: list[Progress] = []
        self._more = asyncio.Event()

    def __call__(self, progress: Progress) -> None:
        self.progress.append(progress)
        self._more.set()

    async def reached(self, size: int) -> None:
        while not self.progress or self.progress[-1].bytes < size:
            self._more.clear()
            await self._more.wait()


def unheard(_: Progress) -> None:
    """Nobody listens."""


async def eventually(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(wait_seconds_max):
        while not await true():  # noqa: ASYNC110 — what is waited for happens on other nodes
            await asyncio.sleep(0.005)


async def fill(node: Node, count: int = 20, size: int = 100, shard: ShardId = SHARD) -> dict[str, bytes]:
    """So many pairs, in a shard that serves."""
    pairs = {f"key-{number:04}": bytes([number % 256]) * size for number in range(count)}
    await asyncio.gather(*(node.put(shard, key, value) for key, value in pairs.items()))
    return pairs


async def opened(node: Node, count: int = 20, size: int = 100) -> dict[str, bytes]:
    """A fresh shard of epoch 1 with so many pairs."""
    await node.driver.open(SHARD, 1, LIMITS)
    return await fill(node, count, size)


async def copied(source: Node, target: Node, *, epoch: int = 2) -> Extent:
    """The move's first half: the target follows the source."""
    await target.driver.prepare(SHARD, epoch)
    await target.driver.copy(SHARD, source.location, QUICKLY, unheard)
    return await target.driver.catch_up(SHARD, source.location, QUICKLY, unheard)


async def handed_over(source: Node, target: Node, *, epoch: int = 2) -> Extent:
    """The move's second half, for a target that follows."""
    final = await source.driver.fence(SHARD, epoch - 1)
    drained = await target.driver.drain(SHARD, source.location, final)
    assert drained == final
    await target.driver.activate(SHARD, epoch, LIMITS)
    await source.driver.retire(SHARD, epoch, target.location)
    return final


async def moved(source: Node, target: Node, *, epoch: int = 2) -> Extent:
    await copied(source, target, epoch=epoch)
    await target.driver.verify(SHARD, source.location)
    return await handed_over(source, target, epoch=epoch)


async def restart(node: Node) -> None:
    await node.kill()
    await node.start()


async def held(node: Node, keys: dict[str, bytes], shard: ShardId = SHARD) -> dict[str, bytes | None]:
    return {key: await node.get(shard, key) for key in keys}


async def serves(node: Node, shard: ShardId = SHARD) -> bool:
    """Whether it takes writes and answers reads."""
    try:
        await node.put(shard, "probe", b"written")
        return await node.get(shard, "probe") == b"written"
    except MusterError:
        with pytest.raises(MusterError):
            await node.get(shard, "probe")
        return False


@asynccontextmanager
async def copying(source: Node, target: Node) -> AsyncIterator[Heard]:
    """Inside, a slow copy is half way; at the end it is cancelled, if nothing else has ended it."""
    heard = Heard()
    task = asyncio.create_task(target.driver.copy(SHARD, source.location, SLOWLY, heard))
    try:
        await asyncio.wait_for(heard.reached(big_values * big_value_bytes // 2), wait_seconds_max)
        yield heard
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, MusterError):
            await task


class Writers:
    """Clients that write all the time, each to keys of its own; `acknowledged` has the last value of each key."""

    def __init__(self, node: Node, count: int = 4) -> None:
        self.node, self.count = node, count
        self.acknowledged: dict[str, bytes | None] = {}
        self.positions: list[int] = []
        self.refused = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Writers":
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(self.count)]
        await self.go_on()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def go_on(self, writes: int = 20) -> None:
        """Until there are so many more of them."""
        goal = len(self.positions) + writes

        async def there() -> bool:
            return len(self.positions) >= goal

        await eventually(there)

    async def end(self) -> None:
        """Until every client was refused."""
        async with asyncio.timeout(wait_seconds_max):
            await asyncio.gather(*self._tasks)

    async def _write(self, client: int) -> None:
        for number in range(1_000_000):
            key = f"writer-{client}-{number % 7}"
            value = None if number % 5 == 4 else f"value {number}".encode()
            try:
                if value is None:
                    self.positions.append(await self.node.delete(SHARD, key))
                else:
                    self.positions.append(await self.node.put(SHARD, key, value))
            except MusterError:
                self.refused += 1
                self.acknowledged.pop(key, None)  # what became of this one is not known
                return
            self.acknowledged[key] = value
            await asyncio.sleep(0)
