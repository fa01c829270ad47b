"""Members of failover groups that renew at the pace of real runners, in a process of their own, as many as there are.

    python -m benchmarks.load.renewer HOST PORT PID GROUPS PROCESSES SECONDS controller|floor

Makes the groups with three members each, lets them join, be ready and be promoted, and then renews. The members run in so many
processes: with one for each member a renewal is a request, as `muster group run` sends it; members of one process send theirs
in lists, as `muster.Membership` does, each list what is due within the time that renewals wait for one another. Beside it
each member watches its group. `floor`: the same requests to a server that answers anything, and no watches. PID is the
server's: its share of a core is taken over the seconds that are measured. Prints JSON.
"""

import asyncio
import http.client
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Final

import orjson
import uvloop

from benchmarks.load.http_load import head_end, request
from benchmarks.process import usage
from muster.group.renewals import gather_seconds_max

MEMBERS: Final = 3
STEP_SECONDS: Final = 1 / 6
PRIMARY_STEPS: Final = 2
STANDBY_STEPS: Final = 3
"""With a lease of two seconds a primary renews each sixth of it, and a standby at each heartbeat, of half a second."""
WARM_SECONDS: Final = 2.0
SLICE_GROUPS: Final = 50
"""So many groups are made at a time: their first primaries have to renew before the lease is over."""
PROMOTED_SECONDS_MAX: Final = 30.0
LISTS: Final = round(STEP_SECONDS / gather_seconds_max)
"""So many lists a process sends in turn: what is due at any moment goes with what is due a little later."""
SHARE: Final = (1 / PRIMARY_STEPS + (MEMBERS - 1) / STANDBY_STEPS) / MEMBERS
"""The share of the members that are due at a step."""
_RULES: Final = {"lease_seconds": 10.0, "threshold": 20}
"""They outlast the making of a slice on a busy machine; members renew as often as with those of two seconds."""
_HEADERS: Final = {"accept": "*/*", "accept_encoding": "gzip, deflate", "user_agent": "Python/3.11 aiohttp/3.13.2"}


@dataclass(slots=True)
class Runner:
    """A member's runner: what it knows of its membership."""

    group: str
    member: str
    incarnation: int = 7
    epoch: int | None = None
    phase: int = 0

    def is_due(self, step: int) -> bool:
        """Whether it renews at this step."""
        return (step + self.phase) % (STANDBY_STEPS if self.epoch is None else PRIMARY_STEPS) == 0

    @property
    def fields(self) -> dict[str, object]:
        """What a renewal says."""
        about: dict[str, object] = {"incarnation": self.incarnation}
        return about if self.epoch is None else {**about, "epoch": self.epoch}


@dataclass(slots=True)
class Tally:
    """What was answered while it was measured."""

    judges: bool
    measures: bool = False
    renewals: int = 0
    waited: list[float] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)


class Sender(asyncio.Protocol):
    """Members of one process whose renewals go together, and their connection: a request with those that are due at a step."""

    def __init__(self, runners: list[Runner], tally: Tally, ids: "count[int]") -> None:
        self.runners, self._tally, self._ids = runners, tally, ids
        self._loop = asyncio.get_running_loop()
        self._answer = b""
        self._due = 0.0
        self._step = 0
        self._asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def begin(self, at: float) -> None:
        """Renew from this instant of the loop on."""
        self._due = at
        self._loop.call_at(at, self._renew)

    def _renew(self) -> None:
        due = [runner for runner in self.runners if runner.is_due(self._step)]
        self._asked = len(due)
        if due:
            self._transport.write(self._request(due))  # type: ignore[attr-defined]
        else:
            self._wait(self._loop.time())

    def _wait(self, now: float) -> None:
        # By when it was due and not by when it was sent, so that a server that is late is not spared.
        self._due, self._step = max(self._due + STEP_SECONDS, now), self._step + 1
        self._loop.call_at(self._due, self._renew)

    def _request(self, due: list[Runner]) -> bytes:
        if len(self.runners) == 1:
            [runner] = due
            path = f"/v1/groups/{runner.group}/members/{runner.member}/renew"
            actor = f"member {runner.group}/{runner.member}"
            return request("POST", path, runner.fields, muster_actor=actor, idempotency_key=self._id(), **_HEADERS)
        commands = [
            {
                "id": self._id(),
                "type": "muster.group.renew.v1",
                "stream": f"group/{runner.group}",
                "data": {"member": runner.member, **runner.fields},
                "actor": f"member {runner.group}/{runner.member}",
            }
            for runner in due
        ]
        return request("POST", "/v1/commands", {"commands": commands}, idempotency_key=self._id(), **_HEADERS)

    def _id(self) -> str:
        return f"{next(self._ids):032x}"

    def data_received(self, data: bytes) -> None:
        answer = self._answer = self._answer + data
        head = head_end(answer)
        if head < 0:
            return
        self._answer = b""
        now = self._loop.time()
        if self._tally.measures:
            self._tally.waited.append(now - self._due)
            self._tally.renewals += self._asked
        if answer[9:12] != b"200" or (self._tally.judges and answer.count(b'"status":"unchanged"') != self._asked):
            self._tally.wrong[answer[head + 4 : head + 300].decode()] += 1
        self._wait(now)


class Watch(asyncio.Protocol):
    """A watch of one group, which is not looked at."""

    def __init__(self, group: str) -> None:
        self._group = group

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        asked = request("GET", f"/v1/watch/groups?group={self._group}", accept="text/event-stream")
        transport.write(asked)  # type: ignore[attr-defined]


class Groups:
    """Makes groups, and lets their members join and lead. Blocks: only this process waits for it."""

    def __init__(self, host: str, port: int) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=30)
        self._ids = count()

    async def lead(self, runners: list[Runner]) -> None:
        """Have the groups of these runners, each with its primary. Everything that blocks is short."""
        groups = sorted({runner.group for runner in runners})
        members = [{"member": f"m{number}"} for number in range(MEMBERS)]
        self._run([(group, "create", {"members": members, **_RULES}) for group in groups])
        joined = self._run([(one.group, "join", {"member": one.member, "process": "bench"}) for one in runners])
        for runner, outcome in zip(runners, joined, strict=True):
            runner.incarnation = outcome["incarnation"]
        self._run([(one.group, "report_member", self._said(one, outcome="ready")) for one in runners])
        await self._promoted(runners)
        leading = [one for one in runners if one.epoch is not None]
        self._run([(one.group, "report_serving", self._said(one, epoch=one.epoch)) for one in leading])

    async def _promoted(self, runners: list[Runner]) -> None:
        left, ends_at = {(one.group, one.member): one for one in runners}, time.monotonic() + PROMOTED_SECONDS_MAX
        groups = {one.group for one in runners}
        while groups:
            if time.monotonic() > ends_at:
                raise RuntimeError(f"{len(groups)} groups have no primary")
            for group in sorted(groups):
                row = self._asked("GET", f"/v1/groups/{group}")
                if row["primary"] is not None:
                    left[group, row["primary"]].epoch = row["epoch"]
                    groups.discard(group)
            await asyncio.sleep(0.01)

    def _said(self, runner: Runner, **more: object) -> dict[str, object]:
        return {"member": runner.member, "incarnation": runner.incarnation, **more}

    def _run(self, commands: list[tuple[str, str, dict[str, object]]]) -> list[dict[str, Any]]:
        body = [
            {
                "id": f"made-{next(self._ids)}",
                "type": f"muster.group.{verb}.v1",
                "stream": f"group/{group}",
                "data": data,
            }
            for group, verb, data in commands
        ]
        items: list[dict[str, Any]] = self._asked("POST", "/v1/commands", {"commands": body})["items"]
        if refused := [item["error"] for item in items if item["error"] is not None]:
            raise RuntimeError(f"{len(refused)} commands were refused: {refused[0]}")
        return items

    def _asked(self, method: str, path: str, body: object = None) -> Any:
        content = None if body is None else orjson.dumps(body)
        self._connection.request(method, path, content, {"Content-Type": "application/json"})
        return orjson.loads(self._connection.getresponse().read())


async def renewing(made: Groups | None, groups: int, processes: int, tally: Tally, host: str, port: int) -> None:
    """Have the groups, and let their members renew: a slice of groups at a time, the slices before go on meanwhile."""
    runners = [Runner(f"g{group}", f"m{member}") for group in range(groups) for member in range(MEMBERS)]
    count_max = processes if processes == len(runners) else processes * LISTS
    senders: list[Sender] = []
    ids, loop = count(), asyncio.get_running_loop()
    for first in range(0, len(runners), SLICE_GROUPS * MEMBERS):
        some = runners[first : first + SLICE_GROUPS * MEMBERS]
        if made is None:
            for runner in some[::MEMBERS]:
                runner.epoch = 1
        else:
            await made.lead(some)
            for runner in some:
                await loop.create_connection(partial(Watch, runner.group), host, port)
        for number, runner in enumerate(some, first):
            if len(senders) < count_max:
                # Not earlier: the server closes a connection on which nothing comes.
                _, sender = await loop.create_connection(partial(Sender, [runner], tally, ids), host, port)
                sender.begin(loop.time() + STEP_SECONDS * number / count_max)
                senders.append(sender)
            else:
                beside = senders[number % count_max].runners
                runner.phase = len(beside)
                beside.append(runner)


async def run(host: str, port: int, pid: int, groups: int, processes: int, seconds: float, *, real: bool) -> object:
    """Renew for so many seconds, after all groups have their primaries."""
    tally = Tally(judges=real)
    await renewing(Groups(host, port) if real else None, groups, processes, tally, host, port)
    await asyncio.sleep(WARM_SECONDS)
    tally.measures = True
    began, own, used = time.perf_counter(), time.process_time(), usage(pid).cpu_seconds
    await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    used, own = usage(pid).cpu_seconds - used, time.process_time() - own
    if tally.wrong:
        raise RuntimeError(f"{tally.wrong.total()} renewals were not accepted: {tally.wrong.most_common(1)}")
    waited = sorted(tally.waited)
    return {
        "renewals_per_second": tally.renewals / took,
        "requests_per_second": len(waited) / took,
        "p50_ms": waited[len(waited) // 2] * 1e3,
        "p99_ms": waited[int(len(waited) * 0.99)] * 1e3,
        "controller_core_percent": used / took * 100,
        "controller_us": used / tally.renewals * 1e6,
        "generator_core_percent": own / took * 100,
    }


if __name__ == "__main__":
    _, at_host, at_port, *numbers, what = sys.argv
    server, made_groups, in_processes = map(int, numbers[:3])
    told = run(at_host, int(at_port), server, made_groups, in_processes, float(numbers[3]), real=what == "controller")
    print(orjson.dumps(uvloop.run(told)).decode())
