"""Calls that are balanced by the client: a copy is killed, another one is slow, and then there is more to do than can be done."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Final

import aiohttp

from examples.demo.stage import Stage, milliseconds, some
from muster import Balancer, MusterError, balanced

SERVICE: Final = "quotes"
COPIES: Final = ("quotes-1", "quotes-2", "quotes-3", "quotes-4")
SLOW: Final = "quotes-5"
TAKES_SECONDS: Final = 0.04
AT_ONCE: Final = 2
SLOW_AT_ONCE: Final = 16
"""The slow copy is slow, and not too busy as well: it is asked a fifth of all when calls take turns."""
SLOW_TIMES: Final = 10
"""So many times as long as the others the slow copy takes."""
CALM_PER_SECOND: Final = 80.0
PRIORITIES: Final = ("low", "normal", "high", "critical")
CAPACITY_PER_SECOND: Final = 3 * AT_ONCE / TAKES_SECONDS
"""Of the three quick copies that are left; the slow one is stopped before the overload."""


@dataclass(slots=True)
class Told:
    """What became of calls: how long the answered ones took, by whom, and of each priority how many were sent and answered."""

    seconds: list[float] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    said_by: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)

    @property
    def p99(self) -> float:
        """The seconds that 99 of 100 answers took at most."""
        return quantiles(self.seconds, n=100)[-1]

    def share(self, priority: str) -> float:
        """How many of this priority were answered."""
        return self.answered[priority] / self.sent[priority]


async def play(stage: Stage) -> None:
    """The chapter."""
    stage.screen.step("Five copies of quotes are called by a client that balances its calls itself")
    for name in COPIES:
        _start(stage, name, TAKES_SECONDS, AT_ONCE)
    _start(stage, SLOW, SLOW_TIMES * TAKES_SECONDS, SLOW_AT_ONCE)

    def all_there() -> bool:
        there = {row.instance for row in stage.watcher.instances.values() if row.discoverable}
        return there >= {*COPIES, SLOW}

    await stage.watcher.until(all_there, "all quotes are healthy", 20.0)
    async with (
        Balancer(SERVICE, stage.client) as quotes,
        aiohttp.ClientSession(f"http://{SERVICE}", middlewares=(balanced(quotes),)) as session,
    ):
        await _slow(stage, session)
        await _kill(stage, session)
        await _overload(stage, session, quotes)
    for name in COPIES:
        await stage.cluster.stop(name)


def _start(stage: Stage, name: str, takes_seconds: float, at_once: int) -> None:
    options = ("--takes", str(takes_seconds), "--at-once", str(at_once), "--check-interval", "0.2")
    stage.cluster.start_service(name, "examples.quotes", *options)


async def _slow(stage: Stage, session: aiohttp.ClientSession) -> None:
    """An operator tells all clients to take turns, and then not to: each time one command, and no client starts anew."""
    await _set_policy(stage, "round_robin", "let us see what turns do")
    turns = await _calls(session, CALM_PER_SECOND, 2.0)
    await _set_policy(stage, "least_cost", "quotes-5 is slow")
    # What it knows of the slow copy it has learned meanwhile.
    cost = await _calls(session, CALM_PER_SECOND, 2.0)
    stage.claims.figure(
        f"one copy of five {SLOW_TIMES} times slower, p99 of calls",
        f"in turns {milliseconds(turns.p99)}, by cost {milliseconds(cost.p99)}",
    )
    stage.claims.claim(
        "an operator has changed the policy of a running client, which leaves a slow copy alone from then on",
        not turns.failed and not cost.failed and cost.said_by[SLOW] <= turns.said_by[SLOW] / 3,
        f"it was asked {turns.said_by[SLOW]} times, then {cost.said_by[SLOW]}" + some([*turns.failed, *cost.failed]),
    )


async def _set_policy(stage: Stage, policy: str, reason: str) -> None:
    tool = await stage.cluster.tool(
        *("traffic", "set", SERVICE, "--policy", policy, "--reason", reason), *("--url", stage.cluster.url)
    )
    stage.screen.line(f"muster traffic set {SERVICE} --policy {policy} → exit {tool.exit_code}")


async def _kill(stage: Stage, session: aiohttp.ClientSession) -> None:
    """SIGKILL of a copy in the middle of calls."""
    calling = asyncio.create_task(_calls(session, CALM_PER_SECOND, 2.0))
    await asyncio.sleep(0.5)
    stage.cluster.kill(COPIES[0])
    told = await calling
    stage.claims.claim(
        "a copy was killed among calls, and no call has failed",
        not told.failed,
        f"{sum(told.sent.values())} calls" + some(told.failed),
    )


async def _overload(stage: Stage, session: aiohttp.ClientSession, quotes: Balancer) -> None:
    """Half as much again as the copies can do, a quarter of it at each priority; then as before."""
    await stage.cluster.stop(SLOW)
    told = await _calls(session, 1.5 * CAPACITY_PER_SECOND, 4.0, PRIORITIES)
    shares = {priority: f"{told.share(priority):.0%}" for priority in PRIORITIES}
    answered = ", ".join(f"{priority} {share}" for priority, share in shares.items())
    stage.claims.figure("one and a half times of what can be done: answered", answered)
    stage.claims.claim(
        "under overload what is critical is answered, and what is low is shed",
        told.share("critical") >= 0.85 and told.share("low") < told.share("critical"),
        f"{sum(quotes.statistics.shed.values())} calls were shed before they were sent",
    )
    after = await _calls(session, CALM_PER_SECOND, 1.0)
    stage.claims.claim(
        "behind the peak calls are answered as before",
        len(after.seconds) >= 0.95 * after.sent["normal"],
        f"{len(after.seconds)} of {after.sent['normal']}",
    )


async def _calls(
    session: aiohttp.ClientSession, per_second: float, seconds: float, priorities: Sequence[str] = ("normal",)
) -> Told:
    """Call at this pace, whether or not earlier calls are answered, and wait for all answers."""
    told, began = Told(), time.monotonic()
    async with asyncio.TaskGroup() as calls:
        for number in range(int(per_second * seconds)):
            await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
            calls.create_task(_call(session, told, priorities[number % len(priorities)]))
    return told


async def _call(session: aiohttp.ClientSession, told: Told, priority: str) -> None:
    began = time.monotonic()
    told.sent[priority] += 1
    try:
        async with session.get("/quotes/tea", headers={"Muster-Priority": priority}) as answer:
            answer.raise_for_status()
            said_by = (await answer.json())["said_by"]
    except (aiohttp.ClientError, MusterError, TimeoutError) as error:
        told.failed.append(f"{priority}: {error}")
        return
    told.answered[priority] += 1
    told.said_by[said_by] += 1
    told.seconds.append(time.monotonic() - began)
