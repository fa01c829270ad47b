"""The PostgreSQL group of `examples/postgres`: its primary is killed while rows are written, until the next one takes a row."""

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.bench import EMBEDDED, Bench
from benchmarks.process import family
from benchmarks.table import Row, at_most
from examples.postgres.cluster import MEMBERS, PostgresGroup, postgres_group
from examples.postgres.run import fail_over
from examples.postgres.server import Server
from examples.postgres.writer import connected

KILLS: Final = 10


@dataclass(slots=True)
class Killed:
    """Seconds to the first row of the next primary: its server was `killed`, or with its runner `lost`; how many acknowledged
    rows are missing; and a promotion and a commit by hand.
    """

    killed: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    rows: int = 0
    missing: int = 0
    by_hand: float = 0.0


def run(bench: Bench) -> Iterator[Row]:
    """10 kills; the group is synchronous, so no acknowledged row may be missing."""
    kills = kills_of(bench)
    found = measured(bench, kills, losses=0)
    title = f"PostgreSQL: the primary's processes are killed → the next one has committed a row, {kills} kills"
    floor = found.by_hand
    told = (floor, "pg_promote of a standby and a commit there, by hand")
    notes = {"rows acknowledged": float(found.rows)}
    yield Row("group_postgres", title, EMBEDDED, "p50", "s", [median(found.killed)], at_most(1.5), *told, notes)
    yield Row("group_postgres", title, EMBEDDED, "longest", "s", [max(found.killed)], None, *told)
    yield Row("group_postgres", title, EMBEDDED, "acknowledged rows lost", "", [float(found.missing)], at_most(0))


def kills_of(bench: Bench) -> int:
    """How many kills, at the scale of the run."""
    return max(1, round(KILLS * min(1.0, bench.scale)))


def measured(bench: Bench, kills: int, losses: int) -> Killed:
    """Kill the primary's PostgreSQL so often, and then everything of the member so often."""
    folder = Path(tempfile.mkdtemp(prefix="group-", dir=bench.folder))
    try:
        return asyncio.run(_measured(folder, kills, losses))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _measured(folder: Path, kills: int, losses: int) -> Killed:
    found = Killed()
    async with postgres_group(folder) as group:
        for _ in range(kills):
            found.killed.append((await fail_over(group))[1])
        for _ in range(losses):
            found.lost.append(await _lost(group))
        found.missing = sum((await group.missing()).values())
        found.rows = len(group.acknowledged)
        found.by_hand = await _promoted_by_hand(group)
    return found


async def _lost(group: PostgresGroup) -> float:
    """SIGKILL of the primary's runner, warden and PostgreSQL at once: nobody has seen the end. Then its runner starts again."""
    row = await group.whole()
    await group.first_after(row.epoch - 1)
    assert row.primary is not None, "nobody leads"
    runner = group.runner_of(row.primary)
    pids, lost_at = list(family(runner)), time.monotonic()
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    first = await group.first_after(row.epoch)
    group.run_member(row.primary)
    await group.whole()
    return first.at - lost_at


async def _promoted_by_hand(group: PostgresGroup) -> float:
    """What PostgreSQL itself takes: the last thing that is done to the group, since nobody of it knows."""
    row = await group.whole()
    member = next(member for member in MEMBERS if member != row.primary)
    # Its check would see that the server follows nobody, and stop it.
    runner = group.runner_of(member)
    os.kill(runner, signal.SIGSTOP)
    try:
        return await _promoted(group.servers[member])
    finally:
        os.kill(runner, signal.SIGCONT)


async def _promoted(standby: Server) -> float:
    # As the promote hook does it: commits wait for nobody then.
    standby.note(follows=None, synchronous=())
    standby.reload()
    connection = await connected(standby.address, (standby.folder / "password").read_text().strip())
    try:
        began = time.monotonic()
        await connection.execute("SELECT pg_promote(true, 30)")
        await connection.execute("CREATE TABLE by_hand (row bigint PRIMARY KEY)")
        return time.monotonic() - began
    finally:
        await connection.close()
