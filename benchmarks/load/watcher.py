"""Watchers in a process of their own: lean readers of server-sent events.

    python -m benchmarks.load.watcher HOST PORT SERVICE WATCHERS FLIPS

Prints `ready` once every watcher has the whole snapshot, then JSON once each has seen FLIPS flips: how long after the
report each flip arrived (`p50_ms`, `p99_ms`), the same for the last watcher of each flip (`last_ms`), and the bytes that all
of them together were sent per flip. A flip's cause says when it was reported: `at <monotonic nanoseconds>`, a clock that all
processes of the machine share.
"""

import asyncio
import re
import sys
import time
from statistics import median
from typing import Final

import orjson
import uvloop

SILENT_SECONDS_MAX: Final = 30.0
_SENT_AT: Final = re.compile(rb'"cause":"at (\d+)"')
_SNAPSHOT_END: Final = b'],"token":"'


class Watcher(asyncio.Protocol):
    """One connection."""

    def __init__(self, service: str, flips: int) -> None:
        loop = asyncio.get_running_loop()
        self.ready, self.done = loop.create_future(), loop.create_future()
        self.seen: dict[int, float] = {}
        self.bytes = 0
        self._service, self._flips = service, flips
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        request = (
            f"GET /v1/watch?service={self._service} HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n"
        )
        transport.write(request.encode())  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if not self.ready.done():
            if _SNAPSHOT_END in self._rest + data:
                self.ready.set_result(None)
            self._rest = data[-len(_SNAPSHOT_END) :]
            return
        self.bytes += len(data)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if line.startswith(b"data: "):
                for sent in _SENT_AT.findall(line):
                    self.seen.setdefault(int(sent), (now - int(sent)) / 1e6)
        if len(self.seen) >= self._flips and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        for future in (self.ready, self.done):
            if not future.done():
                future.set_exception(ConnectionError(f"the stream ended: {error}"))


async def run(host: str, port: int, service: str, watchers: int, flips: int) -> dict[str, float]:
    """Watch until all flips have arrived everywhere."""
    loop = asyncio.get_running_loop()
    watching = [(await loop.create_connection(lambda: Watcher(service, flips), host, port))[1] for _ in range(watchers)]
    await asyncio.gather(*(watcher.ready for watcher in watching))
    print("ready", flush=True)
    cpu, began = time.process_time(), time.perf_counter()
    async with asyncio.timeout(SILENT_SECONDS_MAX):
        await asyncio.gather(*(watcher.done for watcher in watching))
    seconds = time.perf_counter() - began
    latencies = sorted(latency for watcher in watching for latency in watcher.seen.values())
    last = [max(watcher.seen[sent] for watcher in watching) for sent in watching[0].seen]
    return {
        "p50_ms": latencies[len(latencies) // 2],
        "p99_ms": latencies[int(len(latencies) * 0.99)],
        "last_ms": median(last),
        "bytes_per_flip": sum(watcher.bytes for watcher in watching) / flips,
        "watcher_core_percent": (time.process_time() - cpu) / seconds * 100,
        "seconds": seconds,
    }


if __name__ == "__main__":
    told = uvloop.run(run(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
    print(orjson.dumps(told).decode())
