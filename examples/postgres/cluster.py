"""Three members on free ports of this machine, maybe with a controller, and a writer that remembers what was acknowledged."""

import asyncio
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from examples.postgres.member import runner
from examples.postgres.server import Server
from examples.postgres.writer import Acknowledged, Writer, connected
from infra.local.child import ChildProcess, free_port
from muster import Client
from muster.client.control.groups import GroupSettings
from muster.wire.groups.answers import GROUPS, GroupState

Found = TypeVar("Found")
ROOT: Final = Path(__file__).parents[2]
GROUP: Final = "db"
MEMBERS: Final = ("db1", "db2", "db3")
LEASE_SECONDS: Final = 6.0
WAIT_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 20.0
PAUSE_SECONDS: Final = 0.02


class NotInTime(Exception):
    """Something that was waited for did not happen."""


class PostgresGroup:
    """The members, which ask the controllers at `url`; `acknowledged` are the rows that were written so far.

    With `max_lag` no commit waits for a standby, and one may take over that lacks at most so many bytes.
    """

    def __init__(self, folder: Path, url: str, *, max_lag: int | None = None) -> None:
        self.folder = folder
        self.url = url
        self._max_lag = max_lag
        self.servers = {member: Server(folder / member, member, f"127.0.0.1:{free_port()}") for member in MEMBERS}
        self._children: dict[str, ChildProcess] = {}
        self.client = Client(self.url, timeout_seconds=30.0)
        self._password = secrets.token_urlsafe(12)
        self._writer = Writer(GROUP, url, self._password)
        self.acknowledged = self._writer.acknowledged
        self.writing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start all; returns when a primary serves and both standbys follow it."""
        await self.client.__aenter__()
        await self.client.services()
        # The first one has the empty database, and so has to lead first.
        loss: GroupSettings = {"synchronous": True} if self._max_lag is None else {"max_lag": self._max_lag}
        await self.client.groups.create(GROUP, dict.fromkeys(MEMBERS, 1), lease_seconds=LEASE_SECONDS, **loss)
        for member, server in self.servers.items():
            server.folder.mkdir(parents=True)
            (server.folder / "password").write_text(self._password)
            if member == MEMBERS[0]:
                await asyncio.to_thread(server.init)
            self.run_member(member)
        await self.whole()

    def run_member(self, member: str) -> None:
        """Start the member's runner, which starts all the rest."""
        arguments = runner(GROUP, self.servers[member], self.url, synchronous=self._max_lag is None)
        self._children[member] = spawned(member, self.folder, *arguments)

    def runner_of(self, member: str) -> int:
        """The process of the member's runner."""
        pid = self._children[member].pid
        assert pid is not None, f"{member} is not run"
        return pid

    async def close(self) -> None:
        """Stop all members at once, so that none of them waits for another one."""
        await self.client.__aexit__(None, None, None)
        await asyncio.gather(*(child.stop(signal.SIGTERM, STOP_SECONDS_MAX) for child in self._children.values()))

    def log_of(self, member: str) -> str:
        """What a member's runner, its hooks and its server have said."""
        return self._children[member].log.read_text(errors="replace")

    async def row(self) -> GroupState:
        """How it stands with the group."""
        return await self.client.row(GROUPS, GROUP, consistency="strong")

    async def whole(self) -> GroupState:
        """Wait until a primary serves, the others follow it, and acknowledgements rest on all, if on any."""

        async def stands() -> GroupState | None:
            row = await self.row()
            follow = all(member.status == "active" for member in row.members)
            return row if row.serving and follow and (row.in_sync == MEMBERS or not row.synchronous) else None

        return await within(stands, "not all members are in sync")

    async def kill_primary(self) -> tuple[str, float]:
        """SIGKILL to all of the primary's PostgreSQL. Returns who that was, and when."""
        primary = (await self.row()).primary
        assert primary is not None, "nobody leads"
        pid = self.servers[primary].pid
        assert pid is not None, f"{primary} does not run"
        # The server itself first, or it would begin anew when it sees the end of one of its processes.
        killed_at = time.monotonic()
        for one in (pid, *below(pid)):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        return primary, killed_at

    def kill_runner(self, member: str) -> None:
        """SIGKILL to the member's runner, as if its host were lost: its warden ends the rest."""
        self._children[member].kill()

    async def first_after(self, epoch: int) -> Acknowledged:
        """Wait for the first row that the primary of a later epoch has acknowledged."""

        async def found() -> Acknowledged | None:
            assert self.writing is not None, "nobody writes"
            if self.writing.done():
                # It writes for ever: whatever has ended it is what has gone wrong here.
                self.writing.result()
            return next((one for one in self.acknowledged if one.epoch > epoch), None)

        return await within(found, f"no row was acknowledged after epoch {epoch}")

    def begin_writing(self) -> None:
        """Write rows from now on; a failover is waited out."""
        self.writing = asyncio.create_task(self._writer.write())

    async def end_writing(self) -> None:
        """Write no more."""
        if self.writing is not None:
            self.writing.cancel()
            await asyncio.wait([self.writing])

    async def missing(self) -> dict[str, int]:
        """End the writing; by member, how many of the acknowledged rows it does not have."""
        return {member: len(self._writer.lacking(rows)) for member, rows in (await self.held()).items()}

    async def held(self) -> dict[str, set[int]]:
        """End the writing; by member, the rows that it has."""
        await self.end_writing()
        row = await self.whole()
        assert row.primary is not None, "nobody leads"
        at = await self.asked(row.primary, "SELECT pg_current_wal_lsn()::text")
        held = {}
        for member in MEMBERS:
            # A standby has what it has received on its disk; what can be read there comes a little later.
            replayed = (
                "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() >= $1::text::pg_lsn ELSE true END"
            )

            async def has_replayed(member: str = member, query: str = replayed) -> bool | None:
                return await self.asked(member, query, at) or None

            await within(has_replayed, f"{member} has not replayed all")
            held[member] = set(await self.asked(member, "SELECT array_agg(row) FROM written"))
        return held

    async def asked(self, member: str, query: str, *arguments: object) -> Any:
        """The one value that the member's server answers with."""
        connection = await connected(self.servers[member].address, self._password)
        try:
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()


async def within(asked: Callable[[], Awaitable[Found | None]], why: str) -> Found:
    """What is asked for, as soon as it is not None. Raises NotInTime."""
    ends_at = time.monotonic() + WAIT_SECONDS_MAX
    while (found := await asked()) is None:
        if time.monotonic() > ends_at:
            raise NotInTime(why)
        await asyncio.sleep(PAUSE_SECONDS)
    return found


def below(pid: int) -> list[int]:
    """The process's children."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def spawned(name: str, folder: Path, *arguments: str) -> ChildProcess:
    """Python with these arguments, as a child in a folder of its own below this one."""
    child = ChildProcess(name, folder / f"{name}.process")
    os.environ["PYTHONPATH"] = str(ROOT)  # a child's working directory is its own folder
    with child.folder_held():
        child.spawn([sys.executable, *arguments])
    return child


@asynccontextmanager
async def postgres_group(folder: Path, *, max_lag: int | None = None) -> AsyncIterator[PostgresGroup]:
    """A controller and the members, as long as the block runs, with the writer."""
    http = f"127.0.0.1:{free_port()}"
    controller = spawned("controller", folder, "-m", "muster", "up", "--data", str(folder / "log"), "--http", http)
    try:
        async with members_of(PostgresGroup(folder, f"http://{http}", max_lag=max_lag)) as group:
            yield group
    finally:
        await controller.stop(signal.SIGTERM, STOP_SECONDS_MAX)


@asynccontextmanager
async def members_of(group: PostgresGroup) -> AsyncIterator[PostgresGroup]:
    """The members of the group, as long as the block runs, with the writer."""
    try:
        await group.open()
        group.begin_writing()
        try:
            yield group
        finally:
            await group.end_writing()
    finally:
        await group.close()
