"""Groups and their members, each run by `muster group run` in processes of its own, and what their hooks say."""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.bench import Bench
from benchmarks.controller import HOST, Controller
from benchmarks.groups.hook_line import HookLine, Line
from benchmarks.process import family, python, running
from benchmarks.shards.fleet import Fleet, Node
from muster.group.standing import steady_seconds

MEMBERS: Final = ("m1", "m2")
LEASE_SECONDS: Final = 2.0


@dataclass(slots=True)
class GroupFleet:
    """The runners by group and member. `urls`: of the controllers that they are told of."""

    bench: Bench
    there: Fleet
    urls: str
    stack: ExitStack
    lines: dict[str, HookLine] = field(default_factory=dict)

    def create(self, group: str, members: Sequence[str] = MEMBERS, **settings: Any) -> None:
        """Have a group, and run its members."""
        self.have(group, members, **settings)
        self.lines[group] = self.stack.enter_context(HookLine(self.bench.folder / f"{group}-{os.getpid()}.pipe"))
        for member in members:
            self.run(group, member)

    def have(self, group: str, members: Sequence[str] = MEMBERS, **settings: Any) -> None:
        """Have a group that nobody runs yet."""
        self.there.ask("PUT", f"/v1/groups/{group}", {"members": [{"member": one} for one in members], **settings})

    def run(self, group: str, member: str) -> None:
        """Start the member's runner: hooks and a command that say that they have begun, and the command that it has stopped."""
        line = self.lines[group]
        asleep = "while :; do sleep 1000 & wait $!; done"
        command = f"trap '{line.says('stops')}; exit 0' TERM; {line.says('serves')}; {asleep}"
        options = [
            "--as",
            member,
            "--url",
            self.urls,
            "--promote",
            line.says("promote"),
            "--demote",
            line.says("demote"),
        ]
        log = self.bench.folder / f"{group}-{member}.log"
        started = running(python("muster", "group", "run", group, *options, "--", "/bin/sh", "-c", command), log)
        self.there.nodes[f"{group}/{member}"] = Node(member, self.stack.enter_context(started), log)

    def row(self, group: str) -> dict[str, Any]:
        """How it stands with the group."""
        return self.there.ask("GET", f"/v1/groups/{group}")

    def stands(self, group: str) -> dict[str, Any]:
        """The group, once a primary serves and the other member could take over at once."""

        def whole() -> bool:
            row = self.row(group)
            return bool(row["serving"]) and all(member["status"] == "active" for member in row["members"])

        self.there.wait(whole, f"{group} to stand")
        return self.row(group)

    def runner(self, group: str, member: str) -> Node:
        """The member's runner."""
        return self.there.nodes[f"{group}/{member}"]

    def tree(self, group: str, member: str) -> Sequence[int]:
        """The runner and all that it has started, the runner first: it must not see the others end."""
        return list(family(self.runner(group, member).process.pid))

    def settled(self, group: str, seconds: float = steady_seconds) -> Line:
        """What the primary's command has said when it began, once the group stands and that is so long ago. What was said by then
        is forgotten.
        """
        row, lines = self.stands(group), self.lines[group]
        primary = lines.next("serves", row["epoch"])
        time.sleep(max(0.0, primary.at + seconds * min(1.0, self.bench.scale) - time.monotonic()))
        lines.forget()
        return primary


@contextmanager
def group_fleet(bench: Bench, controller: Controller, *others: Controller) -> Iterator[GroupFleet]:
    """No groups yet; all runners end with the block."""
    urls = ",".join(f"http://{HOST}:{one.port}" for one in (controller, *others))
    # What a runner has started ends with it: its warden sees to that.
    with ExitStack() as stack:
        yield GroupFleet(bench, Fleet(controller), urls, stack)


def signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    """The signal to all of them, in this order; some may have ended with those before."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
