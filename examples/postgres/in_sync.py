"""The in-sync set: the members that a commit waits for, and the ones that the group has recorded, of which one leads next.

PostgreSQL's set holds all of the recorded one at every instant, so each recorded member has each acknowledged commit:

    to grow     PostgreSQL waits for the member ▸ it does so everywhere, and the member holds all before that ▸ recorded
    to shrink   recorded without the member     ▸ PostgreSQL does not wait for it any more
"""

import asyncio
import json
import os
import time
import urllib.request
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import asyncpg

from examples.postgres.server import Server, standby_names

if TYPE_CHECKING:
    from examples.postgres.hooks import Told

SECONDS_MAX: Final = 5.0
PAUSE_SECONDS: Final = 0.02


class NotNow(Exception):
    """The set stays as it is for now; the next check tries again."""


async def keep_in_sync(server: Server, told: "Told", connection: asyncpg.Connection) -> None:
    """Let commits wait for all standbys that are there. What cannot be done now is left to the next check."""
    try:
        await _keep(server, told, connection)
    except NotNow as error:
        # The primary itself is well: others must not take over for this.
        print(f"in-sync set: {error}")


async def _keep(server: Server, told: "Told", connection: asyncpg.Connection) -> None:
    note, version, recorded = server.noted, told.in_sync_version, set(told.in_sync) - {told.member}
    if note.asked is not None and note.asked[0] == version:
        # It may be heard yet: only once its version has passed nothing can come of it any more.
        recorded = set(note.asked[1])
        version = _record(told, version, recorded, "caught_up")
    query = "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'"
    # That it streams says nothing of what it held before: an old primary does so until it sees that it has to be rewound, and
    # a copy that is in the set is not touched. So who is new has passed its own check first.
    there = {row[0] for row in await connection.fetch(query)} & ((recorded | told.ready) - {told.member})
    if lost := (recorded | set(note.synchronous)) - there:
        # Also if none of them is recorded, as far as is known here: the group refuses it if that is not the newest.
        version = _record(told, version, recorded - lost, "lost")
        recorded -= lost
    server.note(synchronous=tuple(sorted(there)), asked=None)
    if await connection.fetchval("SHOW synchronous_standby_names") != standby_names(tuple(there)):
        server.reload()
    if new := there - recorded:
        await _has_caught_up(server, connection, new, standby_names(tuple(there)))
        # Noted before it is asked: this process may end before it has the answer.
        server.note(asked=(version, tuple(sorted(there))))
        _record(told, version, there, "caught_up")
        server.note(asked=None)


async def _has_caught_up(server: Server, connection: asyncpg.Connection, new: set[str], names: str) -> None:
    """Return when every commit waits for the new members, and they hold all that was written before."""
    await _until(lambda: _is_set(server, names), "the setting is not in force")
    # The checkpointer tells those who commit whether they have to wait at all. A checkpoint that begins after another one has
    # ended begins after it has read the setting, which it does before each.
    await connection.execute("CHECKPOINT")
    await connection.execute("CHECKPOINT")
    # A sender lets go of those who wait. One that is seen to sleep reads the setting before it does that again.
    busy = {row[0] for row in await connection.fetch("SELECT pid FROM pg_stat_replication")}

    async def all_have_slept() -> bool:
        query = "SELECT pid FROM pg_stat_activity WHERE pid = ANY($1::int[]) AND wait_event IS DISTINCT FROM 'WalSenderMain'"
        busy.intersection_update({row[0] for row in await connection.fetch(query, list(busy))})
        return not busy

    await _until(all_have_slept, "a sender is busy")
    reached = await connection.fetchval("SELECT pg_current_wal_insert_lsn()::text")

    async def all_hold_it() -> bool:
        query = "SELECT application_name FROM pg_stat_replication WHERE flush_lsn >= $1::text::pg_lsn"
        return new <= {row[0] for row in await connection.fetch(query, reached)}

    await _until(all_hold_it, f"{', '.join(sorted(new))}: not caught up")


async def _is_set(server: Server, names: str) -> bool:
    # A connection that is new begins with what the server has read, and by then all its processes have been told.
    fresh = await server.connect()
    try:
        return bool(await fresh.fetchval("SHOW synchronous_standby_names") == names)
    finally:
        await fresh.close()


async def _until(holds: Callable[[], Awaitable[bool]], why: str) -> None:
    ends_at = time.monotonic() + SECONDS_MAX
    while not await holds():
        if time.monotonic() > ends_at:
            raise NotNow(why)
        await asyncio.sleep(PAUSE_SECONDS)


def _record(told: "Told", version: int, standbys: set[str], cause: str) -> int:
    """Ask the group to record the set, if it is at this version. Returns the version after that."""
    wanted = sorted({told.member, *standbys})
    body = {"incarnation": told.incarnation, "epoch": told.epoch, "version": version, "in_sync": wanted, "cause": cause}
    why = "no controller is known"
    for url in os.environ["MUSTER_URL"].split(","):
        request = urllib.request.Request(
            f"{url}/v1/groups/{told.group}/members/{told.member}/in-sync",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Muster-Actor": f"member {told.group}/{told.member}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=3) as answer:
                status = json.load(answer)["status"]
            return version if status == "unchanged" else version + 1
        except OSError as error:
            read = getattr(error, "read", bytes)
            why = f"{error} {read().decode(errors='replace')}"
    raise NotNow(f"not recorded: {why}")
