"""Puts to etcd over gRPC, and a watcher of them, in a process of its own. The messages are written by hand: a client that
only measures.

    python -m benchmarks.load.etcd PORT put|watch CONNECTIONS COUNT [START_SECONDS_MAX]

It waits until etcd answers. Prints JSON: puts per second and latency in milliseconds (`watch`: from before the put is sent
until the watcher has read of it).
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from typing import Final

import grpc
import grpc.aio
import orjson
import uvloop

from benchmarks.data import spec

_EVENTS: Final = b"\x5a"
"""The tag of `events` in etcd's WatchResponse."""


def field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message that has a length, which is below 16,384."""
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
    return bytes([number << 3 | 2]) + length + content


def put(number: int) -> bytes:
    """A PutRequest: an instance of the data set under its key."""
    return field(1, b"instances/i%d" % number) + field(2, orjson.dumps(spec(number)))


async def puts(port: int, connections: int, count: int, start_seconds: float) -> list[float]:
    """Put values, `connections` at a time; returns the seconds that each took."""
    numbers, seconds = iter(range(count)), list[float]()
    await asyncio.gather(*(_putting(port, numbers, seconds, start_seconds) for _ in range(connections)))
    return seconds


async def _putting(port: int, numbers: Iterator[int], seconds: list[float], start_seconds: float) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await asyncio.wait_for(channel.channel_ready(), start_seconds)
        ask = channel.unary_unary("/etcdserverpb.KV/Put")
        for number in numbers:
            began = time.perf_counter()
            await ask(put(number))
            seconds.append(time.perf_counter() - began)


async def watched(port: int, count: int) -> list[float]:
    """Put values one after another; returns the seconds until a watcher on a connection of its own has read each."""
    address, seconds = f"127.0.0.1:{port}", list[float]()
    async with grpc.aio.insecure_channel(address) as writing, grpc.aio.insecure_channel(address) as watching:
        watcher = watching.stream_stream("/etcdserverpb.Watch/Watch")()
        # Every key from `instances/` up to the next prefix.
        await watcher.write(field(1, field(1, b"instances/") + field(2, b"instances0")))
        await watcher.read()  # that the watch has begun
        ask = writing.unary_unary("/etcdserverpb.KV/Put")
        for number in range(count):
            began = time.perf_counter()
            answered = ask(put(number))
            while _EVENTS not in await watcher.read():
                pass
            seconds.append(time.perf_counter() - began)
            await answered
        watcher.cancel()
    return seconds


def latencies(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    ordered = sorted(seconds)
    return {"p50_ms": ordered[len(ordered) // 2] * 1e3, "p99_ms": ordered[len(ordered) * 99 // 100] * 1e3}


async def main(port: int, what: str, connections: int, count: int, start_seconds: float = 10.0) -> None:
    """Measure, and print."""
    began = time.perf_counter()
    seconds = await (puts(port, connections, count, start_seconds) if what == "put" else watched(port, count))
    took = time.perf_counter() - began
    figures = {"per_second": count / took, **latencies(seconds)}
    sys.stdout.buffer.write(orjson.dumps(figures))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *map(float, sys.argv[5:])))
