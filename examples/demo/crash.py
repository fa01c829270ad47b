"""The controller's death amid registrations: what it had promised is there afterwards, and nothing else has changed."""

import asyncio
import time
from dataclasses import dataclass

from examples.demo.claims import Claims
from examples.demo.compare import Key, covers, differences
from examples.demo.load import BURST_INSTANCES, Burst, Orders, stopped
from examples.demo.stage import Stage, all_events, milliseconds, some
from muster import Client, Instance, Written

SERVICES = ("users", "orders", "greeter")


@dataclass(frozen=True, slots=True)
class Standing:
    """How the services stand: their instances, and how many events each has had."""

    instances: dict[Key, Instance]
    events: dict[Key, int]


@dataclass(frozen=True, slots=True)
class Promise:
    """What had been acknowledged when the controller was killed, and how many registrations were on their way."""

    written: dict[str, Written]
    tokens: list[str]
    in_flight: int


async def kill_the_controller(stage: Stage, orders: Orders) -> None:
    """SIGKILL in the middle of a burst of registrations, then a start on the same data."""
    stage.screen.step(f"The controller is killed with SIGKILL amid {BURST_INSTANCES} registrations, and restarted")
    before, burst = await standing(stage), Burst(stage.cluster.url)
    bursting = asyncio.create_task(burst.run(), name="burst")
    try:
        async with asyncio.timeout(20):
            await burst.half.wait()
        stage.cluster.kill("controller")
        killed_at, promise = time.monotonic(), promised(burst, stage.client)
        stage.screen.line(f"killed with {len(promise.written)} acknowledged and {promise.in_flight} in flight")
        await restart(stage, orders)
        after = await standing(stage)
        stage.claims.figure("controller: SIGKILL → all read again, strong", milliseconds(time.monotonic() - killed_at))
        claim_standing(stage.claims, before, after)
        await claim_promise(stage, promise)
        async with asyncio.timeout(40):
            await bursting
    finally:
        await stopped(bursting)
    await claim_burst(stage, burst, promise)


async def standing(stage: Stage) -> Standing:
    """How the services stand now."""
    instances = await stage.listed(*SERVICES)
    return Standing(instances, {key: (await stage.client.history(*key)).count for key in instances})


def promised(burst: Burst, client: Client) -> Promise:
    """What the controller has promised so far."""
    written = dict(burst.acknowledged)
    tokens = [client.token, *(f"{one.partition}:{one.position}" for one in written.values())]
    return Promise(written, tokens, len(burst.begun) - len(written))


async def restart(stage: Stage, orders: Orders) -> None:
    """Start the controller again; orders goes on meanwhile."""
    served = orders.served
    seconds = await stage.cluster.start_controller()
    served = orders.served - served
    stage.claims.figure("controller restart: start → ready", milliseconds(seconds))
    stage.claims.claim(
        "orders went on while no controller ran", served > 0, f"{served} served in {milliseconds(seconds)}"
    )


def claim_standing(claims: Claims, before: Standing, after: Standing) -> None:
    """Nothing of the services has changed."""
    found = differences(before.instances, after.instances)
    claims.claim("all services stand as before, field by field; nothing flipped", not found, some(found))
    events = sum(after.events.values())
    claims.claim("every history is as long as before", after.events == before.events, f"{events} events")


async def claim_promise(stage: Stage, promise: Promise) -> None:
    """Every acknowledged registration is there, and every token is covered."""
    page = await stage.client.instances("burst", consistency="strong")
    kept = {row.instance: (row.incarnation, row.version) for row in page.items}
    lost = [name for name, one in promise.written.items() if kept.get(name) != (one.incarnation, one.version)]
    stage.claims.claim(
        "every acknowledged registration is there", not lost, f"{len(promise.written)} acknowledged{some(lost)}"
    )
    stage.claims.claim(
        "the tokens of before the kill are covered",
        all(covers(page.token, token) for token in promise.tokens),
        f"up to {promise.tokens[-1]}, now {page.token}",
    )


async def claim_burst(stage: Stage, burst: Burst, promise: Promise) -> None:
    """The registrations on their way were given again, with the same command ids, and count once."""
    registered = [
        event.data["instance"]
        for event in await all_events(stage.client)
        if event.stream == "service/burst" and event.type == "muster.instance.registered.v1"
    ]
    stage.claims.claim(
        "those in flight were repeated with their command ids, and each is recorded once",
        len(registered) == len(set(registered)) == BURST_INSTANCES == len(burst.acknowledged),
        f"{len(registered)} recorded, {promise.in_flight} of them in flight at the kill",
    )
