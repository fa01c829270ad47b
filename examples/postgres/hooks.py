"""The hooks: what makes a primary or a standby of a member's server.

init ▸ start as a standby ──promote──▶ primary ──demote──▶ start as a standby ──check: parted──▶ start: rewound ▸ standby

A copy may only lead after epoch N if it is known to follow what the primary of epoch N wrote: two copies that part from the same
point would both call what they write next by the same timeline, and PostgreSQL could not tell them apart.
"""

import time
from dataclasses import dataclass
from typing import Any, Final, Self

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


def run(hook: str, server: Server, told: Told, *, synchronous: bool) -> None:
    """Run the hook. Raises HookFailed."""
    if hook == "promote":
        promote(server, told.epoch)
    elif hook == "demote":
        demote(server, told)
    elif told.role == "primary":
        check_primary(server, told, synchronous=synchronous)
    else:
        check_standby(server, told)


def promote(server: Server, epoch: int) -> None:
    """Make the primary of the epoch of a standby that runs; returns when it takes writes. Done again, it changes nothing."""
    note = server.noted
    if note.torn or note.parted or not (epoch == 1 or epoch - 1 <= note.epoch <= epoch):
        raise HookFailed(f"its copy is of epoch {note.epoch}, and it may only lead after that; see `accept`")
    if (note.epoch, note.led) != (epoch, True):
        # Before it takes writes. The new in-sync set is this member alone, so commits wait for nobody yet.
        server.note(epoch=epoch, led=True, follows=None, synchronous=(), asked=None)
    server.reload()
    leads = f"SELECT CASE WHEN pg_is_in_recovery() THEN pg_promote(true, {PROMOTE_SECONDS_MAX}) ELSE true END"
    if server.value(leads) != "t":
        raise HookFailed(f"pg_promote: it is a standby still after {PROMOTE_SECONDS_MAX} s")


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


def check_primary(server: Server, told: Told, *, synchronous: bool) -> None:
    """It takes writes; and the in-sync set is kept, if commits are to wait for standbys."""
    if server.value("SELECT pg_is_in_recovery()") != "f":
        raise HookFailed("it takes no writes")
    if synchronous:
        keep_in_sync(server, told)


def check_standby(server: Server, told: Told) -> None:
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
        server.ask("SELECT 1")
        return
    if not told.serving:
        raise HookFailed("the primary does not serve yet")
    if note.led or not follows(server, told.leader):
        if told.member in told.in_sync:
            raise HookFailed("it is in the in-sync set and does not follow the primary: its copy is not touched")
        # The runner starts what has ended again, and that begins with the rewind. This hook ends with it.
        server.note(parted=True, follows=told.leader)
        server.stop()
        raise HookFailed("its copy has parted from the primary's")
    server.note(epoch=told.last_epoch)


def follows(server: Server, leader: str) -> bool:
    """Point the standby at the primary; whether it receives what that writes, on its own timeline."""
    try:
        # A standby refuses to say it.
        now = "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int"
        timeline = server.value(now, leader)
    except HookFailed as error:
        raise HookFailed(f"{leader} does not lead: {error}") from error
    if server.noted.follows != leader:
        server.note(follows=leader)
    server.reload()
    ends_at = time.monotonic() + FOLLOWS_SECONDS_MAX
    query = (
        "SELECT sender_host || ':' || sender_port, received_tli FROM pg_stat_wal_receiver WHERE status = 'streaming'"
    )
    while time.monotonic() < ends_at:
        if server.ask(query) == [(leader, timeline)]:
            return True
        time.sleep(PAUSE_SECONDS)
    return False


def position(server: Server) -> int:
    """How far the copy reaches, in bytes from the beginning of the write-ahead log."""
    # Nothing is received yet by a standby that was just started.
    copied = "greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())"
    reached = f"CASE WHEN pg_is_in_recovery() THEN {copied} ELSE pg_current_wal_flush_lsn() END"
    return int(server.value(f"SELECT {reached} - '0/0'::pg_lsn"))
