"""The in-sync set: the members that a commit waits for, and the ones that the group has recorded, of which one leads next.

PostgreSQL's set holds all of the recorded one at every instant, so each recorded member has each acknowledged commit:

    to grow     PostgreSQL waits for the member ▸ it does so everywhere, and the member holds all before that ▸ recorded
    to shrink   recorded without the member     ▸ PostgreSQL does not wait for it any more
"""

import json
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from examples.postgres.server import Server, standby_names

if TYPE_CHECKING:
    from examples.postgres.hooks import Told

SECONDS_MAX: Final = 5.0
PAUSE_SECONDS: Final = 0.02


class NotNow(Exception):
    """The set stays as it is for now; the next check tries again."""


def keep_in_sync(server: Server, told: "Told") -> None:
    """Let commits wait for all standbys that are there. What cannot be done now is left to the next check."""
    try:
        _keep(server, told)
    except NotNow as error:
        # The primary itself is well: others must not take over for this.
        print(f"in-sync set: {error}")


def _keep(server: Server, told: "Told") -> None:
    note, version, recorded = server.noted, told.in_sync_version, set(told.in_sync) - {told.member}
    if note.asked is not None and note.asked[0] == version:
        # It may be heard yet: only once its version has passed nothing can come of it any more.
        recorded = set(note.asked[1])
        version = _record(told, version, recorded, "caught_up")
    query = "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'"
    # That it streams says nothing of what it held before: an old primary does so until it sees that it has to be rewound, and
    # a copy that is in the set is not touched. So who is new has passed its own check first.
    there = {name for (name,) in server.ask(query)} & ((recorded | told.ready) - {told.member})
    if lost := (recorded | set(note.synchronous)) - there:
        # Also if none of them is recorded, as far as is known here: the group refuses it if that is not the newest.
        version = _record(told, version, recorded - lost, "lost")
        recorded -= lost
    server.note(synchronous=tuple(sorted(there)), asked=None)
    if server.value("SHOW synchronous_standby_names") != standby_names(tuple(there)):
        server.reload()
    if new := there - recorded:
        _has_caught_up(server, new, standby_names(tuple(there)))
        # Noted before it is asked: this process may end before it has the answer.
        server.note(asked=(version, tuple(sorted(there))))
        _record(told, version, there, "caught_up")
        server.note(asked=None)


def _has_caught_up(server: Server, new: set[str], names: str) -> None:
    """Return when every commit waits for the new members, and they hold all that was written before."""
    # All processes of the server have been told of a setting that a new connection begins with.
    _until(lambda: server.value("SHOW synchronous_standby_names") == names, "the setting is not in force")
    # The checkpointer tells those who commit whether they have to wait at all. A checkpoint that begins after another one has
    # ended begins after it has read the setting, which it does before each.
    server.ask("CHECKPOINT")
    server.ask("CHECKPOINT")
    # A sender lets go of those who wait. One that is seen to sleep reads the setting before it does that again.
    busy = set(server.ask("SELECT pid FROM pg_stat_replication"))

    def all_have_slept() -> bool:
        busy.intersection_update(
            server.ask("SELECT pid FROM pg_stat_activity WHERE wait_event IS DISTINCT FROM 'WalSenderMain'")
        )
        return not busy

    _until(all_have_slept, "a sender is busy")
    reached = server.value("SELECT pg_current_wal_insert_lsn()")

    def all_hold_it() -> bool:
        query = f"SELECT application_name FROM pg_stat_replication WHERE flush_lsn >= '{reached}'"
        return new <= {name for (name,) in server.ask(query)}

    _until(all_hold_it, f"{', '.join(sorted(new))}: not caught up")


def _until(holds: Callable[[], bool], why: str) -> None:
    ends_at = time.monotonic() + SECONDS_MAX
    while not holds():
        if time.monotonic() > ends_at:
            raise NotNow(why)
        time.sleep(PAUSE_SECONDS)


def _record(told: "Told", version: int, standbys: set[str], cause: str) -> int:
    """Ask the group to record the set, if it is at this version. Returns the version after that."""
    # Here, since it takes long to load, and nearly all checks have nothing to say.
    import urllib.request

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
