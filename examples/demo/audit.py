"""The audit at the end: the log alone gives the live view again, it stands verification, and damage is found."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from examples.demo.cluster import Cluster, Tool
from examples.demo.compare import replayed_differences
from examples.demo.stage import Stage, all_events, milliseconds, some


async def replay(stage: Stage, flipped_at: str) -> None:
    """The read models, rebuilt from the log alone, are the live ones; and those of an earlier moment can be had, too."""
    stage.screen.step("The log is replayed (muster replay), and compared with the live view")
    services = [row.service for row in (await stage.client.services()).items]
    live = await stage.listed(*services)
    tool = await log_tool(stage.cluster, "replay")
    found = parsed(tool)
    differing = replayed_differences(found.get("rows", {}).get("instances", ()), live)
    stage.claims.claim(
        "the instances of the replay are those of the live view, field by field",
        tool.exit_code == 0 and not differing,
        f"{found.get('events')} events, {len(live)} instances{some(differing)}{tool.error}",
    )
    stage.claims.figure("replay, with the start of the process", milliseconds(tool.seconds))
    counts = {row["service"]: row["healthy"] for row in found.get("rows", {}).get("services", ())}
    shown = {row.service: row.healthy for row in (await stage.client.services()).items}
    stage.claims.claim("so are the services with their counts", counts == shown, f"{counts}")
    past = parsed(await log_tool(stage.cluster, "replay", "--projection", "instances", "--to", flipped_at))
    was = {row["instance"]: (row["health"], row["cause"]) for row in past.get("rows", {}).get("instances", ())}
    stage.claims.claim(
        f"replayed to the moment of the first flip ({flipped_at}), users-1 is ill",
        was.get("users-1", ("", ""))[0] == "unhealthy" and not any(name.startswith("burst") for name in was),
        f"{was.get('users-1')}",
    )


async def verify(stage: Stage) -> None:
    """The whole log stands the test: every byte's place in the chain, terms, versions, decoding, the domain's own fold."""
    stage.screen.step("The log is verified (muster verify)")
    # Listed before and after: leases of the stopped data nodes may run out, and be recorded, while the log is verified.
    before = len(await all_events(stage.client))
    tool = await log_tool(stage.cluster, "verify", "--fold", "--moves")
    found = parsed(tool)
    partitions = found.get("partitions", [])
    events = sum(partition["events"] for partition in partitions)
    after = len(await all_events(stage.client))
    stage.claims.claim(
        "the log stands verification, as many events as the controller lists",
        tool.exit_code == 0 and found.get("ok") is True and 0 < before <= events <= after,
        f"{events} events, {before} to {after} listed, {sum(partition['terms'] for partition in partitions)} terms{tool.error}",
    )
    moves = found.get("moves") or {}
    stage.claims.claim(
        "every invariant of moves holds on the log, and nothing is owed any more",
        moves.get("breaches") == moves.get("owed") == [] and moves.get("events", 0) > 0,
        f"{moves.get('events')} events about shards",
    )
    stage.claims.figure("verification, with the start of the process", milliseconds(tool.seconds))


async def detect_damage(stage: Stage) -> None:
    """Copies of the log, one with a flipped bit and one without one of its records, are refused at that position."""
    stage.screen.step("Damaged copies of the log are verified")
    for what in ("a flipped bit", "a missing record"):
        copy = stage.cluster.folder / what.replace(" ", "-")
        position = await asyncio.to_thread(damaged_copy, stage.cluster.data, copy, what)
        said, where = await breach(stage.cluster, copy)
        # What is missing shows at the record behind it; the reason names the missing one.
        found = where == position or f"record {position} is missing" in said
        stage.claims.claim(f"{what} at position {position} is found", where is not None and found, f"{where}: {said}")


async def breach(cluster: Cluster, data: Path) -> tuple[str, int | None]:
    """What verification says of a log in a folder: the reason and position of its first breach (`sound`, None)."""
    tool = await cluster.tool("verify", "--json", "--data", str(data))
    found = [partition["breach"] for partition in parsed(tool).get("partitions", ()) if partition["breach"]]
    if tool.exit_code == 0 or not found:
        return "sound" if tool.exit_code == 0 else tool.error, None
    return found[0]["reason"], found[0]["position"]


def damaged_copy(data: Path, copy: Path, what: str) -> int:
    """Copy the embedded log and damage a record in its middle; the record's position."""
    copy.mkdir()
    with (
        closing(sqlite3.connect(data / "log.sqlite")) as source,
        closing(sqlite3.connect(copy / "log.sqlite")) as target,
    ):
        source.backup(target)
        rows = target.execute(
            "SELECT originator_version, state FROM stored_events WHERE originator_id = "
            "(SELECT originator_id FROM stored_events GROUP BY 1 ORDER BY count(*) DESC LIMIT 1) ORDER BY 1"
        ).fetchall()
        position, state = rows[len(rows) // 2]
        with target:
            if what == "a missing record":
                target.execute(
                    "DELETE FROM stored_events WHERE originator_version = ? AND state = ?", (position, state)
                )
            else:
                flipped = bytearray(state)
                flipped[len(flipped) // 2] ^= 1
                target.execute(
                    "UPDATE stored_events SET state = ? WHERE originator_version = ? AND state = ?",
                    (bytes(flipped), position, state),
                )
    return int(position)


async def log_tool(cluster: Cluster, command: str, *options: str) -> Tool:
    """Run `muster replay` or `muster verify` on the cluster's log."""
    return await cluster.tool(command, "--json", *cluster.log, *options)


def parsed(tool: Tool) -> dict[str, Any]:
    """What the tool said; nothing when it said no JSON."""
    try:
        found: dict[str, Any] = orjson.loads(tool.out)
    except orjson.JSONDecodeError:
        return {}
    return found
