"""Calls through a client as it is and through the same client with a balancer, in turns: bursts of few calls, in one process.

    python -m benchmarks.balance.load.hooked KIND CONTROLLER SERVICE BURSTS CALLS ADDRESS...

KIND is aiohttp, httpx or grpc; the addresses are those of the service's instances, which the bare client takes in turn. One call
is under way at a time, on asyncio's own loop, which is what most callers have. Prints JSON: of each pair of bursts how many times
as long the median call took, and how many times as much processor time of this process; and the medians themselves.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import cycle
from statistics import median
from typing import Final, NamedTuple

import aiohttp
import grpc
import httpx
import orjson

from muster import BalancedChannel, BalancedTransport, Balancer, balanced
from muster.wire.rpc import node_pb2, node_pb2_grpc

WARM_BURSTS: Final = 4
Call = Callable[[], Awaitable[None]]


class Burst(NamedTuple):
    """What one call took: the median time, and processor time."""

    p50: float
    cpu: float


async def of_aiohttp(users: Balancer, addresses: list[str], stack: AsyncExitStack) -> tuple[Call, Call]:
    """A session, and one with the middleware."""
    bare = await stack.enter_async_context(aiohttp.ClientSession())
    hooked = await stack.enter_async_context(aiohttp.ClientSession(middlewares=(balanced(users),)))
    urls, url = cycle(f"http://{address}/users/1" for address in addresses), f"http://{users.service}/users/1"

    async def get(session: aiohttp.ClientSession, where: str) -> None:
        async with session.get(where) as answer:
            assert answer.status == 200
            await answer.read()

    return lambda: get(bare, next(urls)), lambda: get(hooked, url)


async def of_httpx(users: Balancer, addresses: list[str], stack: AsyncExitStack) -> tuple[Call, Call]:
    """A client, and one with the transport."""
    bare = await stack.enter_async_context(httpx.AsyncClient())
    mounts = {"muster://": BalancedTransport(users)}
    hooked = await stack.enter_async_context(httpx.AsyncClient(mounts=mounts))
    urls, url = cycle(f"http://{address}/users/1" for address in addresses), f"muster://{users.service}/users/1"

    async def get(client: httpx.AsyncClient, where: str) -> None:
        assert (await client.get(where)).status_code == 200

    return lambda: get(bare, next(urls)), lambda: get(hooked, url)


async def of_grpc(users: Balancer, addresses: list[str], stack: AsyncExitStack) -> tuple[Call, Call]:
    """Generated stubs over channels, and one over the balanced channel."""
    bare = cycle([await _stub(stack, grpc.aio.insecure_channel(address)) for address in addresses])
    hooked = await _stub(stack, BalancedChannel(users))
    request = node_pb2.GetRequest(key="user-1")

    async def get(stub: node_pb2_grpc.ShardNodeStub) -> None:
        assert (await stub.Get(request)).found

    return lambda: get(next(bare)), lambda: get(hooked)


async def _stub(stack: AsyncExitStack, channel: grpc.aio.Channel) -> node_pb2_grpc.ShardNodeStub:
    return node_pb2_grpc.ShardNodeStub(await stack.enter_async_context(channel))  # type: ignore[no-untyped-call]


KINDS: Final = {"aiohttp": of_aiohttp, "httpx": of_httpx, "grpc": of_grpc}


async def burst(call: Call, calls: int) -> Burst:
    """So many calls, one after the other."""
    taken, cpu = list[float](), time.process_time()
    for _ in range(calls):
        began = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - began)
    return Burst(median(taken), (time.process_time() - cpu) / calls)


async def run(kind: str, controller: str, service: str, bursts: int, calls: int, addresses: list[str]) -> object:
    """All bursts, bare and balanced in turns."""
    async with AsyncExitStack() as stack:
        users = await stack.enter_async_context(Balancer(service, controller))
        bare, hooked = await KINDS[kind](users, addresses, stack)
        pairs = list[tuple[Burst, Burst]]()
        for number in range(WARM_BURSTS + bursts):
            # Who comes first takes turns too: the second one finds the caches as the first has left them.
            if number % 2:
                after, before = await burst(hooked, calls), await burst(bare, calls)
            else:
                before, after = await burst(bare, calls), await burst(hooked, calls)
            pairs.append((before, after))
        del pairs[:WARM_BURSTS]
    return {
        "p50_times": median(after.p50 / before.p50 for before, after in pairs),
        "cpu_times": median(after.cpu / before.cpu for before, after in pairs),
        "bare_p50_us": median(before.p50 for before, _ in pairs) * 1e6,
        "hooked_p50_us": median(after.p50 for _, after in pairs) * 1e6,
        "bare_cpu_us": median(before.cpu for before, _ in pairs) * 1e6,
        "hooked_cpu_us": median(after.cpu for _, after in pairs) * 1e6,
    }


if __name__ == "__main__":
    _, of_kind, of_controller, of_service, *sizes = sys.argv
    told = asyncio.run(run(of_kind, of_controller, of_service, int(sizes[0]), int(sizes[1]), sizes[2:]))
    sys.stdout.buffer.write(orjson.dumps(told))
