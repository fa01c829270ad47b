"""A controller and the runners of a group's members as real processes, and the journal of what they run."""

import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp

from infra.local.child import ChildProcess, free_port
from muster import Client
from muster.wire.groups.answers import GROUPS, GroupState, MemberState
from tests.processes.shard_cluster import ROOT, eventually

GROUP: Final = "db"
LEADER: Final = (sys.executable, str(Path(__file__).with_name("leader.py")))


class Entry(NamedTuple):
    """A line of the journal."""

    at: float
    epoch: int
    member: str
    pid: int


class GroupCluster:
    """The processes by name: `up`, and the runners of members. `journal` is where what they run writes."""

    def __init__(self, folder: Path, url_of_port: int) -> None:
        self.folder = folder
        self.journal = folder / "journal"
        self.url = f"http://127.0.0.1:{url_of_port}"
        self._port = url_of_port
        self.children: dict[str, ChildProcess] = {}
        self.client = Client(self.url, timeout_seconds=30.0)

    async def open(self, **settings: Any) -> None:
        """Start the controller, with the group of db1, which leads if it can, and db2."""
        self._spawn("up", "up", "--data", str(self.folder / "log"), "--http", f"127.0.0.1:{self._port}")
        await self.client.__aenter__()
        await self.client.services()
        members = [{"member": "db1", "priority": 10}, {"member": "db2"}]
        await self.ask("PUT", "", {"members": members, **settings})

    async def ask(self, method: str, path: str, body: dict[str, Any]) -> None:
        """An operator's wish for the group."""
        url = f"{self.url}/v1/groups/{GROUP}{path}"
        async with aiohttp.ClientSession() as session, session.request(method, url, json=body) as answer:
            assert answer.status == 200, await answer.text()

    def run(self, member: str, *options: str, name: str = "", command: tuple[str, ...] | None = None) -> None:
        """Start the member's runner; what it runs writes into the journal, unless another command is given."""
        line = (*LEADER, str(self.journal)) if command is None else command
        self._spawn(name or member, "group", "run", GROUP, "--as", member, "--url", self.url, *options, "--", *line)

    async def lead(self, *members: str, manners: tuple[str, ...] = (), options: tuple[str, ...] = ()) -> None:
        """Start the runners; return when the first one leads and serves, and the others are ready."""
        for member in members:
            self.run(member, *options, command=(*LEADER, str(self.journal), *manners))
            await self.until(lambda row, name=member: member_of(row, name).status == "active")
        await self.until(lambda row: row.primary == members[0] and row.serving)
        await self.beats(1)

    async def row(self) -> GroupState:
        """The group now."""
        return await self.client.row(GROUPS, GROUP, consistency="strong")

    async def until(self, holds: Callable[[GroupState], bool], seconds: float = 60.0) -> GroupState:
        """Wait until the group stands like this."""

        async def asked() -> GroupState | None:
            row = await self.row()
            return row if holds(row) else None

        return await eventually(asked, seconds)

    async def beats(self, epoch: int) -> Entry:
        """Wait for an entry of the epoch."""

        async def written() -> Entry | None:
            return next((entry for entry in reversed(self.entries()) if entry.epoch == epoch), None)

        return await eventually(written)

    def entries(self) -> list[Entry]:
        """The journal so far."""
        lines = self.journal.read_text().splitlines() if self.journal.exists() else []
        fields = [line.split() for line in lines]
        return [Entry(float(at), int(epoch), member, int(pid)) for at, epoch, member, pid in fields]

    def check_journal(self) -> list[int]:
        """Nobody has written for an epoch after anyone has for a later one. Returns the epochs."""
        entries = self.entries()
        for earlier, later in pairwise(entries):
            assert later.epoch >= earlier.epoch, f"{later} stands behind {earlier}"
            assert later.epoch == earlier.epoch or later.at > earlier.at, f"{later} was there before {earlier} ended"
        return sorted({entry.epoch for entry in entries})

    async def endings(self) -> list[tuple[int, str, str]]:
        """How the epochs have ended: epoch, how, and in words."""
        found = await self.client.newest_events(type="primary_ended")
        return [(event.data["epoch"], event.data["how"], event.data["detail"]) for event in found.items]

    def log_of(self, name: str) -> str:
        """What the process has said."""
        log = self.children[name].log
        return log.read_text(errors="replace") if log.exists() else ""

    async def says(self, name: str, text: str, times: int = 1) -> None:
        """Wait until the process has said this."""

        async def said() -> bool:
            return self.log_of(name).count(text) >= times

        try:
            await eventually(said)
        except TimeoutError:
            raise AssertionError(f"{name} has not said {text!r}, but: {self.log_of(name)[-2_000:]}") from None

    @contextmanager
    def nobody_listens(self) -> Iterator[None]:
        """The controller is killed, and its port kept from the servers of other tests: connections to it are refused."""
        self.children["up"].kill()
        with socket.socket() as held:
            # What the killed one has left in TIME_WAIT does not count; but that must be nobody else's way in here.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", self._port))
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            yield

    async def exit_code(self, name: str) -> int:
        """Wait for the end of the process."""
        process = self.children[name]._process
        assert process is not None

        async def ended() -> tuple[int] | None:
            code = process.poll()
            return None if code is None else (code,)

        return (await eventually(ended))[0]

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send the runner a signal."""
        pid = self.children[name].pid
        assert pid is not None, f"{name} does not run"
        os.kill(pid, number)

    def warden_of(self, name: str) -> int:
        """The process id of the runner's warden."""
        runner = self.children[name].pid
        found = [pid for pid, parent, line in processes() if parent == runner and "process.warden" in line]
        assert len(found) == 1, found
        return found[0]

    async def close(self) -> None:
        """Kill whatever runs still."""
        await self.client.__aexit__(None, None, None)
        for name, child in sorted(self.children.items(), key=lambda one: one[0] == "up"):
            child.resume()
            if name != "up" and child.pid is not None:
                # In order: the command and the warden end with it.
                await child.stop(signal.SIGTERM, 20.0)
            child.kill()
        for pid in {entry.pid for entry in self.entries()}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _spawn(self, name: str, *arguments: str) -> None:
        child = self.children.setdefault(name, ChildProcess(name, self.folder / name))
        os.environ["PYTHONPATH"] = str(ROOT)  # a child's working directory is its own folder
        with child.folder_held():
            child.spawn([sys.executable, "-m", "muster", *arguments])


def processes() -> list[tuple[int, int, str]]:
    """All processes that have not ended: id, parent, command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append((int(folder.name), int(parent), line))
    return found


def runs(pid: int) -> bool:
    """Whether the process has not ended."""
    return any(pid == one for one, _, _ in processes())


def now() -> float:
    """The clock of the journal."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def member_of(row: GroupState, name: str) -> MemberState:
    """The member in the row."""
    return next(member for member in row.members if member.member == name)


@asynccontextmanager
async def group_cluster(folder: Path, **settings: Any) -> AsyncIterator[GroupCluster]:
    """A controller with a group, whose processes end with the block."""
    cluster = GroupCluster(folder, free_port())
    try:
        await cluster.open(**settings)
        yield cluster
    finally:
        await cluster.close()
