"""What goes wrong between the members of a group and their controllers, as one seed has it.

A host has one fault of its processes at a time, and one of its network beside it. So what is to end a primary whose runner hangs,
the warden, hangs only where whole hosts freeze.
"""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random
from typing import Final, NamedTuple, cast

from muster.client.control.groups import failover_id
from muster.wire.error import MusterError
from tests.processes.groups.hosts import GROUP, Host, Hosts, Part, signalled
from tests.processes.shard_cluster import eventually

LIKELY: Final = {
    ("kill", "command"): 3,
    ("kill", "runner"): 3,
    ("kill", "host"): 2,
    ("kill", "warden"): 1,
    ("stop", "command"): 2,
    ("stop", "runner"): 3,
    ("stop", "warden"): 1,
    ("cut", "both"): 2,
    ("cut", "answers"): 2,
    ("cut", "requests"): 2,
    ("cut", "one controller"): 1,
    ("reset", "both"): 2,
    ("kill", "controller"): 3,
    ("stop", "controller"): 2,
    ("switch", "wanted"): 3,
    ("switch", "given up"): 2,
}
"""How likely each fault is, by what is done to what."""
FROZEN: Final = {("stop", "host"): 8, ("stop", "guards"): 5}
"""Those that no clock protects from: a host stands still as a whole, or all on it that would end the primary."""


class Fault(NamedTuple):
    """At so many seconds this is done to `part` of a host, of whoever leads at that time if it is `leading`, for so long."""

    at: float
    what: str
    part: str
    whose: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.at:.1f} s: {self.what} {self.part} ({self.whose}) for {self.seconds:.1f} s"


def planned(chance: Random, seconds: float, hosts: list[str], *, lease_seconds: float, frozen: bool) -> list[Fault]:
    """As the dice fall, in so many seconds; mostly it happens to whoever leads, and mostly for longer than a lease."""
    likely = LIKELY | (FROZEN if frozen else {})
    at = chance.uniform(0.2, 1.0)
    # Whatever else falls: there is another epoch in each round.
    found = [Fault(at, "kill", "command", "leading", 0.0)]
    at += lease_seconds
    while at < seconds:
        [(what, part)] = chance.choices(list(likely), list(likely.values()))
        whose = "leading" if chance.random() < 0.75 else chance.choice(hosts)
        found.append(Fault(at, what, part, whose, lease_seconds * chance.choice((0.3, 1.2, 1.6, 2.5))))
        at += chance.uniform(0.2, 1.2) * lease_seconds
    return found


class Nemesis:
    """Brings the faults about; one that comes while its victim has another is left out. `counts` are those that were."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.counts: Counter[str] = Counter()
        self._struck: set[str] = set()

    async def strike(self, faults: list[Fault]) -> None:
        """All of them, each at its time; returns when the last one is over and everything is whole again."""
        async with asyncio.TaskGroup() as group:
            for fault in faults:
                group.create_task(self._strike(fault), name=str(fault))

    async def _strike(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at)
        if fault.part == "controller":
            name = await self.hosts.writer_of_group()
            with self._alone("controllers", fault) as alone:
                if alone:
                    await self._controller(name, fault)
            return
        host = self.hosts.leading() if fault.whose == "leading" else self.hosts.hosts[fault.whose]
        key = {"switch": "switch", "cut": f"{host.name}'s network", "reset": f"{host.name}'s network"}.get(
            fault.what, host.name
        )
        with self._alone(key, fault) as alone:
            if alone:
                await self._host(host, fault)

    @contextmanager
    def _alone(self, victim: str, fault: Fault) -> Iterator[bool]:
        if victim in self._struck:
            yield False
            return
        self._struck.add(victim)
        self.counts[f"{fault.what} {fault.part}"] += 1
        try:
            yield True
        finally:
            self._struck.remove(victim)

    async def _controller(self, name: str, fault: Fault) -> None:
        child = self.hosts.children[name]
        if fault.what == "stop":
            child.suspend()
            try:
                await asyncio.sleep(fault.seconds)
            finally:
                child.resume()
        else:
            child.kill()
            await asyncio.sleep(fault.seconds / 2)
            self.hosts.start(name)

    async def _host(self, host: Host, fault: Fault) -> None:
        match fault.what:
            case "kill":
                host.signal(cast("Part", fault.part), signal.SIGKILL)
                # Until there is a successor of what was killed: a runner that is stopped just then could start none.
                await eventually(lambda: _has_warden(host))
            case "stop":
                # The command goes on first: whatever it was just about to write, it writes before anybody has looked at a clock.
                pids = await host.stopped(cast("Part", fault.part))
                try:
                    await asyncio.sleep(fault.seconds)
                finally:
                    signalled(pids, signal.SIGCONT)
            case "cut" | "reset":
                await self._network(host, fault)
            case "switch":
                await self._switch(fault)

    async def _network(self, host: Host, fault: Fault) -> None:
        relays = host.relays[:1] if fault.part == "one controller" else host.relays
        try:
            for one in relays:
                if fault.what == "reset":
                    one.reset()
                else:
                    one.cut(requests=fault.part != "answers", answers=fault.part != "requests")
            await asyncio.sleep(fault.seconds)
        finally:
            for one in relays:
                one.mend()

    async def _switch(self, fault: Fault) -> None:
        # Nobody may be able to take over just now, or another failover be under way, or there is no controller.
        with suppress(MusterError, TimeoutError):
            async with asyncio.timeout(fault.seconds):
                written = await self.hosts.client.groups.failover(GROUP, reason="a switch among faults")
                if fault.part == "given up" and written.incarnation is not None:
                    await self.hosts.client.sagas.tell(failover_id(GROUP, written.incarnation), "abort")


async def _has_warden(host: Host) -> bool:
    return bool(host.pids("warden"))
