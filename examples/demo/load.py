"""What goes on while things fail: orders, one after the other, and a burst of registrations."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from muster import Client, Written

PAUSE_SECONDS: Final = 0.01
BURST_INSTANCES: Final = 300
BURST_IN_FLIGHT: Final = 8


@dataclass(slots=True)
class Orders:
    """Orders of one user, sent until stopped."""

    url: str
    user_id: int
    served: int = 0
    failed: list[str] = field(default_factory=list)
    slowest_seconds: float = 0.0
    asked: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Order, for ever."""
        timeout = aiohttp.ClientTimeout(total=5.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                began = time.monotonic()
                try:
                    await self._order(session)
                except (aiohttp.ClientError, TimeoutError) as error:
                    self.failed.append(repr(error))
                self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _order(self, session: aiohttp.ClientSession) -> None:
        async with session.post(f"{self.url}/orders", json={"item": "tea", "user_id": self.user_id}) as answer:
            if answer.status == 201:
                self.served += 1
                self.asked.add((await answer.json())["asked"])
            else:
                self.failed.append(f"{answer.status} {await answer.text()}")


class Burst:
    """Registrations of `burst` instances, a few at a time; `acknowledged` holds what the controller has promised."""

    def __init__(self, url: str) -> None:
        self.acknowledged: dict[str, Written] = {}
        self.begun: set[str] = set()
        self.half = asyncio.Event()
        self._url = url

    async def run(self) -> None:
        """Register all; what gets no answer is tried again with the same command id, for 40 s."""
        names = iter([f"burst-{number:03}" for number in range(BURST_INSTANCES)])
        async with Client(self._url, actor="burst", timeout_seconds=40.0) as client, asyncio.TaskGroup() as tasks:
            for _ in range(BURST_IN_FLIGHT):
                tasks.create_task(self._register(client, names))

    async def _register(self, client: Client, names: Iterator[str]) -> None:
        for name in names:
            self.begun.add(name)
            self.acknowledged[name] = await client.register("burst", name, "127.0.0.1", 9, tags=["burst"])
            if len(self.acknowledged) >= BURST_INSTANCES // 2:
                self.half.set()


async def stopped(task: asyncio.Task[None]) -> None:
    """Cancel the task and wait for its end."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
