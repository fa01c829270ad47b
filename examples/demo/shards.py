"""Shards on the move: data nodes, a keyspace that is written to all the time, and everything that can die does."""

import asyncio
import time
from pathlib import Path
from typing import Any, Final

import orjson

from examples.demo.cluster import FIRST, Cluster, eventually
from examples.demo.failover import Failover
from examples.demo.stage import Stage, milliseconds, some
from muster.wire.shards.answers import Migration

KEYSPACE: Final = "users"
SHARDS: Final = 48
NODES: Final = ("n1", "n2", "n3")
LATE: Final = "n4"
PRELOADED: Final = 2_400
SLOWLY: Final = 40_000.0
"""Bytes per second of a move that is to be caught in the middle: more than a second for a shard."""

HOLD_SECONDS: Final = 30.0
"""How long a client waits for a node or the controller to start again: on a busy machine a start takes a while."""

MOVE_SECONDS_MAX: Final = 60.0
SOAK: Final = {"soak_seconds": 0.2, "cleanup_seconds": 0.2}


async def play(stage: Stage, *, several: bool) -> None:
    """All of it, and the checker's word at the end. `several`: controllers can share the log, so there is a second one."""
    second = Failover(stage, (*NODES, LATE)) if several else None
    if second is not None:
        await second.start()
    await start_nodes(stage)
    await start_traffic(stage)
    await use_by_hand(stage)
    await grow(stage)
    await abort_half_way(stage)
    for name, what in (("n1", "source"), ("n2", "target"), (FIRST, "controller")):
        await kill_amid_a_move(stage, name, what, second if name == FIRST else None)
    await end(stage)


async def start_nodes(stage: Stage) -> None:
    """Three processes join as data nodes, and a keyspace is spread over them."""
    stage.screen.step(f"Three data nodes join, and a keyspace of {SHARDS} shards is spread over them")
    began, shards = time.monotonic(), stage.client.shards
    for name in NODES:
        start_node(stage.cluster, name)

    async def joined() -> bool:
        return len((await shards.nodes()).items) == len(NODES)

    await eventually(joined, "three data nodes are there", 20.0)
    await shards.create_keyspace(KEYSPACE, SHARDS)

    async def opened() -> bool:
        return (await shards.keyspace(KEYSPACE)).active == SHARDS

    await eventually(opened, "all shards are open", 20.0)
    stage.claims.figure(f"three data nodes: start → {SHARDS} shards open", milliseconds(time.monotonic() - began))
    owned = await owners(stage)
    stage.claims.claim(
        "every shard is served, as many by each node",
        sorted(owned.values()) == [SHARDS // 3] * 3,
        ", ".join(f"{node} {count}" for node, count in sorted(owned.items())),
    )


def start_node(cluster: Cluster, name: str) -> None:
    """Start a data node; the second time on what the first has left."""
    cluster.start_node(name, zone=f"zone-{name[-1]}")


async def owners(stage: Stage) -> dict[str, int]:
    """How many shards each node owns."""
    found: dict[str, int] = {}
    for row in (await stage.client.shards.shard_map(KEYSPACE, consistency="strong")).items:
        found[str(row.owner)] = found.get(str(row.owner), 0) + 1
    return found


async def start_traffic(stage: Stage) -> None:
    """Writers and readers, in a process of their own, until the end."""
    stage.screen.step("Writers and readers start, and go on until the end")
    journal = stage.cluster.folder / "journals"
    journal.mkdir()
    stage.cluster.start_tool(
        "traffic",
        "examples.shards.traffic",
        *("--url", stage.cluster.url, "--keyspace", KEYSPACE, "--journal", str(journal / "traffic.jsonl")),
        *("--preload", str(PRELOADED), "--per-second", "300", "--writers", "24", "--hold-seconds", str(HOLD_SECONDS)),
    )

    async def ready() -> bool:
        return "ready" in stage.cluster.log_of("traffic")

    await eventually(ready, "the traffic's own keys are there", 30.0)
    stage.screen.line(f"{PRELOADED:,} keys are there; 24 writers give 300 writes a second, 4 readers read")


async def use_by_hand(stage: Stage) -> None:
    """What a person at a terminal does."""
    stage.screen.step("muster put users alice …, get, route")
    where = ("--url", stage.cluster.url)
    put = await stage.cluster.tool("put", KEYSPACE, "alice", "by hand", *where)
    get = await stage.cluster.tool("get", KEYSPACE, "alice", *where)
    route = await stage.cluster.tool("route", KEYSPACE, "alice", "--json", *where)
    gone = await stage.cluster.tool("delete", KEYSPACE, "alice", *where)
    found = orjson.loads(route.out) if route.exit_code == 0 else {}
    stage.screen.line(f"alice → {get.out.strip()!r} in shard {found.get('shard')}, at {found.get('owner')}")
    stage.claims.claim(
        "a value that was put on the command line is found there again, and can be deleted",
        put.exit_code == get.exit_code == gone.exit_code == 0 and get.out.strip() == "by hand",
        (put.error + get.error + gone.error).strip(),
    )


async def grow(stage: Stage) -> None:
    """A fourth node joins, and a third of the shards moves to it, live."""
    moves = SHARDS // 3
    stage.screen.step(f"A fourth data node joins, and {moves} of {SHARDS} shards move to it, live")
    start_node(stage.cluster, LATE)

    async def joined() -> bool:
        return len((await stage.client.shards.nodes()).items) == len(NODES) + 1

    await eventually(joined, "the fourth data node is there", 20.0)
    rows = (await stage.client.shards.shard_map(KEYSPACE)).items
    began = time.monotonic()
    ids = [
        (await stage.client.shards.move(KEYSPACE, row.shard, LATE, reason="the cluster grows", **SOAK)).migration
        for row in sorted(rows, key=lambda row: row.shard)[:moves]  # which were dealt to the nodes in turn
    ]
    ended = [await ended_migration(stage, id_) for id_ in ids]
    seconds = time.monotonic() - began
    stage.claims.figure(f"{moves} shards moved, one after the other", f"{seconds:.1f} s")
    pauses = sorted(cutover_seconds(migration) for migration in ended)
    stage.claims.figure("cut-over (fence → target serves)", f"median {milliseconds(pauses[len(pauses) // 2])}")
    owned = await owners(stage)
    show_migration(stage, ended[-1])
    stage.claims.claim(
        "a third of the shards moved to the fourth node, each by a saga that completed",
        {migration.phase for migration in ended} == {"completed"} and owned.get(LATE) == moves,
        ", ".join(f"{node} {count}" for node, count in sorted(owned.items())),
    )


async def ended_migration(stage: Stage, id_: str) -> Migration:
    """The migration, once it has ended."""

    async def ended() -> Migration | None:
        found = await stage.client.shards.migration(id_)
        return found if found.ended else None

    return await eventually(ended, f"{id_} has ended", MOVE_SECONDS_MAX)


def cutover_seconds(migration: Migration) -> float:
    """From the fence's record to the target's word that it serves."""
    steps = {step.name: step for step in migration.steps}
    ended_at = steps["activate"].ended_at
    assert ended_at is not None, "it has ended"
    return (ended_at - steps["close"].began_at).total_seconds()


def show_migration(stage: Stage, migration: Migration) -> None:
    """Its steps, in one line."""
    told = " ▸ ".join(f"{step.name} {milliseconds(step.seconds or 0.0)}" for step in migration.steps)
    stage.screen.line(f"{migration.id}: {told}")


async def abort_half_way(stage: Stage) -> None:
    """A move is held at its gate, with the whole copy made, and aborted there."""
    stage.screen.step("A move is held at its gate, with the copy made, and aborted")
    shard, source, target = await somewhere(stage, "n1", "n2")
    started = await stage.client.shards.move(KEYSPACE, shard, target, hold=True, reason="a trial", **SOAK)

    async def held() -> Migration | None:
        found = await stage.client.shards.migration(started.migration)
        return found if found.step == "gate" else None

    waiting = await eventually(held, "the move waits at its gate", MOVE_SECONDS_MAX)
    stage.screen.line(f"{waiting.id} waits for {waiting.waits_for}; allowed: {', '.join(waiting.allowed)}")
    await stage.client.shards.tell(started.migration, "abort", reason="the wrong node")
    migration = await ended_migration(stage, started.migration)
    show_migration(stage, migration)
    [row] = [row for row in (await stage.client.shards.shard_map(KEYSPACE)).items if row.shard == shard]
    stage.claims.claim(
        "the aborted move took back what it had made, in reverse order, and the shard never left",
        migration.phase == "compensated"
        and (row.owner, row.status) == (source, "active")
        and [step.name for step in migration.steps if step.undoes] == ["discard", "unreserve", "abandon"],
        f"{source} still serves shard {shard}, epoch {row.epoch}",
    )


async def somewhere(stage: Stage, source: str, target: str) -> tuple[int, str, str]:
    """A shard that the source serves, and where from and to."""
    rows = (await stage.client.shards.shard_map(KEYSPACE, owner=source, status="active", consistency="strong")).items
    return min(row.shard for row in rows), source, target


async def kill_amid_a_move(stage: Stage, victim: str, what: str, second: Failover | None) -> None:
    """SIGKILL for a process in the middle of a slow copy; it starts again, and the move goes on by itself.

    With a `second` controller, the killed one starts only when the move and much else has gone on without it.
    """
    then = "and starts again" if second is None else "and stays dead for longer than a lease"
    stage.screen.step(f"The {what} of a move is killed with SIGKILL in the middle of its copy, {then}")
    if second is not None:
        await second.write()
    source, target = ("n1", "n3") if what == "source" else ("n3", "n2")
    shard, *_ = await somewhere(stage, source, target)
    started = await stage.client.shards.move(KEYSPACE, shard, target, bytes_per_second=SLOWLY, **SOAK)

    async def copying() -> bool:
        return (await stage.client.shards.migration(started.migration)).step == "copy"

    await eventually(copying, "the copy is being made", MOVE_SECONDS_MAX)
    stage.cluster.kill(victim)
    killed_at = time.monotonic()
    if victim != FIRST:
        start_node(stage.cluster, victim)
    elif second is None:
        await stage.cluster.start_controller()
    migration = await ended_migration(stage, started.migration)
    show_migration(stage, migration)
    stage.claims.figure(f"SIGKILL of the {what} → its move completed", f"{time.monotonic() - killed_at:.1f} s")
    [row] = [row for row in (await stage.client.shards.shard_map(KEYSPACE)).items if row.shard == shard]
    stage.claims.claim(
        f"the move went on after the {what}'s death, and completed",
        (migration.phase, row.owner) == ("completed", target),
        f"shard {shard} is at {row.owner}",
    )
    if second is not None:
        await second.claim(killed_at)


async def end(stage: Stage) -> None:
    """The traffic ends, the nodes stop, and the checker compares journals, files and log."""
    stage.screen.step(
        "The traffic ends, the data nodes stop, and the checker, a process of its own, looks at what is left"
    )
    await stage.cluster.stop("traffic")
    told = orjson.loads(stage.cluster.log_of("traffic").strip().splitlines()[-1])
    stage.claims.figure(
        "traffic while all that happened",
        f"{told['writes']:,} writes and {told['reads']:,} reads, {len(told['failed'])} exceptions, "
        f"{sum(told['retries'].values())} retries, longest write {milliseconds(told['longest_write_seconds'])}",
    )
    stage.claims.claim("no exception reached a caller", not told["failed"], some(told["failed"]))
    await asyncio.gather(*map(stage.cluster.stop, (*NODES, LATE)))
    found = await checked(stage.cluster, stage.cluster.folder / "journals")
    for breach in found["breaches"][:5]:
        stage.screen.line(breach)
    stage.claims.figure(
        "the checker",
        f"{found['writes']:,} acknowledged writes, {found['pairs']:,} pairs in {found['shards']} shards, "
        f"{found['events']:,} events, {found['completed']} moves of {found['bytes_moved']:,} bytes",
    )
    stage.claims.claim(
        "every acknowledged write is there, once, with its last value, and every invariant holds on the log",
        not found["breaches"] and found["shards"] == SHARDS and found["writes"] >= told["writes"],
        f"{found['breaches_in_all']} breaches, {found['unknown']} writes of unknown outcome",
    )


async def checked(cluster: Cluster, journals: Path) -> dict[str, Any]:
    """What the checker says."""
    nodes = [f"--node={name}={cluster.data_of(name)}" for name in (*NODES, LATE)]
    tool = await cluster.run("examples.shards.checker", "--journals", str(journals), *nodes, *cluster.log)
    try:
        found: dict[str, Any] = orjson.loads(tool.out)
    except orjson.JSONDecodeError:
        return {
            "breaches": [tool.error.strip()[-500:]],
            "breaches_in_all": 1,
            "shards": 0,
            "writes": 0,
            "pairs": 0,
        } | dict.fromkeys(("events", "completed", "bytes_moved", "unknown"), 0)
    return found
