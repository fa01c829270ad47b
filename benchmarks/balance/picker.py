"""One pick and its record, of a balancer that holds few instances and of one that holds many, with 50 calls under way.

    python -m benchmarks.balance.picker POLICY PICKS [ZONE]

Nothing is sent, so it is the processor's time alone.
"""

import asyncio
import sys
import time
from datetime import UTC, datetime
from typing import Final, get_args

import orjson

from muster import Balancer, Instance, Snapshot
from muster.wire.registry.traffic import Policy

FEW: Final = 10
MANY: Final = 1_000
UNDER_WAY: Final = 50
REPEATED: Final = 5
ZONES: Final = 3
_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)


def microseconds(policy: Policy, instances: int, picks: int, zone: str = "") -> float:
    """What one pick with its record costs: the best of a few readings, since anything else only adds to it."""
    told = tuple(_instance(number) for number in range(instances))

    async def measured() -> float:
        balancer = Balancer("users", policy=policy, zone=zone)
        # Opened by hand: there is no controller to be asked.
        balancer._loop = asyncio.get_running_loop()
        balancer._picker.fleet.take(Snapshot(told, ""), 0.0)
        _under_way = [balancer.pick() for _ in range(UNDER_WAY)]
        return min(_reading(balancer, picks // REPEATED) for _ in range(REPEATED)) * 1e6

    return asyncio.run(measured())


def _reading(balancer: Balancer, picks: int) -> float:
    began = time.process_time()
    for _ in range(picks):
        balancer.record_request(balancer.pick(), "ok")
    return (time.process_time() - began) / picks


def _instance(number: int) -> Instance:
    return Instance(
        service="users",
        instance=f"users-{number}",
        address="10.0.0.1",
        port=8080,
        zone=f"z{number % ZONES}",
        weight=1 + number % 3,
        health="healthy",
        health_since=_AT,
        discoverable=True,
        incarnation=number,
        version=1,
        registered_at=_AT,
        position=number,
    )


if __name__ == "__main__":
    policy, picks, *zone = sys.argv[1:]
    [asked] = [one for one in get_args(Policy) if one == policy]
    few, many = (microseconds(asked, count, int(picks), *zone) for count in (FEW, MANY))
    sys.stdout.buffer.write(orjson.dumps({"few": few, "many": many}))
