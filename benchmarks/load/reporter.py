"""Reports of health in a process of their own, at a steady pace, whether or not the earlier ones are answered.

    python -m benchmarks.load.reporter HOST PORT SERVICE INSTANCES FLIPS PER_SECOND

Each report flips an instance, one after the other; its cause is when it was sent: `at <monotonic nanoseconds>`. Prints JSON:
the median time until a report was acknowledged, how far behind its own pace it ever was, and its share of a core.
"""

import asyncio
import sys
import time
from collections import Counter, deque
from statistics import median
from typing import Final

import orjson
import uvloop

from benchmarks.load.http_load import request

CONNECTIONS: Final = 32
LATE_SECONDS: Final = 0.001


class Connection(asyncio.Protocol):
    """One connection; back in the pool when its request is answered."""

    def __init__(self, pool: "deque[Connection]", statuses: Counter[str], waited: list[float]) -> None:
        self.pool, self.statuses, self.waited, self.sent_at = pool, statuses, waited, 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.pool.append(self)

    def data_received(self, data: bytes) -> None:
        # Answers to writes are small: they come whole, or their head does.
        if data.startswith(b"HTTP/1.1 "):
            self.statuses[data[9:12].decode()] += 1
            self.waited.append(time.monotonic() - self.sent_at)
            self.pool.append(self)

    def send(self, data: bytes) -> None:
        self.sent_at = time.monotonic()
        self.transport.write(data)  # type: ignore[attr-defined]


async def run(host: str, port: int, service: str, instances: int, flips: int, per_second: float) -> dict[str, object]:
    """Send all reports."""
    pool: deque[Connection] = deque()
    statuses: Counter[str] = Counter()
    waited: list[float] = []
    loop = asyncio.get_running_loop()
    for _ in range(CONNECTIONS):
        await loop.create_connection(lambda: Connection(pool, statuses, waited), host, port)
    cpu, began, latest = time.process_time(), time.monotonic(), 0.0
    for flip in range(flips):
        due = began + flip / per_second
        while (wait := due - time.monotonic()) > 0 or not pool:  # noqa: ASYNC110 a pace, no event
            await asyncio.sleep(max(wait, LATE_SECONDS / 10))
        latest = max(latest, -wait)
        round_, instance = divmod(flip, instances)
        body = {"status": "healthy" if round_ % 2 else "unhealthy", "cause": f"at {time.monotonic_ns()}"}
        pool.popleft().send(request("PUT", f"/v1/services/{service}/instances/i{instance}/health", body))
    seconds = time.monotonic() - began
    while len(pool) < CONNECTIONS:  # noqa: ASYNC110 once, at the end
        await asyncio.sleep(0.01)
    return {
        "statuses": dict(statuses),
        "acknowledged_ms": median(waited) * 1e3,
        "latest_ms": latest * 1e3,
        "per_second": flips / seconds,
        "generator_core_percent": (time.process_time() - cpu) / seconds * 100,
    }


if __name__ == "__main__":
    _, to_host, to_port, of_service, *numbers = sys.argv
    told = uvloop.run(run(to_host, int(to_port), of_service, int(numbers[0]), int(numbers[1]), float(numbers[2])))
    print(orjson.dumps(told).decode())
