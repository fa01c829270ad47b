"""The story, step by step; each step says what it does, does it, and checks what it claims."""

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import aiohttp

from examples.demo import audit, calls, crash, database, outside, shards
from examples.demo.claims import Claims
from examples.demo.cluster import Cluster
from examples.demo.compare import differences, positions, watch_breaches
from examples.demo.groups import LedgerGroup
from examples.demo.load import BURST_INSTANCES, Orders, stopped
from examples.demo.screen import HIDDEN, Screen
from examples.demo.stage import Stage, all_events, milliseconds, some
from examples.demo.watcher import Watcher
from muster import Appeared, Change, Changed, Client, Removed

SERVICES: Final = ("users-1", "users-2", "orders-1", "greeter-1")
CHECK_INTERVAL: Final = ("--check-interval", "0.2")
FLIP_SECONDS_MAX: Final = 3.0
OPERATOR: Final = "alice@operations"
WHY_DRAINED: Final = "kernel update"


@dataclass(frozen=True, slots=True)
class Servers:
    """The real servers beside the controller, if any: Kafka's address and PostgreSQL's DSN."""

    kafka: str | None = None
    postgres: str | None = None


async def play(cluster: Cluster, servers: Servers, screen: Screen, claims: Claims) -> None:
    """All steps."""
    screen.step("A controller starts")
    claims.figure("controller: start → ready", milliseconds(await cluster.start_controller()))
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(cluster.url, actor=OPERATOR))
        watcher = Watcher(lambda change: _shown(change, screen, watcher))
        stage = Stage(cluster, client, watcher, screen, claims)
        watching = asyncio.create_task(watcher.follow(client), name="watcher")
        stack.push_async_callback(stopped, watching)
        await start_services(stage)
        orders = Orders(f"http://{stage.instance('orders-1').endpoint}", await order_through_discovery(stage))
        ordering = asyncio.create_task(orders.run(), name="orders")
        stack.push_async_callback(stopped, ordering)
        flipped_at = await kill_a_service(stage)
        await bring_it_back(stage)
        await crash.kill_the_controller(stage, orders)
        await drain(stage)
        await stopped(ordering)
        claim_orders(stage, orders)
        await show_history(stage)
        if servers.kafka is not None:
            await outside.command_by_kafka(stage, servers.kafka)
        if servers.postgres is not None:
            await outside.join_by_sql(stage, servers.postgres)
        await shards.play(stage, several=servers.kafka is not None)
        await calls.play(stage)
        await LedgerGroup(stage).play()
        if servers.postgres is not None:
            await database.play(stage)
        await leave_in_order(stage)
        await audit.replay(stage, flipped_at)
        await audit.verify(stage)
        if servers.kafka is None:
            await audit.detect_damage(stage)


def _shown(change: Change, screen: Screen, watcher: Watcher) -> None:
    if not isinstance(change, Appeared | Changed | Removed) or change.instance.service != HIDDEN:
        screen.change(change)
        screen.instances(watcher.instances)


async def start_services(stage: Stage) -> None:
    """Four copies of three services register themselves, each with checks that the controller runs."""
    stage.screen.step("Three services start, users twice, and register themselves with checks")
    began = time.monotonic()
    for name in SERVICES:
        start(stage, name)

    def all_healthy() -> bool:
        healthy = {row.instance for row in stage.watcher.instances.values() if row.discoverable}
        return healthy >= set(SERVICES)

    await stage.watcher.until(all_healthy, "all services are healthy", 20.0)
    stage.claims.figure("four services: start → all discovered", milliseconds(time.monotonic() - began))
    stage.screen.table(stage.watcher.instances)
    listed = await stage.listed("users", "orders", "greeter")
    stage.claims.claim(
        "what the watcher holds is what the controller lists",
        not (found := differences(listed, stage.watcher.instances)),
        some(found),
    )
    checked = {name for row in listed.values() for name, check in row.check_status.items() if check.status == "healthy"}
    stage.claims.claim("http, tcp and ttl checks are passed", checked == {"http", "tcp", "ttl"}, ", ".join(checked))


def start(stage: Stage, name: str) -> None:
    """Start one copy of a service by its name."""
    service = name.rpartition("-")[0]
    options = {
        "users": ("--store", str(stage.cluster.folder / "users.sqlite")),
        "greeter": ("--lease", "6"),
    }.get(service, ())
    stage.cluster.start_service(name, f"examples.{service}", *CHECK_INTERVAL, *options)


async def order_through_discovery(stage: Stage) -> int:
    """An order creates a user at a discovered users, another order finds it at the other one."""
    stage.screen.step("orders finds users through muster and calls it")
    [orders] = await stage.client.discover("orders")
    users = {row.instance for row in await stage.client.discover("users")}
    async with aiohttp.ClientSession() as session:

        async def order(**who: Any) -> dict[str, Any]:
            body = {"item": "tea", **who}
            async with session.post(f"http://{orders.endpoint}/orders", json=body) as answer:
                answer.raise_for_status()
                found: dict[str, Any] = await answer.json()
                return found

        first = await order(name="Ada")
        rest = [await order(user_id=first["user"]["id"]) for _ in range(4)]
    asked = {answer["asked"] for answer in (first, *rest)}
    stage.screen.line(f"POST /orders → {first}")
    stage.claims.claim(
        "orders created a user at a discovered users, and found it again at both copies",
        asked == users == {"users-1", "users-2"} and all(answer["user"]["name"] == "Ada" for answer in rest),
        f"asked {', '.join(sorted(asked))}",
    )
    return int(first["user"]["id"])


async def kill_a_service(stage: Stage) -> str:
    """SIGKILL for users-1: the controller's check notices, the watcher hears it, discovery offers the other one.

    Gives the token of the moment at which the flip was recorded.
    """
    stage.screen.step("users-1 is killed with SIGKILL")
    number = len(stage.watcher.seen)
    killed_at = time.monotonic()
    stage.cluster.kill("users-1")
    flip = await stage.watcher.flip("users-1", "unhealthy", number)
    row, seconds = flip.change.instance, flip.at - killed_at
    stage.claims.figure("SIGKILL → watcher (checks every 200 ms, two failures)", milliseconds(seconds))
    stage.claims.figure("recorded → watcher", milliseconds((flip.utc - row.health_since).total_seconds()))
    stage.screen.table(stage.watcher.instances)
    stage.claims.claim(
        f"the flip reached the watcher within {FLIP_SECONDS_MAX:g} s of the kill, with its cause",
        seconds < FLIP_SECONDS_MAX and bool(row.cause),
        f"{milliseconds(seconds)}: {row.cause}",
    )
    offered = [row.instance for row in await stage.client.discover("users")]
    stage.claims.claim("discovery offers only the other copy", offered == ["users-2"], ", ".join(offered))
    return flip.change.token


async def bring_it_back(stage: Stage) -> None:
    """The same copy starts again, on another port."""
    stage.screen.step("users-1 is brought back")
    before, number, began = stage.instance("users-1"), len(stage.watcher.seen), time.monotonic()
    start(stage, "users-1")
    flip = await stage.watcher.flip("users-1", "healthy", number)
    stage.claims.figure("start of the process → healthy at the watcher", milliseconds(flip.at - began))
    row = stage.instance("users-1")
    stage.claims.claim(
        "it is a new incarnation, at its new address",
        row.incarnation > before.incarnation and row.endpoint != before.endpoint,
        f"incarnation {before.incarnation} → {row.incarnation}, {before.endpoint} → {row.endpoint}",
    )
    offered = sorted(row.instance for row in await stage.client.discover("users"))
    stage.claims.claim("discovery offers both again", offered == ["users-1", "users-2"], ", ".join(offered))


async def drain(stage: Stage) -> None:
    """An operator takes users-1 out, and the watcher, back from the interruption, hears that too."""
    stage.screen.step("An operator drains users-1")
    written = await stage.client.drain("users", "users-1", WHY_DRAINED)
    row = await stage.client.instance("users", "users-1")
    mark = row.draining
    stage.claims.claim(
        "users-1 is out of discovery, its health untouched; who and why are known",
        mark is not None and (mark.actor, mark.reason) == (OPERATOR, WHY_DRAINED) and row.health == "healthy",
        f"position {written.position}: {mark.actor}, {mark.reason}" if mark else "",
    )
    offered = [row.instance for row in await stage.client.discover("users")]
    stage.claims.claim("discovery offers only users-2", offered == ["users-2"], ", ".join(offered))
    await claim_watch(stage, "the watcher resumed over the controller's death without a gap or a repeat")
    stage.screen.table(stage.watcher.instances)


async def claim_watch(stage: Stage, text: str) -> None:
    """What the watcher was told is what is recorded: each change once, in order."""
    events = await all_events(stage.client)
    [first, *_] = stage.watcher.changes
    since = positions(first.token)

    def breaches() -> list[str]:
        return watch_breaches(events, stage.watcher.changes, since)

    try:
        await stage.watcher.until(lambda: not breaches(), text, 5.0)
    finally:
        found = breaches()
        told = len(stage.watcher.seen) - 1
        stage.claims.claim(text, not found and told > BURST_INSTANCES, f"{told} changes" + some(found))


def claim_orders(stage: Stage, orders: Orders) -> None:
    """Nobody who ordered noticed anything."""
    stage.claims.figure(
        "orders while users-1, then the controller, was dead",
        f"{orders.served} served, {len(orders.failed)} failed, slowest {milliseconds(orders.slowest_seconds)}",
    )
    stage.claims.claim(
        "orders were served all the time, by whichever users were left",
        orders.served > 0 and not orders.failed and orders.asked == {"users-1", "users-2"},
        f"{orders.served} served" + some(orders.failed),
    )


async def show_history(stage: Stage) -> None:
    """What happened to users-1: what, when, who, why."""
    stage.screen.step("The history of users-1")
    history = await stage.client.history("users", "users-1")
    stage.screen.history(history.items)
    kinds = [entry.type.removeprefix("muster.instance.").removesuffix(".v1") for entry in history.items]
    flips = [entry.data["to"] for entry in history.items if entry.type == "muster.instance.health_changed.v1"]
    stage.claims.claim(
        "the history tells the registration, both flips and the succession, in order",
        kinds[0] == "registered"
        and [flip for flip in flips if flip != "unknown"] == ["healthy", "unhealthy", "healthy"]
        and ("deregistered", "registered") in pairwise(kinds)
        and [entry.at for entry in history.items] == sorted(entry.at for entry in history.items),
        f"{history.count} events",
    )
    last = history.items[-1]
    stage.claims.claim(
        "it ends with the drain, with actor and reason",
        (last.type, last.actor, last.reason) == ("muster.instance.drain_started.v1", OPERATOR, WHY_DRAINED),
        f"{last.actor}: {last.reason}",
    )


async def leave_in_order(stage: Stage) -> None:
    """A service that is stopped leaves by itself."""
    stage.screen.step("greeter is stopped in order (SIGTERM), and leaves by itself")
    await stage.cluster.stop("greeter-1")

    def gone() -> Removed | None:
        removed = (change for change in stage.watcher.changes if isinstance(change, Removed))
        return next((change for change in removed if change.instance.instance == "greeter-1"), None)

    change = await stage.watcher.until(gone, "greeter-1 is gone", 5.0)
    stage.claims.claim("its departure is recorded as its own wish", change.cause == "requested", str(change.cause))
