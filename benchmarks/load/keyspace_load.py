"""Clients of a keyspace, in a process of their own.

    python -m benchmarks.load.keyspace_load AT KIND OPERATIONS KEYS

AT: `URL#KEYSPACE` for what `muster.Keyspace` does, `HOST:PORT` for bare gRPC with the same messages. KIND: `put` or `get`,
64 calls in flight; `puts` or `gets`, batches of 1,000, 4 in flight. Operations go round the keys; each is checked.
Prints JSON: operations per second, a call's latency in milliseconds, retries, and the process's share of a core.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import orjson
import uvloop

from benchmarks.data import key, value
from muster.keyspace.keyspace import Keyspace
from muster.keyspace.operation import Applied, Get, Put
from muster.wire.rpc import node_pb2, node_pb2_grpc

IN_FLIGHT: Final = 64
BATCH_OPERATIONS: Final = 1_000
BATCHES_IN_FLIGHT: Final = 4
MESSAGE_OPERATIONS: Final = 500

Call = Callable[[range], Awaitable[None]]
"""Does the operations with these numbers."""


class Wrong(Exception):
    """An answer was not what it should be."""


@asynccontextmanager
async def through_muster(url: str, keyspace: str, retries: dict[str, int]) -> AsyncIterator[dict[str, Call]]:
    """What each kind is through `muster.Keyspace`."""
    async with Keyspace(keyspace, url) as users:

        async def put(numbers: range) -> None:
            await users.put(key(numbers[0]), value(numbers[0]))

        async def get(numbers: range) -> None:
            _check(await users.get(key(numbers[0])) == value(numbers[0]))

        async def puts(numbers: range) -> None:
            results = await users.batch([Put(key(number), value(number)) for number in numbers])
            _check(all(isinstance(result, Applied) for result in results))

        async def gets(numbers: range) -> None:
            results = await users.batch([Get(key(number)) for number in numbers])
            _check(results == [value(number) for number in numbers])

        yield {"put": put, "get": get, "puts": puts, "gets": gets}
        retries.update(users.statistics.retries)


@asynccontextmanager
async def bare(address: str) -> AsyncIterator[dict[str, Call]]:
    """What each kind is over gRPC alone: the same messages, and as many of them."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = node_pb2_grpc.ShardNodeStub(channel)  # type: ignore[no-untyped-call]

        async def put(numbers: range) -> None:
            _check((await stub.Put(_put(numbers[0]))).position > 0)

        async def get(numbers: range) -> None:
            _check((await stub.Get(_get(numbers[0]))).found)

        async def streamed(operations: list[node_pb2.Operation]) -> None:
            starts = range(0, len(operations), MESSAGE_OPERATIONS)
            messages = [node_pb2.Operations(operations=operations[at : at + MESSAGE_OPERATIONS]) for at in starts]
            answered = 0
            async for message in stub.Batch(iter(messages)):
                answered += len(message.results)
            _check(answered == len(operations))

        async def puts(numbers: range) -> None:
            await streamed([node_pb2.Operation(put=_put(number)) for number in numbers])

        async def gets(numbers: range) -> None:
            await streamed([node_pb2.Operation(get=_get(number)) for number in numbers])

        yield {"put": put, "get": get, "puts": puts, "gets": gets}


def _put(number: int) -> node_pb2.PutRequest:
    shard = node_pb2.Shard(keyspace="users", number=7)
    return node_pb2.PutRequest(shard=shard, epoch=1, key=key(number), value=value(number), write_id=f"{number:032x}")


def _get(number: int) -> node_pb2.GetRequest:
    return node_pb2.GetRequest(shard=node_pb2.Shard(keyspace="users", number=7), epoch=1, key=key(number))


def _check(right: bool) -> None:
    if not right:
        raise Wrong("an answer was not what it should be")


async def run(at: str, kind: str, operations: int, keys: int) -> dict[str, object]:
    """Do this many operations."""
    retries: dict[str, int] = {}
    url, _, keyspace = at.partition("#")
    async with through_muster(url, keyspace, retries) if keyspace else bare(at) as calls:
        each, in_flight = (1, IN_FLIGHT) if kind in ("put", "get") else (BATCH_OPERATIONS, BATCHES_IN_FLIGHT)
        await calls[kind](range(1))  # The first call also connects.
        return {**await closed_loop(calls[kind], operations, keys, each, in_flight), "retries": sum(retries.values())}


async def closed_loop(call: Call, operations: int, keys: int, each: int, in_flight: int) -> dict[str, Any]:
    """Clients, each of which makes its next call when the last one is answered; `each` operations a call."""
    numbers = (range(at % keys, min(at % keys + each, keys)) for at in range(0, operations, each))
    latencies: list[float] = []
    done = 0

    async def client() -> None:
        nonlocal done
        for some in numbers:
            began = time.perf_counter()
            await call(some)
            latencies.append(time.perf_counter() - began)
            done += len(some)

    cpu, began = time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as clients:
        for _ in range(in_flight):
            clients.create_task(client())
    seconds = time.perf_counter() - began
    latencies.sort()
    return {
        "operations": done,
        "seconds": seconds,
        "per_second": done / seconds,
        "p50_ms": latencies[len(latencies) // 2] * 1e3,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1e3,
        "generator_core_percent": (time.process_time() - cpu) / seconds * 100,
    }


if __name__ == "__main__":
    _, where, what, how_many, of_keys = sys.argv
    print(orjson.dumps(uvloop.run(run(where, what, int(how_many), int(of_keys)))).decode())
