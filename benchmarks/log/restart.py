"""From the spawn of a controller's process to the first answered read: after SIGKILL, and from a very long log.

The read lists one service of a hundred, and must find every instance of it. (Discovery would offer none of them yet: the
data set's checks have never run.)
"""

import asyncio
from collections.abc import Iterator
from statistics import median
from typing import Final

import orjson

from benchmarks.bench import EMBEDDED, Bench, Place, delete_topics
from benchmarks.controller import Controller
from benchmarks.data import SERVICES, service
from benchmarks.pace import PACE
from benchmarks.registry.http import populate
from benchmarks.table import Row, at_most
from infra.kafka.topic import SNAPSHOTS
from infra.sqlite.folder import SNAPSHOT_FILE

EVENTS: Final = 1_000_000
REGISTRATIONS: Final = 100_000
_READ: Final = f"/v1/services/{service(1)}/instances"


def run(bench: Bench) -> Iterator[Row]:
    """10,000 instances, SIGKILL, start again."""
    instances = bench.size(10_000)
    for engine in bench.engines:
        taken, sizes, empty = [], [], _empty(bench, engine)
        for _ in range(bench.runs):
            with bench.place(engine) as place:
                with place.controller() as controller:
                    controller.wait_until_reigning()
                    populate(controller, instances)
                    controller.kill()
                seconds, memory = _started(place, instances)
            taken.append(seconds)
            sizes.append(memory)
        yield Row(
            "restart",
            f"restart with {instances:,} instances after SIGKILL, to the first read",
            engine,
            "from spawn",
            "s",
            taken,
            at_most(1.5),
            empty,
            "the same with an empty log",
            {"controller MB": median(sizes)},
        )


def _empty(bench: Bench, engine: str) -> float:
    """Seconds until a controller without a single event answers a read."""
    with bench.place(engine) as place:
        with place.controller() as controller:
            controller.wait_until_reigning()
        with place.controller() as controller:
            return controller.wait_for("/v1/services")


def _started(place: Place, instances: int, *, stopped: bool = False) -> tuple[float, float]:
    """Seconds to the first read, and the memory then in MB. Killed then, or `stopped` in order."""
    PACE.wait()
    with place.controller() as controller:
        seconds = controller.wait_for(_READ)
        found = len(orjson.loads(controller.ask("GET", _READ)[1])["items"])
        if found != len(range(1, instances, SERVICES)):
            raise RuntimeError(f"only {found} instances of {service(1)} are left")
        memory = controller.usage.memory_mb
        if stopped:
            _stop(controller)
        return seconds, memory


def _stop(controller: Controller) -> None:
    controller.wait_until_reigning()
    controller.stop()


def run_cold(bench: Bench) -> Iterator[Row]:
    """A log of 1,000,000 events, 10 % of them registrations; without a snapshot, then with one."""
    registrations = bench.size(REGISTRATIONS)
    flips = bench.size(EVENTS - REGISTRATIONS)
    for engine in bench.engines:
        place = bench.written(engine, registrations, flips)
        cold = []
        for _ in range(bench.runs):
            _forget_snapshots(place)
            cold.append(_started(place, registrations))
        # An orderly stop leaves a snapshot of the end of the log.
        _started(place, registrations, stopped=True)
        warm = [_started(place, registrations) for _ in range(bench.runs)]
        for figure, target, results in (("without snapshots", 18, cold), ("with snapshots", 3, warm)):
            yield Row(
                "cold_start",
                f"cold start with {registrations + flips:,} events, to the first read",
                engine,
                figure,
                "s",
                [seconds for seconds, _ in results],
                at_most(target),
                notes={"controller MB": median(memory for _, memory in results)},
            )


def _forget_snapshots(place: Place) -> None:
    if place.engine == EMBEDDED:
        for file in place.data.glob(f"{SNAPSHOT_FILE}*"):
            file.unlink()
    else:
        asyncio.run(delete_topics(place, [SNAPSHOTS]))
