"""Patroni with etcd beside the PostgreSQL group of `examples/postgres`, in the same run: until the next row is committed.

    default     as Patroni is without settings: ttl 30, loop_wait 10, retry_timeout 10, primary_start_timeout 300
    tuned       the smallest that it takes: ttl 20, loop_wait 1, retry_timeout 3, and 0, so that a crash is a failover

Two kinds of kills. *server*: SIGKILL to PostgreSQL's processes alone. Patroni lives and starts the server again where it was
(default), or lets another one lead (tuned). *member*: SIGKILL to Patroni and PostgreSQL at once, as when a host is lost: another
one leads once the leader's key has run out. Replication is asynchronous there, as it is by default, and synchronous here.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from benchmarks.bench import EMBEDDED, Bench
from benchmarks.groups import postgres
from benchmarks.rivals import etcd
from benchmarks.rivals.patroni_cluster import CUT_OFF, PAUSE_SECONDS, PatroniCluster, patroni_cluster, program
from benchmarks.table import Row, at_most

NAME: Final = "Patroni"
SETTINGS: Final = {
    "default": {"ttl": 30, "loop_wait": 10, "retry_timeout": 10},
    "tuned": {"ttl": 20, "loop_wait": 1, "retry_timeout": 3, "primary_start_timeout": 0},
}
_SHARES: Final = {"default": 10.0, "tuned": 50.0}
_KILLS: Final = 3
_ANSWER_SECONDS_MAX: Final = 120.0
_ROWS: Final = 20


def run(bench: Bench) -> Iterator[Row]:
    """Both settings and both kinds of kills; and ours as a share of each."""
    program()
    kills = max(1, round(_KILLS * min(1.0, bench.scale)))
    ours = postgres.measured(bench, postgres.kills_of(bench), losses=kills)
    mine = {"server": ours.killed, "member": ours.lost}
    what = {"server": "PostgreSQL's processes are killed", "member": "the whole member is killed"}
    for kind, taken in mine.items():
        yield Row("patroni", f"{what[kind]} → the next row is committed", EMBEDDED, "p50", "s", [median(taken)])
    for setting, settings in SETTINGS.items():
        theirs = _measured(bench, settings, kills)
        for kind, kinds in theirs.items():
            title, taken = f"{what[kind]} → the next row is committed", [one.seconds for one in kinds]
            same = sum(one.by_the_same for one in kinds)
            notes = {"longest s": max(taken), "kills": float(len(taken)), "by the server that was killed": float(same)}
            yield Row("patroni", title, f"{NAME}, {setting}", "p50", "s", [median(taken)], notes=notes)
            share = median(mine[kind]) / median(taken) * 100
            # A whole member that is lost costs ours the lease as well, which the example has at 6 s: that is told, not judged.
            target = at_most(_SHARES[setting]) if kind == "server" else None
            yield Row("patroni", title, EMBEDDED, f"ours, of {NAME}'s {setting}", "%", [share], target)


class Committed(NamedTuple):
    """The seconds from a kill to the next row, and whether the server that was killed has committed it."""

    seconds: float
    by_the_same: bool


def _measured(bench: Bench, settings: dict[str, int], kills: int) -> dict[str, list[Committed]]:
    """The seconds of each kill, by its kind."""
    found: dict[str, list[Committed]] = {"server": [], "member": []}
    with (
        tempfile.TemporaryDirectory(prefix="patroni-", dir=bench.folder) as folder,
        etcd.server(bench.folder) as port,
        patroni_cluster(Path(folder), port, settings) as cluster,
    ):
        for kind, taken in found.items():
            for _ in range(kills):
                taken.append(_failed_over(cluster, whole_member=kind == "member"))
    return found


def _failed_over(cluster: PatroniCluster, *, whole_member: bool) -> Committed:
    leader = cluster.whole()
    asyncio.run(_commits(cluster, _ROWS))
    killed_at = cluster.kill(leader, patroni_too=whole_member)
    committed_at, port = asyncio.run(_commits(cluster, 1))
    if whole_member:
        cluster.run(leader)
    return Committed(committed_at - killed_at, port == cluster.ports[leader].postgres)


async def _commits(cluster: PatroniCluster, rows: int) -> tuple[float, int]:
    """Commit rows at whoever takes them, as soon as there is somebody; when the last one was acknowledged, and at which port."""
    async with asyncio.timeout(_ANSWER_SECONDS_MAX):
        while True:
            with suppress(*CUT_OFF):
                connection, port = await cluster.connect()
                try:
                    await connection.execute("CREATE TABLE IF NOT EXISTS written (row bigserial PRIMARY KEY)")
                    for _ in range(rows):
                        await connection.execute("INSERT INTO written DEFAULT VALUES")
                    return time.monotonic(), port
                finally:
                    connection.terminate()
            await asyncio.sleep(PAUSE_SECONDS)
