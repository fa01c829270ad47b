"""Very many sagas under way, SIGKILL of the controller, start: until all of them go on.

Half of them wait for a participant that says nothing, half for slots that the first half holds. They all go on when the
tasks of the first half have been offered again, and when, after answers to some of them, as many of the others have tasks.
"""

import time
from collections.abc import Iterator
from statistics import median
from typing import Any, Final

from benchmarks.bench import Bench, Place, middle
from benchmarks.controller import Controller
from benchmarks.shards.fleet import Fleet
from benchmarks.shards.watchers import KEYSPACES, Troupe, limit_moves, move_all, troupe
from benchmarks.table import Row, at_most

_SAGAS: Final = 10_000
_SAMPLE: Final = 100


def run(bench: Bench) -> Iterator[Row]:
    """10,000 live migrations, 5,000 of which hold slots."""
    shards = max(2, bench.size(_SAGAS) // KEYSPACES)
    for engine in bench.engines:
        results = []
        for _ in range(bench.runs):
            with bench.place(engine) as place:
                results.append(_killed(bench, place, shards))
        yield Row(
            "live_sagas",
            f"{shards * KEYSPACES:,} live sagas, SIGKILL of the controller",
            engine,
            "all go on",
            "s",
            [result["all_seconds"] for result in results],
            at_most(10),
            _empty(bench, engine),
            "from the start of a controller with an empty log to a read",
            {
                "tasks offered again s": middle(results, "offered_seconds"),
                "first read s": middle(results, "read_seconds"),
                "controller cpu s": middle(results, "cpu_seconds"),
                "controller MB": middle(results, "controller_mb"),
                "participants cpu s": middle(results, "participants_cpu_seconds"),
            },
        )


def _killed(bench: Bench, place: Place, shards: int) -> dict[str, float]:
    """Seconds from the kill on."""
    sagas = shards * KEYSPACES
    holding, sample = sagas // 2, min(_SAMPLE, sagas // 4)
    with place.controller() as victim:
        victim.wait_until_reigning()
        there = Fleet(victim)
        limit_moves(there, holding)
        with troupe(bench, there, shards) as participants:
            move_all(there, shards)
            participants.order(f"offered {holding}")
            there.wait(lambda: _standing(there) == (holding, sagas - holding), "every saga to hold slots or wait")
            cpu = participants.usage.cpu_seconds
            victim.kill()
            killed_at = time.monotonic()
            participants.order("forget")
            # The participants look for the controller where it was.
            with place.controller(victim.port) as heir:
                told = _gone_on(heir, participants, holding, sample, killed_at)
                _check(Fleet(heir), sagas, sample)
                return told | {"participants_cpu_seconds": participants.usage.cpu_seconds - cpu}


def _gone_on(heir: Controller, participants: Troupe, holding: int, sample: int, killed_at: float) -> dict[str, float]:
    read_seconds = heir.wait_for("/v1/cluster")
    offered_at = participants.order(f"offered {holding}")["at"]
    participants.order(f"release {sample}")
    all_at = participants.order(f"offered {holding + sample}")["at"]
    return {
        "read_seconds": read_seconds,
        "offered_seconds": offered_at - killed_at,
        "all_seconds": all_at - killed_at,
        "cpu_seconds": heir.usage.cpu_seconds,
        "controller_mb": heir.usage.memory_mb,
    }


def _standing(there: Fleet) -> tuple[int, int]:
    """How many sagas hold slots, and how many wait for some."""
    cluster = there.ask("GET", "/v1/cluster")
    return len(cluster["held"]), len(cluster["waiting"])


def _check(there: Fleet, sagas: int, sample: int) -> None:
    """No saga may have been lost, turned back or blocked."""
    there.wait(lambda: len(_migrations(there, "ended")) == sample, f"the end of {sample} migrations")
    if any(one["phase"] != "completed" for one in _migrations(there, "ended")):
        raise RuntimeError("a saga has turned back")
    if blocked := _migrations(there, "blocked"):
        raise RuntimeError(f"a saga is blocked: {blocked[0]}")
    if sum(_standing(there)) != sagas - sample:
        raise RuntimeError(f"{_standing(there)} sagas hold slots and wait, {sagas - sample} should")


def _migrations(there: Fleet, state: str) -> list[dict[str, Any]]:
    return list(there.ask("GET", f"/v1/migrations?state={state}&limit=1000")["items"])


def _empty(bench: Bench, engine: str) -> float:
    """The median of what a controller with an empty log needs from its spawn to its first answer."""
    taken = []
    for _ in range(bench.runs):
        with bench.place(engine) as place:
            with place.controller() as first:
                first.wait_until_reigning()
            with place.controller() as second:
                taken.append(second.wait_for("/v1/cluster"))
    return median(taken)
