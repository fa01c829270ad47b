"""Commands through Kafka from a process of their own, to their outcomes: what `muster.KafkaCommands` does.

    python -m benchmarks.load.publisher BOOTSTRAP PREFIX INSTANCES FIRST KIND

KIND: `register` or `health`. Prints JSON: commands per second, their statuses, the publisher's share of a core.
"""

import sys
import time
from collections import Counter

import orjson
import uvloop
from pydantic import TypeAdapter

from benchmarks.data import REPORTS, service, spec
from domain.registry.service import RegisterInstance, ReportHealth
from muster.kafka_commands import KafkaCommands
from muster.wire.command import Command, Envelope
from muster.wire.registry.spec import Spec


def commands(count: int, first: int, kind: str) -> list[Envelope]:
    """Commands for the given number of instances, from `first` on: registrations, or rounds of health reports."""
    specs = TypeAdapter(Spec)
    if kind == "register":
        given: list[tuple[int, int, Command]] = [
            (0, number, RegisterInstance(instance=f"i{number}", spec=specs.validate_python(spec(number))))
            for number in range(first, first + count)
        ]
    else:
        given = [
            (turn, number, ReportHealth(instance=f"i{number}", status=status, cause="bench"))
            for turn, status in enumerate(REPORTS)
            for number in range(first, first + count)
        ]
    return [
        Envelope(f"{kind}-{number}-{turn}", f"service/{service(number)}", command, "bench")
        for turn, number, command in given
    ]


async def run(bootstrap: str, prefix: str, envelopes: list[Envelope]) -> dict[str, object]:
    """Publish all, and hear all outcomes."""
    async with KafkaCommands(bootstrap, prefix, timeout_seconds=30.0) as publisher:
        cpu, began = time.process_time(), time.perf_counter()
        outcomes = await publisher.execute_many(envelopes)
        seconds = time.perf_counter() - began
    return {
        "per_second": len(outcomes) / seconds,
        "seconds": seconds,
        "statuses": dict(Counter(outcome.status for outcome in outcomes)),
        "generator_core_percent": (time.process_time() - cpu) / seconds * 100,
    }


if __name__ == "__main__":
    _, to_bootstrap, to_prefix, how_many, first_number, what = sys.argv
    given = commands(int(how_many), int(first_number), what)
    print(orjson.dumps(uvloop.run(run(to_bootstrap, to_prefix, given))).decode())
