"""A load generator for HTTP/1.1: `connections` clients, each with one request under way, in a process of its own.

    python -m benchmarks.load.http_load HOST PORT CONNECTIONS < requests

The requests come on standard input, length-prefixed; the result goes to standard output as JSON: requests per second,
latency in milliseconds (p50, p99, longest), statuses, and the generator's own share of a core.
"""

import asyncio
import resource
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator

import orjson
import uvloop


class Client(asyncio.Protocol):
    """One connection: sends the next request as soon as the last one is answered."""

    def __init__(self, requests: Iterator[bytes], latencies: list[float], statuses: Counter[str]) -> None:
        self.requests, self.latencies, self.statuses = requests, latencies, statuses
        self.done = asyncio.get_running_loop().create_future()
        self.buffer = b""
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        request = next(self.requests, None)
        if request is None:
            self.transport.close()
            return
        self.sent_at = time.perf_counter()
        self.transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer = self.buffer + data if self.buffer else data
        if head_end(buffer) < 0:
            return
        self.latencies.append(time.perf_counter() - self.sent_at)
        self.statuses[buffer[9:12].decode()] += 1
        self.buffer = b""
        self.send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def run(host: str, port: int, connections: int, requests: list[bytes]) -> dict[str, object]:
    """Send all requests over this many connections."""
    iterator, latencies, statuses = iter(requests), [], Counter()
    loop = asyncio.get_running_loop()
    cpu, began = time.process_time(), time.perf_counter()
    clients = [
        (await loop.create_connection(lambda: Client(iterator, latencies, statuses), host, port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.done for client in clients))
    seconds = time.perf_counter() - began
    latencies.sort()
    return {
        "requests": len(latencies),
        "per_second": len(latencies) / seconds,
        "p50_ms": latencies[len(latencies) // 2] * 1e3,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1e3,
        "max_ms": latencies[-1] * 1e3,
        "statuses": dict(statuses),
        "generator_core_percent": (time.process_time() - cpu) / seconds * 100,
        "generator_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def packed(requests: list[bytes]) -> bytes:
    """The requests as `load` reads them."""
    return b"".join(struct.pack(">I", len(request)) + request for request in requests)


def unpacked(data: bytes) -> list[bytes]:
    """The inverse of `packed`."""
    requests, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        requests.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return requests


def head_end(answer: bytes) -> int:
    """Where the head of an HTTP/1.1 answer ends, its blank line not included; -1 until the whole answer is there."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return -1
    at = answer.find(b"content-length: ", 0, end)
    length = int(answer[at + 16 : answer.index(b"\r\n", at)])
    return end if len(answer) >= end + 4 + length else -1


def request(method: str, path: str, body: object = None, **headers: str) -> bytes:
    """One HTTP/1.1 request as bytes."""
    content = b"" if body is None else body if isinstance(body, bytes) else orjson.dumps(body)
    lines = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(content)}"]
    lines += ["content-type: application/json"] if content else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


if __name__ == "__main__":
    given = unpacked(sys.stdin.buffer.read())
    print(orjson.dumps(uvloop.run(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), given))).decode())
