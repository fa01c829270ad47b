"""Heartbeats of many instances in batches, as fast as they are answered, from a process of its own.

    python -m benchmarks.registry.beater HOST PORT PID INSTANCES SECONDS controller|floor

Registers the instances, with a lease and a ttl check each, and beats for all of them again and again over a few connections:
a request has 500 instances in messages of 50, each with its load. `floor`: the same requests to a server that answers anything.
PID is the server's: its share of a core is taken over the seconds that are measured. Prints JSON.
"""

import asyncio
import http.client
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import cycle
from typing import Any, Final

import orjson
import uvloop

from benchmarks.load.http_load import head_end, request
from benchmarks.process import usage

CONNECTIONS: Final = 4
MESSAGE: Final = 50
REQUEST: Final = 500
WARM_SECONDS: Final = 1.0
REGISTERED: Final = 500
_SPEC: Final = {
    "address": "10.0.0.7",
    "port": 8080,
    "lease_seconds": 60.0,
    "checks": [{"kind": "ttl", "name": "alive", "ttl_seconds": 60.0}],
}


class Beater(asyncio.Protocol):
    """One connection, which sends its requests in turn, each when the one before is answered."""

    def __init__(self, requests: Iterator[tuple[bytes, int]], *, judges: bool) -> None:
        self._requests, self._judges = requests, judges
        self._answer = b""
        self.beats = 0
        self.waited: list[float] = []
        self.wrong: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        body, self._asked = next(self._requests)
        self._sent_at = time.perf_counter()
        self._transport.write(body)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        answer = self._answer = self._answer + data
        head = head_end(answer)
        if head < 0:
            return
        self._answer = b""
        if answer[9:12] != b"200" or (self._judges and b'"renewed":%d,' % self._asked not in answer):
            self.wrong = answer[head + 4 : head + 300].decode()
        self.waited.append(time.perf_counter() - self._sent_at)
        self.beats += self._asked
        self._send()


def registered(host: str, port: int, instances: int) -> list[int]:
    """Register the instances, and return their incarnations."""
    connection, found = http.client.HTTPConnection(host, port, timeout=60), []
    for first in range(0, instances, REGISTERED):
        numbers = range(first, min(first + REGISTERED, instances))
        commands = [
            {
                "id": f"register-{number}",
                "type": "muster.instance.register.v1",
                "stream": "service/orders",
                "data": {"instance": f"orders-{number}", "spec": _SPEC},
            }
            for number in numbers
        ]
        connection.request(
            "POST", "/v1/commands", orjson.dumps({"commands": commands}), {"Content-Type": "application/json"}
        )
        found += [item["incarnation"] for item in orjson.loads(connection.getresponse().read())["items"]]
    return found


def requests(incarnations: Sequence[int]) -> list[tuple[bytes, int]]:
    """The requests for all instances, and how many each is about."""
    items = [[f"orders-{number}", told, 12, 310.5, 0.5, 0.61] for number, told in enumerate(incarnations)]
    found = []
    for first in range(0, len(items), REQUEST):
        some = items[first : first + REQUEST]
        beats = [
            {"agent": "host-7", "service": "orders", "items": some[at : at + MESSAGE]}
            for at in range(0, len(some), MESSAGE)
        ]
        found.append((request("POST", "/v1/heartbeats", {"beats": beats}), len(some)))
    return found


async def run(host: str, port: int, pid: int, instances: int, seconds: float, *, real: bool) -> dict[str, Any]:
    """Beat for so many seconds."""
    made = requests(registered(host, port, instances) if real else range(instances))
    loop = asyncio.get_running_loop()
    beaters = [
        (await loop.create_connection(partial(Beater, cycle(made[at::CONNECTIONS] or made), judges=real), host, port))[
            1
        ]
        for at in range(CONNECTIONS)
    ]
    await asyncio.sleep(WARM_SECONDS)
    for beater in beaters:
        beater.beats, beater.waited = 0, []
    began, own, used = time.perf_counter(), time.process_time(), usage(pid).cpu_seconds
    await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    used, own = usage(pid).cpu_seconds - used, time.process_time() - own
    if wrong := [beater.wrong for beater in beaters if beater.wrong is not None]:
        raise RuntimeError(f"heartbeats were refused: {wrong[0]}")
    beats = sum(beater.beats for beater in beaters)
    waited = sorted(one for beater in beaters for one in beater.waited)
    return {
        "beats_per_second": beats / took,
        "p99_ms": waited[int(len(waited) * 0.99)] * 1e3,
        "controller_us": used / beats * 1e6,
        "controller_core_percent": used / took * 100,
        "generator_core_percent": own / took * 100,
    }


if __name__ == "__main__":
    _, at_host, at_port, *numbers, what = sys.argv
    server, in_all = map(int, numbers[:2])
    told = run(at_host, int(at_port), server, in_all, float(numbers[2]), real=what == "controller")
    print(orjson.dumps(uvloop.run(told)).decode())
