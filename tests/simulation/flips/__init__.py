"""A seeded simulation of checks that fail together: ways that are cut, instances that die, controllers that are killed meanwhile.

The controllers, their rivalry, their broker and their clients are those of `tests.simulation`; all that holds there holds here.
Beside it each controller has a way of its own to a service of some instances, which is cut now and then; instances die, alone
or together; hosts report, rightly or not, clients tell what they see, and operators believe. `make sim SEED="flips 7"` plays a
history again.

Now and then all machines stand still, and somebody sets the clock of one, rightly or not.

At each fall: when more than half of the service, and at least three, have fallen within 2 s by the controller's own checks
alone, all of these are served. A doubt ends when somebody else says so, when an operator does, when its checks succeed, or
when its time is over, and not before. At the end, in peace, nobody is in doubt, the truth is served, and `verify` is content.

What falls together is told by the instants of events, as they are all that a decision knows. How long a doubt lasts is not:
where a clock is wrong they say nothing about that, and while all stand still they go on and the doubt's time does not.
"""

import asyncio
from dataclasses import replace
from typing import Any, Final

from domain.message import Recorded
from domain.registry import service as s
from domain.registry.doubt.opinion import WeighClients
from infra.log.codec import CloudEventMapper
from muster.wire.command import Command, Envelope
from muster.wire.registry.check import TcpCheck, TtlCheck
from muster.wire.registry.spec import Spec
from muster.wire.telemetry.loads import ClientsWord
from tests.sample import NOON
from tests.simulation import KINDS as SIMULATED
from tests.simulation import Asked, Simulation
from tests.simulation.broker import Broker
from tests.simulation.controller import Controller, Store
from tests.simulation.flips.controller import SERVICE, STREAM, FleetController, skew_seconds, window_seconds
from tests.simulation.flips.doubts import Doubts
from workers.audit.verify import walk
from workers.machine.deadlines import step_max_seconds

read_seconds: Final = 0.1
INSTANCES: Final = ("f0", "f1", "f2", "f3", "f4")
READY: Final = TcpCheck(host="10.0.0.7", port=80, name="ready", interval_seconds=0.5)
ADMIN: Final = replace(READY, port=81, name="admin")
HOST: Final = TtlCheck(ttl_seconds=4.0, name="host")
KINDS: Final = {
    **SIMULATED,
    "ask": 8,
    "observe": 1,
    "late tick": 0.2,
    "clock is set": 0.3,
    "want": 1.5,
    "crash": 1.5,
    "cut": 4,
    "dies": 1,
    "all die": 0.7,
    "revives": 2,
    "arrives": 6,
    "leaves": 0.3,
    "heartbeat": 3,
    "report": 3,
    "believe": 0.4,
    "clients": 3,
}
"""What happens, and how often beside the others."""


class Flips(Simulation):
    """One history. `run` plays it and returns its hash; `counts` says what happened in it."""

    def __init__(self, seed: int) -> None:
        self.cut: dict[str, float] = {}
        self.dead: set[str] = set()
        self.doubts = Doubts()
        self._read_at = self._stood_still_seconds = 0.0
        self._term = 0
        super().__init__(seed)
        self.kinds = KINDS

    def _controller(self, name: str, store: Store, *, fence: bool) -> Controller:
        return FleetController(name, self.broker, store, self.chance, self._reaches, fence=fence)

    def _reaches(self, controller: str, instance: str) -> bool:
        return instance not in self.dead and self.loop.time() >= self.cut.get(controller, 0.0)

    async def _run(self, steps: int) -> None:
        reading = asyncio.create_task(self._read_on())
        await super()._run(steps)
        reading.cancel()
        self.counts += self.doubts.counts

    async def _read_on(self) -> None:
        """Some steps take seconds: what was read behind them would seem to have happened all at once."""
        while True:
            await asyncio.sleep(read_seconds)
            try:
                self._read()
            except AssertionError as broken:
                self.broken = self.broken or broken
                return

    async def _happens(self, kind: str, controller: Controller) -> None:
        match kind:
            case "cut":
                # Mostly of who writes: it is the one that checks.
                writing = [one for one in self.controllers if one.writer.state == "reigning"] or [controller]
                length = self.chance.choice([0.7, 2.0, window_seconds + 3.0])
                self.cut[self.chance.choice(writing).name] = self.loop.time() + length
            case "dies":
                self.dead.add(self.chance.choice(INSTANCES))
            case "all die":
                self.dead |= set(INSTANCES)
            case "revives":
                self.dead -= set(self.chance.choice([INSTANCES, INSTANCES[:2], INSTANCES[3:]]))
            case "crash" | "stop":
                self.counts["taken over in doubt"] += self.doubts.is_doubted and controller.writer.state == "reigning"
                self.doubts.forgotten()
                await super()._happens(kind, controller)
            case "clock is set":
                assert isinstance(controller, FleetController)
                controller.set_clock()
            case "late tick":
                before = self.loop.time()
                await super()._happens(kind, controller)
                # So much of it a writer counts.
                self._stood_still_seconds += self.loop.time() - before - step_max_seconds
            case "clients":
                self._clients_say(controller)
            case "arrives" | "leaves" | "heartbeat" | "report" | "believe":
                self._tell(kind)
            case _:
                await super()._happens(kind, controller)

    def _clients_say(self, controller: Controller) -> None:
        """What clients on four hosts have seen: mostly the truth, but one may lie, or stand apart; or be the only one."""
        words = []
        for row in controller.views.instances.get(SERVICE, {}).values():
            failing = 4 if row.id in self.dead else 0
            failing += self.chance.choice([0, 0, 1 if failing == 0 else -1])
            counts = {"clients": 4, "failing": failing, "answering": 4 - failing}
            if self.chance.random() < 0.2:
                counts = {"clients": 1, "failing": 1, "answering": 0}
            words.append(ClientsWord(instance=row.id, incarnation=row.incarnation, **counts))
        if words:
            controller.writer.observe(STREAM, WeighClients(words=tuple(words)))

    def _tell(self, kind: str) -> None:
        """What the instances of the service, their hosts and operators say, to whoever writes."""
        envelope = Envelope(f"{kind}-{len(self.asked)}", STREAM, self._told(kind), "ann")
        self.asked[envelope.id] = envelope
        if kind == "believe":
            self.doubts.told.add(envelope.id)
        for controller in self.controllers:
            if controller.writer.state == "reigning":
                self._submit(controller, Asked(envelope, self.reader.cursor.head_position))
                return

    def _told(self, kind: str) -> Command:
        name = self.chance.choice(INSTANCES)
        match kind:
            case "arrives":
                return s.RegisterInstance(instance=name, spec=self._fleet_spec(name))
            case "leaves":
                return s.DeregisterInstance(instance=name)
            case "heartbeat":
                return s.Heartbeat(instance=name)
            case "report":
                check = self.chance.choice(["reported", HOST.name])
                return s.ReportHealth(instance=name, status=self.chance.choice(["healthy", "unhealthy"]), check=check)
            case _:
                return s.BelieveChecks(instances=self.chance.choice([(), (name,)]))

    def _fleet_spec(self, name: str) -> Spec:
        # Some have a second check of the controller's own, some one of their host; some leave when they were ill for long.
        checks: tuple[Any, ...] = {"f0": (READY, ADMIN), "f1": (READY, HOST)}.get(name, (READY,))
        after = {"f2": 1.0}.get(name)
        return Spec(address="10.0.0.7", port=80, checks=checks, deregister_after_seconds=after)

    def _read(self) -> None:
        # While nobody writes, or nothing is stored, no doubt can end.
        now = self._awake_seconds
        broker = self.broker
        assert isinstance(broker, Broker)
        if broker.full or broker.away or all(one.writer.state != "reigning" for one in self.controllers):
            self.doubts.idle_seconds += now - self._read_at
        self._read_at = now
        self.doubts.clocks(right=self._clocks_are_right())
        super()._read()

    @property
    def _awake_seconds(self) -> float:
        """How much time has passed in which the machines ran: what stands still misses nothing."""
        return self.loop.time() - self._stood_still_seconds

    def _clocks_are_right(self) -> bool:
        """Those of all controllers; and no instant in the log is still to come."""
        newest = self.history[-1].at if self.history else NOON
        ahead = (newest - NOON).total_seconds() - self.loop.time()
        return ahead <= skew_seconds and all(
            one.is_right for one in self.controllers if isinstance(one, FleetController)
        )

    def _note(self, recorded: list[Recorded]) -> None:
        term = self.views.cursors[0].term
        if term != self._term:
            self._term = term
            self.doubts.taken_over(self._awake_seconds, self.history[-1].at if self.history else NOON)
        super()._note(recorded)
        self.doubts.take([told for told in recorded if told.stream == STREAM], self._awake_seconds)

    async def _calm_down(self) -> None:
        """In peace: the window has passed once more, and what is served is the truth."""
        self.broker.calm = True
        self.cut.clear()
        self.dead = {name for name in INSTANCES if self.chance.random() < 0.5}
        first = self.controllers[0]
        for controller in self.controllers:
            controller.want(wanted=controller is first)
        await asyncio.sleep(30 + 2 * window_seconds)
        self._check()
        assert not self.doubts.is_doubted, "a doubt stands for ever"
        for row in first.views.instances.get(SERVICE, {}).values():
            assert row.suspect is None, f"{row.id} is suspect for ever"
            found = {row.checks[check.name].status for check in row.spec.checks if not isinstance(check, TtlCheck)}
            # A retry may have asked for something else of it, and brought an instance that nobody checks.
            assert found <= {"unhealthy" if row.id in self.dead else "healthy"}, f"{row.id}: {found} is not the truth"
            assert row.discoverable == (row.health == "healthy"), f"{row.id} is served, and it is {row.health}"
        await super()._calm_down()
        segment = await walk(first.writer.log, CloudEventMapper(), fold=True, partitions=1)
        assert segment.breach is None, segment.breach
        assert segment.end == first.partition.cursor, "verify ends before the log does"
