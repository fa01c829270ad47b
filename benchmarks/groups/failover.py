"""A primary's command is killed: how soon the promote hook of the other member starts."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.bench import Bench
from benchmarks.floors import parts
from benchmarks.groups.fleet import GroupFleet, group_fleet
from benchmarks.table import Row, at_most

_GROUPS: Final = 6
"""Kills go from group to group: what ends again and again within seconds of its promotion makes its member rest."""

_KILLS: Final = 40


def run(bench: Bench) -> Iterator[Row]:
    """SIGKILL of the command, whose runner lives and sees its end."""
    for engine in bench.engines:
        runs, used, floors = [], [], []
        for _ in range(bench.runs):
            with bench.fresh(engine) as controller, group_fleet(bench, controller) as there:
                runs.append(_killed(there, bench.size(_KILLS)))
                used.append(controller.usage.memory_mb)
                # Beside the runners, which live on: what they cost while nothing happens is no part of a failover.
                floors.append(parts.measured(bench, controller))
        floor = sorted(floors, key=lambda one: one.ms)[len(floors) // 2]
        title = f"a group's command is killed → the other's promote hook starts, {bench.size(_KILLS)} kills"
        told = (floor.ms, str(floor))
        p50 = [quantile(taken, 0.5) for taken in runs]
        yield Row("group_failover", title, engine, "p50", "ms", p50, at_most(60), *told, {"controller MB": max(used)})
        p99 = [quantile(taken, 0.99) for taken in runs]
        yield Row("group_failover", title, engine, "p99", "ms", p99, at_most(250), *told)
        shares = [one / own.ms for one, own in zip(p50, floors, strict=True)]
        yield Row("group_failover", title, engine, "p50 of the sum of its parts", "×", shares, at_most(3), 1.0)


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them is."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def _killed(there: GroupFleet, kills: int) -> list[float]:
    """Kill so many commands, one after the other; the milliseconds that each took."""
    groups = [f"g{number}" for number in range(min(_GROUPS, kills // 4))]
    for group in groups:
        there.create(group)
    return [_failed_over(there, groups[number % len(groups)]) for number in range(kills)]


def _failed_over(there: GroupFleet, group: str) -> float:
    primary, lines = there.settled(group), there.lines[group]
    killed_at = time.monotonic()
    os.kill(primary.pid, signal.SIGKILL)
    promoted = lines.next("promote", primary.epoch + 1)
    if promoted.member == primary.member:
        raise RuntimeError(f"{primary} was killed, and then {promoted}")
    return (promoted.at - killed_at) * 1e3
