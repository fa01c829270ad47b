"""The hooks: what makes a primary or a standby of a member's server.

init ▸ start as a standby ──promote──▶ primary ──demote──▶ start as a standby ──check: parted──▶ start: rewound ▸ standby

A copy may only lead after epoch N if it is known to follow what the primary of epoch N wrote: two copies that part from the same
point would both call what they write next by the same timeline, and PostgreSQL could not tell them apart.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final, Self

import asyncpg

from examples.postgres.in_sync import keep_in_sync
from examples.postgres.server import HookFailed, Server

FOLLOWS_SECONDS_MAX: Final = 5.0
"""How long a standby that can follow the primary takes to begin with it; one that cannot is rewound."""
PROMOTE_SECONDS_MAX: Final = 30
PAUSE_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the runner tells a hook. `leader`: the address of the primary that serves, if that is another member;
    `ready`: the members that have said that they can take over.
    """

    group: str
    member: str
    role: str
    epoch: int
    incarnation: int
    leader: str | None
    serving: bool
    # The epoch of the group's row: that of the last primary, if there is none.
    last_epoch: int
    ready: frozenset[str]
    in_sync: tuple[str, ...]
    in_sync_version: int

    @classmethod
    def read(cls, told: dict[str, Any]) -> Self:
        """From the JSON on standard input."""
        leads = told.get("primary") not in (None, told["member"]) and not told["fenced"]
        return cls(
            group=told["group"],
            member=told["member"],
            role=told["role"],
            epoch=told["epoch"],
            incarnation=told["incarnation"],
            leader=told["address"] if leads else None,
            serving=bool(told.get("serving")),
            # As a standby the hook's epoch is that of the group's row.
            last_epoch=told["epoch"],
            ready=frozenset(one["member"] for one in told.get("members", ()) if one["status"] == "active"),
            in_sync=tuple(told.get("in_sync", ())),
            in_sync_version=told.get("in_sync_version", 0),
        )


async def run(hook: str, server: Server, told: Told, *, synchronous: bool) -> None:
    """Run the hook. Raises HookFailed."""
    if hook == "promote":
        await promote(server, told.epoch)
    elif hook == "demote":
        demote(server, told)
    elif told.role == "primary":
        await check_primary(server, told, synchronous=synchronous)
    else:
        await check_standby(server, told)


async def promote(server: Server, epoch: int) -> None:
    """Make the primary of the epoch of a standby that runs; returns when it takes writes. Done again, it changes nothing."""
    note = server.noted
    if note.torn or note.parted or not (epoch == 1 or epoch - 1 <= note.epoch <= epoch):
        raise HookFailed(f"its copy is of epoch {note.epoch}, and it may only lead after that; see `accept`")
    if (note.epoch, note.led) != (epoch, True):
        # Before it takes writes. The new in-sync set is this member alone, so commits wait for nobody yet.
        server.note(epoch=epoch, led=True, follows=None, synchronous=(), asked=None)
    server.reload()
    connection = await server.connect()
    try:
        if await connection.fetchval("SELECT pg_is_in_recovery()"):
            await connection.execute(f"SELECT pg_promote(true, {PROMOTE_SECONDS_MAX})")
        if await connection.fetchval("SELECT pg_is_in_recovery()"):
            raise HookFailed(f"pg_promote: it is a standby still after {PROMOTE_SECONDS_MAX} s")
    finally:
        await connection.close()


def demote(server: Server, told: Told) -> None:
    """Stop the server, and leave data behind that the next start makes a standby of."""
    server.stop()
    whole = server.has_data and not server.noted.torn
    if whole:
        server.mark_standby()
        server.note(follows=told.leader)
    elif told.leader is None:
        raise HookFailed(f"{server.pgdata}: there is no whole database, and nobody leads whose copy could be taken")
    else:
        server.copy_from(told.leader)


async def check_primary(server: Server, told: Told, *, synchronous: bool) -> None:
    """It takes writes; and the in-sync set is kept, if commits are to wait for standbys."""
    connection = await server.connect()
    try:
        if await connection.fetchval("SELECT pg_is_in_recovery()"):
            raise HookFailed("it takes no writes")
        if synchronous:
            await keep_in_sync(server, told, connection)
    finally:
        await connection.close()


async def check_standby(server: Server, told: Told) -> None:
    """It accepts connections, and follows the primary of this epoch; without a primary, it has followed the last one."""
    note = server.noted
    if note.torn or note.parted:
        # It is being rewound by what the runner has started; the primary may be another one by now.
        server.note(follows=told.leader or note.follows)
        if not note.torn:
            # A start that looked at the note before it said so runs on the copy as it is, and would for ever.
            server.stop()
        raise HookFailed("its copy is made to follow the primary")
    if told.leader is None and told.member in told.in_sync and note.epoch < told.last_epoch:
        note = server.note(epoch=told.last_epoch)
    if told.leader is None and note.epoch < told.last_epoch:
        raise HookFailed(f"its copy is of epoch {note.epoch}, and the last primary was of {told.last_epoch}")
    if told.leader is None or note.epoch == told.last_epoch:
        await (await server.connect()).close()
        return
    if not told.serving:
        raise HookFailed("the primary does not serve yet")
    if note.led or not await follows(server, told.leader):
        if told.member in told.in_sync:
            raise HookFailed("it is in the in-sync set and does not follow the primary: its copy is not touched")
        # The runner starts what has ended again, and that begins with the rewind. This hook ends with it.
        server.note(parted=True, follows=told.leader)
        server.stop()
        raise HookFailed("its copy has parted from the primary's")
    server.note(epoch=told.last_epoch)


async def follows(server: Server, leader: str) -> bool:
    """Point the standby at the primary; whether it receives what that writes, on its own timeline."""
    ours = await server.connect()
    try:
        theirs = await server.connect(leader)
        try:
            timeline = await theirs.fetchval(
                "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int"
            )
        except asyncpg.PostgresError as error:
            raise HookFailed(f"{leader} does not lead: {error}") from error
        finally:
            await theirs.close()
        if server.noted.follows != leader:
            server.note(follows=leader)
        server.reload()
        ends_at = time.monotonic() + FOLLOWS_SECONDS_MAX
        query = "SELECT sender_host || ':' || sender_port, received_tli FROM pg_stat_wal_receiver WHERE status = 'streaming'"
        while time.monotonic() < ends_at:
            row = await ours.fetchrow(query)
            if row is not None and tuple(row) == (leader, timeline):
                return True
            await asyncio.sleep(PAUSE_SECONDS)
        return False
    finally:
        await ours.close()


async def position(server: Server) -> int:
    """How far the copy reaches, in bytes from the beginning of the write-ahead log."""
    connection = await server.connect()
    try:
        if await connection.fetchval("SELECT pg_is_in_recovery()"):
            # Nothing is received yet by a standby that was just started.
            lsn = "greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())"
        else:
            lsn = "pg_current_wal_flush_lsn()"
        return int(await connection.fetchval(f"SELECT {lsn} - '0/0'::pg_lsn"))
    finally:
        await connection.close()
