"""The cost of health checks: 10,000 http checks every 10 s against a target in another process.

    python -m benchmarks.load.checks [--instances N] [--seconds S]

Each instance has an address of its own (127.0.0.0/8, which Linux answers as a whole), so that no connection serves two
of them. The figures are those of the checker's process alone; the target and the parent are others.
"""

import argparse
import asyncio
import gc
import multiprocessing
import os
import time
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Final, cast

import uvloop

from benchmarks.process import usage
from domain.registry.instance import Instance
from domain.registry.service import ObserveCheck
from domain.registry.status import CheckStatus
from muster.wire.registry.check import HttpCheck
from muster.wire.registry.spec import Spec
from workers.health.checker import Checker

INTERVAL_SECONDS: Final = 10.0
_SINCE: Final = datetime(2026, 1, 1, tzinfo=UTC)
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


class _Target(asyncio.Protocol):
    """Answers every request with 200 and keeps the connection unless told to close it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast: uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER)
        if b"connection: close" in data.lower():
            self._transport.close()


async def _serve(ready: Connection) -> None:
    server = await asyncio.get_running_loop().create_server(_Target, "0.0.0.0", 0, backlog=1024)
    ready.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def _instance(number: int, port: int) -> Instance:
    address = f"127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}"
    check = HttpCheck(name="http", url=f"http://{address}:{port}/healthz", interval_seconds=INTERVAL_SECONDS)
    spec = Spec(address=address, port=port, checks=(check,))
    checks = {"http": CheckStatus("healthy", None, _SINCE)}
    return Instance(f"i{number}", "bench", spec, number, number, "healthy", None, _SINCE, checks, _SINCE, number)


async def _check(port: int, instances: int, seconds: float) -> dict[str, float]:
    flips: list[ObserveCheck] = []
    checker = Checker(lambda _, command: flips.append(command), seed=1)
    before_mb = usage(os.getpid()).memory_mb
    for number in range(instances):
        checker.sync("service/bench", f"i{number}", _instance(number, port))
    gc.freeze()
    loop = asyncio.create_task(checker.run())
    # All have had their first run before the measured time begins.
    await asyncio.sleep(INTERVAL_SECONDS + 1)
    done, cpu, started = checker.stats.done, time.process_time(), time.perf_counter()
    late = []
    while time.perf_counter() - started < seconds:
        await asyncio.sleep(min(2.0, seconds))
        late.append(checker.stats.late_p99_seconds)
    cpu, elapsed = time.process_time() - cpu, time.perf_counter() - started
    done = checker.stats.done - done
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    return {
        "core_percent": 100 * cpu / elapsed,
        "checks_per_second": done / elapsed,
        "cpu_us_per_check": cpu / max(done, 1) * 1e6,
        "late_p99_ms": 1000 * max(late),
        "memory_mb": usage(os.getpid()).peak_mb - before_mb,
        "flips": len(flips),
        "unjudged": checker.stats.unjudged,
    }


def _target(ready: Connection) -> None:
    uvloop.run(_serve(ready))


def _checker(result: Connection, port: int, instances: int, seconds: float) -> None:
    result.send(uvloop.run(_check(port, instances, seconds)))


def measure(*, instances: int = 10_000, seconds: float = 20.0) -> dict[str, float]:
    """The checker's figures over `seconds` after a warm-up of 11 s.

    Keys: core_percent (of one core), checks_per_second, cpu_us_per_check, late_p99_ms, memory_mb (beside an empty
    checker), flips and unjudged (both 0 when all went well).
    """
    spawn = multiprocessing.get_context("spawn")
    ready, ready_child = spawn.Pipe()
    target = spawn.Process(target=_target, args=(ready_child,), daemon=True)
    target.start()
    try:
        port = ready.recv()
        result, result_child = spawn.Pipe()
        checker = spawn.Process(target=_checker, args=(result_child, port, instances, seconds), daemon=True)
        checker.start()
        result_child.close()
        figures: dict[str, float] = result.recv()
        checker.join()
        return figures
    finally:
        target.kill()
        target.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    figures = measure(instances=arguments.instances, seconds=arguments.seconds)
    for name, value in figures.items():
        print(f"{name:20} {value:10.2f}")


if __name__ == "__main__":
    main()
