"""Reports that an instance is unhealthy, and well again, among calls that are balanced: how late is the last call that it gets?

    python -m benchmarks.balance.load.stray HOST PORT SERVICE FLIPS PER_SECOND

Two instances are called in turns at this pace, and each answers with the instant at which the call came. Between calls the
balancer is asked every millisecond whom it would take, so that the last stray is not missed only because no call was due. A flip
counts from the moment before its report is sent. Beside it a lean watcher of the same service reads of the same flips, in this
process. Prints JSON: p50 and p99 in ms of both, how many real calls were strays, and how many failed.
"""

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from typing import Final

import aiohttp
import orjson
import uvloop

from benchmarks.load.watcher import Watcher
from muster import Balancer

FLIPPED: Final = "i0"
LOOK_SECONDS: Final = 0.001
SETTLED_SECONDS: Final = 0.1
SEEN_SECONDS_MAX: Final = 5.0


class Calling:
    """Calls of the service; `last_at` is the latest instant at which the flipped instance was taken, or called."""

    def __init__(self, users: Balancer, session: aiohttp.ClientSession) -> None:
        self._users, self._session = users, session
        self.last_at = 0
        self.came = list[int]()
        self.failed = 0

    async def at_pace(self, per_second: float) -> None:
        """Call until cancelled, whether or not earlier calls are answered."""
        async with asyncio.TaskGroup() as under_way:
            due = time.monotonic()
            while True:
                due += 1 / per_second
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                under_way.create_task(self._call())

    async def _call(self) -> None:
        with self._users.attempt() as attempt:
            self._taken(attempt.instance.instance, time.monotonic_ns())
            async with self._session.get(f"http://{attempt.instance.endpoint}/users/1") as answer:
                attempt.answered(failed=answer.status != 200)
                came_at = int(await answer.read())
        self.failed += answer.status != 200
        if attempt.instance.instance == FLIPPED:
            self.came.append(came_at)
            self._taken(FLIPPED, came_at)

    async def look(self) -> None:
        """Ask whom the balancer would take, until cancelled. That teaches it nothing."""
        while True:
            attempt = self._users.attempt(timed=False)
            self._taken(attempt.instance.instance, time.monotonic_ns())
            self._users.record_request(attempt, "cancelled")
            await asyncio.sleep(LOOK_SECONDS)

    def _taken(self, instance: str, at: int) -> None:
        if instance == FLIPPED:
            self.last_at = max(self.last_at, at)


async def run(host: str, port: int, service: str, flips: int, per_second: float) -> dict[str, float]:
    """All flips, one after the other."""
    url, strays, seen = f"http://{host}:{port}", list[float](), list[float]()
    calls = 0
    async with AsyncExitStack() as stack:
        # In turns: by cost the one that will be flipped may have no calls at all, after a slow answer.
        users = await stack.enter_async_context(Balancer(service, url, policy="round_robin"))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        _, watcher = await asyncio.get_running_loop().create_connection(lambda: Watcher(service, 2 * flips), host, port)
        await watcher.ready
        calling = Calling(users, session)
        tasks = [asyncio.create_task(calling.at_pace(per_second)), asyncio.create_task(calling.look())]
        path = f"{url}/v1/services/{service}/instances/{FLIPPED}/health"
        await asyncio.sleep(SETTLED_SECONDS)
        for _ in range(flips):
            sent_at = await _report(session, path, "unhealthy", watcher)
            await asyncio.sleep(SETTLED_SECONDS)
            seen.append(watcher.seen[sent_at])
            strays.append(max(0, calling.last_at - sent_at) / 1e6)
            calls += sum(came_at > sent_at for came_at in calling.came)
            await _report(session, path, "healthy", watcher)
            await asyncio.sleep(SETTLED_SECONDS)
            calling.came.clear()
        for task in tasks:
            task.cancel()
        # An error of a call is one of the whole run.
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
    figures = {
        f"{name}_{percent}": value for name, of in (("stray", strays), ("watcher", seen)) for percent, value in _of(of)
    }
    return {**figures, "calls": calls, "failed": calling.failed}


async def _report(session: aiohttp.ClientSession, path: str, status: str, watcher: Watcher) -> int:
    """Report it; returns when that was, once the watcher has read of it."""
    sent_at = time.monotonic_ns()
    async with session.put(path, json={"status": status, "cause": f"at {sent_at}"}) as answer:
        if answer.status != 200:
            raise RuntimeError(f"a report was refused: {answer.status} {await answer.text()}")
    async with asyncio.timeout(SEEN_SECONDS_MAX):
        while sent_at not in watcher.seen:  # noqa: ASYNC110 it tells nobody
            await asyncio.sleep(LOOK_SECONDS)
    return sent_at


def _of(values: list[float]) -> list[tuple[str, float]]:
    ordered = sorted(values)
    return [(f"p{percent}_ms", ordered[len(ordered) * percent // 100]) for percent in (50, 99)]


if __name__ == "__main__":
    _, to_host, to_port, of_service, count, pace = sys.argv
    told = uvloop.run(run(to_host, int(to_port), of_service, int(count), float(pace)))
    sys.stdout.buffer.write(orjson.dumps(told))
