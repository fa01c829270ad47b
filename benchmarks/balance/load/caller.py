"""Calls at a steady pace, whether or not earlier ones are answered, from several clients in one process.

    python -m benchmarks.balance.load.caller < JSON

The JSON is that of `Calls`. With a `controller` each client has a balancer of its own; without, all call `proxy`. Prints under
`phases` what became of the calls of each phase: by priority how many were `sent` and `answered` with 200, how many `failed` in
whatever way, and p50 and p99 in ms of those that were answered, each from when it was due. Says "begun" in a line before, if that
is asked for.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Final

import aiohttp
import orjson
import uvloop

from muster import Balancer, MusterError, balanced

TIMEOUT_SECONDS: Final = 5.0
BALANCED_HOST: Final = "users"


@dataclass(frozen=True, slots=True)
class Calls:
    """What is called, how often and by how many clients. `phases`: pace per second and seconds."""

    phases: tuple[tuple[float, float], ...]
    clients: int
    controller: str = ""
    proxy: str = ""
    policy: str = ""
    method: str = "GET"
    priorities: tuple[str, ...] = ("normal",)
    says_begun: bool = False


@dataclass(slots=True)
class Phase:
    """What became of the calls of one phase."""

    sent: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    waited: list[float] = field(default_factory=list)

    def told(self) -> dict[str, object]:
        """As it is printed."""
        waited = sorted(self.waited)
        times = {f"p{percent}_ms": waited[len(waited) * percent // 100] * 1e3 for percent in (50, 99) if waited}
        return {"sent": self.sent, "answered": self.answered, "failed": self.failed, **times}


@asynccontextmanager
async def clients(calls: Calls) -> AsyncIterator[list[aiohttp.ClientSession]]:
    """The sessions, each with connections and a balancer of its own."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(calls.clients):
            base, middlewares = calls.proxy, []
            if calls.controller:
                settings = {"policy": calls.policy} if calls.policy else {}
                users = Balancer(BALANCED_HOST, calls.controller, **settings)  # type: ignore[arg-type]
                base, middlewares = f"http://{BALANCED_HOST}", [balanced(await stack.enter_async_context(users))]
            connector = aiohttp.TCPConnector(limit=0)
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
            session = aiohttp.ClientSession(base, connector=connector, timeout=timeout, middlewares=middlewares)
            made.append(await stack.enter_async_context(session))
        yield made


async def run(calls: Calls) -> list[dict[str, object]]:
    """All phases, one right behind the other."""
    phases, number = [Phase() for _ in calls.phases], count()
    async with clients(calls) as sessions, asyncio.TaskGroup() as under_way:
        if calls.says_begun:
            print("begun", flush=True)
        begins = time.monotonic()
        for phase, (per_second, seconds) in zip(phases, calls.phases, strict=True):
            for nth in range(int(per_second * seconds)):
                due = begins + nth / per_second
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                turn = next(number)
                # Each client has calls of every priority, in turn, and at every moment there are all of them.
                round_, client = divmod(turn, len(sessions))
                priority, session = calls.priorities[(round_ + client) % len(calls.priorities)], sessions[client]
                under_way.create_task(_call(session, calls.method, priority, due, phase))
            begins += seconds
    return [phase.told() for phase in phases]


async def _call(session: aiohttp.ClientSession, method: str, priority: str, due: float, phase: Phase) -> None:
    phase.sent[priority] += 1
    try:
        async with session.request(method, "/users/1", headers={"Muster-Priority": priority}) as answer:
            await answer.read()
    except (aiohttp.ClientError, MusterError, TimeoutError) as error:
        phase.failed[type(error).__name__] += 1
        return
    if answer.status != 200:
        phase.failed[str(answer.status)] += 1
        return
    phase.answered[priority] += 1
    phase.waited.append(time.monotonic() - due)


def given(calls: Calls) -> bytes:
    """What the process is given."""
    return orjson.dumps(asdict(calls))


if __name__ == "__main__":
    asked = Calls(**orjson.loads(sys.stdin.buffer.read()))
    sys.stdout.buffer.write(orjson.dumps({"phases": uvloop.run(run(asked))}))
