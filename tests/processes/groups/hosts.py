"""The members of a group as if each had a host of its own: a runner, its warden and what they run, behind relays of its own; and
the controllers, one that keeps its log itself or two on a Kafka.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import orjson

from examples.demo.stage import all_events
from infra.local.child import ChildProcess, free_port, is_stopped
from muster import Client
from muster.wire.groups.answers import GroupState
from muster.wire.registry.answers import Event
from tests.muster.group.relay import Relay, relay
from tests.processes.groups.entries import Entry, read_entries
from tests.processes.groups.group_cluster import processes
from tests.processes.process_on_kafka import cluster_key
from tests.processes.shard_cluster import ROOT, eventually

GROUP: Final = "db"
WRITER: Final = str(Path(__file__).with_name("writer.py"))

Part = Literal["runner", "warden", "command", "guards", "host"]
"""Of what runs on a host: the runner, the warden, what they run, the first two, or all of it."""


class Log(NamedTuple):
    """Where the controllers keep their log: in a folder, or on a Kafka under a prefix."""

    kafka: str | None = None
    prefix: str = "muster"

    def options(self, folder: Path) -> tuple[str, ...]:
        """As every command wants them that opens the log."""
        return ("--data", str(folder)) if self.kafka is None else ("--kafka", self.kafka, "--prefix", self.prefix)


class Host:
    """One member's processes. It is kept up: `keep` starts its runner again whenever that has ended."""

    def __init__(self, name: str, folder: Path, relays: list[Relay], writer: tuple[str, ...]) -> None:
        self.name = name
        self.relays = relays
        self.child = ChildProcess(name, folder / name)
        self.starts = 0
        self._writer = writer
        self._is_down = asyncio.Event()

    async def keep(self) -> None:
        """Start the runner, and again a moment after each end."""
        urls = ",".join(one.url for one in self.relays)
        line = ("--as", self.name, "--stop-timeout", "2", "--url", urls, "--", sys.executable, *self._writer)
        while True:
            spawned(self.child, "group", "run", GROUP, *line)
            self.starts += 1
            while self.child.pid is not None:  # noqa: ASYNC110 the end of a process sets no event
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.2)

    def pids(self, part: Part) -> list[int]:
        """The processes of this part that run now; the commands first."""
        runner, found = self.child.pid, processes()
        if runner is None:
            return []
        tree = _below(runner, [(pid, parent) for pid, parent, _ in found])
        wardens = [pid for pid, parent, line in found if parent == runner and "process.warden" in line]
        # The runner has it on its own command line too.
        commands = [pid for pid, _, line in found if pid in tree - {runner} and WRITER in line]
        match part:
            case "runner":
                return [runner]
            case "warden":
                return wardens
            case "command":
                return commands
            case "guards":
                return [runner, *wardens]
            case "host":
                return [*sorted(tree - {runner, *wardens}), *wardens, runner]

    def signal(self, part: Part, number: signal.Signals) -> list[int]:
        """Send the signal to all of this part; those that it was sent to."""
        return signalled(self.pids(part), number)

    async def stopped(self, part: Part) -> list[int]:
        """Stop all of this part, also what has been started meanwhile; returns when nothing of it runs, with what was stopped."""
        pids: list[int] = []
        while fresh := [pid for pid in self.pids(part) if pid not in pids]:
            pids += signalled(fresh, signal.SIGSTOP)
            await eventually(lambda fresh=fresh: _all_stopped(fresh), 10.0)
        return pids


class Hosts:
    """The controllers `c1`…, the hosts `db1`…, and the file that what runs on the hosts appends to."""

    def __init__(self, folder: Path, log: Log, *, members: int, guarded: bool, manners: dict[str, list[str]]) -> None:
        self.folder, self.log = folder, log
        self.file = folder / "entries"
        self.gate = folder / "gate"
        self.controllers = {name: free_port() for name in (("c1",) if log.kafka is None else ("c1", "c2"))}
        self.children = {name: ChildProcess(name, folder / name) for name in self.controllers}
        self.hosts: dict[str, Host] = {}
        # Asks the controllers themselves, past all relays.
        self.client = Client([self.url(name) for name in self.controllers], timeout_seconds=60.0)
        self._members = [f"db{number}" for number in range(1, members + 1)]
        self._guard = ("--guard", str(folder / "guard")) if guarded else ()
        self._manners = manners
        self._keeping: dict[str, asyncio.Task[None]] = {}

    def url(self, controller: str) -> str:
        """The controller's own address."""
        return f"http://127.0.0.1:{self.controllers[controller]}"

    def start(self, controller: str) -> None:
        """Start the controller, again on what it has left."""
        own = ("--data", str(self.folder / controller / "data"), "--cluster-key", str(cluster_key(self.folder)))
        where = self.log.options(self.folder / "log") + (() if self.log.kafka is None else own)
        spawned(self.children[controller], "up", "--http", f"127.0.0.1:{self.controllers[controller]}", *where)

    async def open(self, stack: AsyncExitStack, **settings: Any) -> None:
        """Start everything; returns when the group is led and its primary writes."""
        for controller in self.controllers:
            self.start(controller)
        await stack.enter_async_context(self.client)
        await self.client.groups.create(GROUP, dict.fromkeys(self._members, 1), **settings)
        for member in self._members:
            relays = [await stack.enter_async_context(relay(self.url(name))) for name in self.controllers]
            for one in relays:
                one.instead = {
                    self.url(name).encode(): way.url.encode()
                    for name, way in zip(self.controllers, relays, strict=True)
                }
            writer = (WRITER, str(self.file), *self._guard, "--gate", str(self.gate), *self._manners.get(member, ()))
            host = self.hosts[member] = Host(member, self.folder, relays, writer)
            self._keeping[member] = asyncio.create_task(host.keep(), name=f"keeper of {member}")
        await self.until(lambda row: row.serving and all(member.status == "active" for member in row.members))
        await self.writes(0)

    async def until(self, holds: Callable[[GroupState], bool], seconds: float = 60.0) -> GroupState:
        """Wait until the group stands like this."""

        async def asked() -> GroupState | None:
            row = await self.client.groups.one(GROUP, consistency="strong")
            return row if holds(row) else None

        return await eventually(asked, seconds)

    async def writes(self, behind: int, seconds: float = 60.0) -> Entry:
        """Wait until somebody has written for an epoch behind this one."""

        async def written() -> Entry | None:
            return next((entry for entry in self.entries() if entry.epoch > behind), None)

        return await eventually(written, seconds)

    def entries(self) -> list[Entry]:
        """The file so far."""
        return read_entries(self.file)

    def refusals(self) -> int:
        """How often the guard has refused a writer."""
        refused = Path(f"{self.file}.refused")
        return refused.read_bytes().count(b"\n") if refused.exists() else 0

    def stand_at_gate(self) -> bool:
        """Whether a writer stands still between its look and its append."""
        return Path(f"{self.gate}.reached").exists()

    def leading(self) -> Host:
        """The host that has written last: whatever the controllers know, it is worth while to disturb that one."""
        entries = self.entries()
        return self.hosts[entries[-1].member] if entries else next(iter(self.hosts.values()))

    async def writer_of_group(self) -> str:
        """The controller that writes the group's partition; any one while that is not known."""
        for name in self.controllers:
            with suppress(Exception):
                async with Client(self.url(name), timeout_seconds=0.5) as client:
                    partition = (await client.events(stream=f"group/{GROUP}", limit=1)).items[0].partition
                    rows = (await client.status())["partitions"]
                if rows[partition]["state"] == "reigning":
                    return name
        return next(iter(self.controllers))

    async def events(self) -> list[Event]:
        """All that is in the log."""
        return await all_events(self.client)

    async def verified(self) -> dict[str, Any]:
        """What `muster verify --fold --moves` says of the log, once controllers and hosts have ended."""
        arguments = ("-m", "muster", "verify", "--fold", "--moves", "--json", *self.log.options(self.folder / "log"))
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT, stdout=pipe, stderr=pipe)
        out, error = await process.communicate()
        assert out, error.decode()
        found: dict[str, Any] = orjson.loads(out)
        return found

    async def stop(self) -> None:
        """Stop the hosts in order, then the controllers."""
        for keeping in self._keeping.values():
            keeping.cancel()
        hosts = [host.child.stop(signal.SIGTERM, 30.0) for host in self.hosts.values()]
        await asyncio.gather(*hosts)
        await asyncio.gather(*(child.stop(signal.SIGTERM, 30.0) for child in self.children.values()))

    def kill(self) -> None:
        """Kill whatever runs still."""
        for keeping in self._keeping.values():
            keeping.cancel()
        for host in self.hosts.values():
            # A warden that is stopped would be left behind.
            host.signal("host", signal.SIGKILL)
            host.child.kill()
        for child in self.children.values():
            child.kill()


def signalled(pids: list[int], number: signal.Signals) -> list[int]:
    """Send them the signal; those that were still there."""
    found = []
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            found.append(pid)
    return found


def spawned(child: ChildProcess, *arguments: str) -> None:
    """Start it as a process of `muster`."""
    os.environ["PYTHONPATH"] = str(ROOT)  # a child's working directory is its own folder
    with child.folder_held():
        child.spawn([sys.executable, "-m", "muster", *arguments])


async def _all_stopped(pids: list[int]) -> bool:
    return all(is_stopped(pid) for pid in pids)


def _below(root: int, parents: list[tuple[int, int]]) -> set[int]:
    found, ahead = {root}, [root]
    while ahead:
        parent = ahead.pop()
        fresh = [pid for pid, other in parents if other == parent and pid not in found]
        found.update(fresh)
        ahead += fresh
    return found


@asynccontextmanager
async def running_hosts(
    folder: Path,
    log: Log,
    *,
    members: int = 3,
    guarded: bool,
    manners: dict[str, list[str]] | None = None,
    **settings: Any,
) -> AsyncIterator[Hosts]:
    """A group on hosts, whose processes end with the block."""
    hosts = Hosts(folder, log, members=members, guarded=guarded, manners=manners or {})
    async with AsyncExitStack() as stack:
        try:
            await hosts.open(stack, **settings)
            yield hosts
        finally:
            hosts.kill()
