"""A seeded simulation: clients, rival controllers, crashes, late ticks, a broker that behaves badly, and full disks.

The controllers are real down to where `KafkaLog` asks the broker (embedded: down to SQLite's file): writer, log, partition
machine, views, snapshots, all on one event loop whose clock moves only when everybody waits. Everything is drawn from one seed,
so that a seed is a history: `make sim SEED=123` runs it again, step by step.

After each step: one history for all; an answer that left is true, and so is a proof; a command id is applied at most once, and
not at all if it was not taken, as by who has a full disk; whoever is at the log's end knows what a replay from zero knows. At
the end the world calms down, and whoever asks is answered.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial, reduce
from hashlib import sha256
from random import Random
from typing import Any

from domain.catalogue import Answer
from domain.message import Recorded
from domain.registry import service as s
from infra.log.chain import Chain
from infra.log.codec import CloudEventMapper
from infra.log.port import START
from muster.wire.command import Command, Envelope
from muster.wire.error import MusterError, NotReady, Refused
from muster.wire.registry.check import TtlCheck
from muster.wire.registry.spec import Spec
from tests.infra.sqlite.simulated import Disk
from tests.machine import facts
from tests.simulation.broker import Broker
from tests.simulation.controller import Controller, Store
from tests.simulation.loop import VirtualLoop
from workers.machine.partition import Partition
from workers.views.views import Views

STEPS = 1_500
STREAMS = ("service/orders", "service/users")
TTL = TtlCheck(ttl_seconds=0.5)
UNDECIDED = {"VersionConflict", "IdempotencyConflict", "TooLarge"}
KINDS = {
    "ask": 30,
    "prove": 3,
    "observe": 3,
    "pass": 60,
    "late tick": 0.5,
    "want": 2,
    "crash": 1,
    "stop": 0.5,
    "snapshot": 1,
    "broker dies": 0.3,
    "broker forgets": 0.3,
    "disk fills": 0.5,
}
EMBEDDED_KINDS = {kind: often for kind, often in KINDS.items() if not kind.startswith("broker")}


@dataclass(eq=False)
class Asked:
    """A command on its way; `head` is that of the history when it was asked."""

    envelope: Envelope
    head: int


class Simulation:
    """One history, on Kafka or `embedded`. `run` plays it and returns its hash; `counts` says what happened in it."""

    def __init__(self, seed: int, *, embedded: bool = False) -> None:
        self.kinds = EMBEDDED_KINDS if embedded else KINDS
        self.chance = Random(seed)
        self.loop = VirtualLoop()
        self.broker = (Disk if embedded else Broker)(self.chance, self.loop.time)
        store, fence = Store(lambda: self.broker.full), seed % 2 == 0
        self.controllers = [self._controller(name, store, fence=fence) for name in ("a", "b", "c")]
        self.asked: dict[str, Envelope] = {}
        self.times: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.digest = sha256()
        self.reader = Chain(0, START)
        self.replayed = Partition(0, CloudEventMapper(), ids_max=10_000)
        self.views = Views([0])
        self.heads = {-1: START.head}
        self.history: list[Recorded] = []
        self.applied: dict[str, int] = {}
        self.not_taken: list[str] = []
        self.broken: BaseException | None = None

    def _controller(self, name: str, store: Store, *, fence: bool) -> Controller:
        return Controller(name, self.broker, store, self.chance, fence=fence)

    def run(self, steps: int = STEPS) -> str:
        """Play the history; its hash over the log and all answers. Raises AssertionError where an invariant breaks."""
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self._run(steps))
        for _, key, value in self.broker.records():
            self.digest.update((key or b"") + value)
        if isinstance(self.broker, Disk):
            self.broker.remove()
        return self.digest.hexdigest()[:16]

    async def _run(self, steps: int) -> None:
        for controller in self.controllers:
            await controller.start(from_snapshot=False)
        for _ in range(steps):
            await self._step()
            self._check()
        await self._calm_down()

    async def _step(self) -> None:
        controller = self.chance.choice(self.controllers)
        [kind] = self.chance.choices(list(self.kinds), list(self.kinds.values()))
        self.counts[kind] += 1
        await self._happens(kind, controller)

    async def _happens(self, kind: str, controller: Controller) -> None:
        match kind:
            case "ask":
                self._ask(controller)
            case "prove":
                self._prove(controller)
            case "observe":
                self._observe(controller)
            case "pass":
                await asyncio.sleep(self.chance.uniform(0, 0.3))
            case "late tick":
                self.loop.jump(self.chance.uniform(10, 10_000))
            case "want":
                self._want(controller)
            case "crash":
                await controller.crash()
                await controller.start(from_snapshot=self.chance.random() < 0.7)
            case "stop":
                await controller.stop()
                await controller.start(from_snapshot=self.chance.random() < 0.7)
            case "snapshot":
                await self._snapshot(controller)
            case _:
                self._harm(kind, self.broker)

    def _harm(self, kind: str, broker: Broker | Disk) -> None:
        match kind, broker:
            case "broker dies", Broker():
                broker.dies(self.chance.uniform(0.1, 8.0))
            case "broker forgets", Broker():
                broker.forgets()
            case "disk fills", _:
                broker.fills(self.chance.uniform(0.1, 8.0))

    async def _snapshot(self, controller: Controller) -> None:
        """On a full disk it fails, and ends nothing."""
        full = self.broker.full
        try:
            await controller.snapshotter.take()
        except NotReady:
            assert full
            self.counts["no snapshot"] += 1

    def _want(self, controller: Controller) -> None:
        """Another one is to write; now and then the one before has not heard of it yet."""
        rivals = self.chance.random() < 0.5
        for other in self.controllers:
            other.want(wanted=other is controller or (other.wanted and rivals))

    def _ask(self, controller: Controller) -> None:
        """A new command, or one that was asked before (a retry), or another one under an id that was used before."""
        if self.asked and self.chance.random() < 0.3:
            envelope = self.asked[self.chance.choice(list(self.asked)[-50:])]
            if self.chance.random() < 0.1:
                envelope = replace(envelope, command=self._command())
        else:
            version = self.chance.randrange(20) if self.chance.random() < 0.1 else None
            stream = self.chance.choice(STREAMS)
            envelope = Envelope(f"c{len(self.asked)}", stream, self._command(), "ann", None, version)
            self.asked[envelope.id] = envelope
        believing = [told for told in self.controllers if told.writer.state == "reigning"]
        if believing and self.chance.random() < 0.8:
            controller = self.chance.choice(believing)
        self._submit(controller, Asked(envelope, self.reader.cursor.head_position))

    def _submit(self, controller: Controller, asked: Asked) -> "asyncio.Future[Answer] | None":
        self.times[asked.envelope.id] += 1
        try:
            future = controller.writer.submit(asked.envelope)
        except MusterError:
            self.counts["not taken"] += 1
            return None
        future.add_done_callback(self._judged(partial(self._answered, asked)))
        return future

    def _prove(self, controller: Controller) -> None:
        """Whoever asks for a strong read must see all that was acknowledged before."""
        proving = asyncio.ensure_future(controller.writer.prove())
        proving.add_done_callback(self._judged(partial(self._proven, controller.views, self.reader.cursor)))

    def _observe(self, controller: Controller) -> None:
        """What a check has seen, of an instance that may be gone meanwhile."""
        rows = [row for service in controller.views.instances.values() for row in service.values()]
        if rows:
            row, status = self.chance.choice(rows), self.chance.choice(["healthy", "unhealthy"])
            incarnation = row.incarnation if self.chance.random() < 0.8 else self.chance.randrange(30)
            seen = s.ObserveCheck(instance=row.id, check=TTL.name, incarnation=incarnation, status=status, cause="seen")
            controller.writer.observe(f"service/{row.service}", seen)

    def _command(self) -> Command:
        instance = self.chance.choice("abcd")
        incarnation = self.chance.choice([None, None, self.chance.randrange(30)])
        match self.chance.randrange(8):
            case 0 | 1:
                return s.RegisterInstance(instance=instance, spec=self._spec())
            case 2:
                return s.DeregisterInstance(instance=instance, incarnation=incarnation)
            case 3 | 4:
                status = self.chance.choice(["healthy", "unhealthy", "unknown"])
                return s.ReportHealth(instance=instance, status=status, incarnation=incarnation)
            case 5:
                return s.Heartbeat(instance=instance, incarnation=incarnation)
            case 6:
                return self.chance.choice([s.SetMaintenance, s.ClearMaintenance])(instance=instance)
            case _:
                return self.chance.choice([s.DrainInstance, s.UndrainInstance])(instance=instance)

    def _spec(self) -> Spec:
        return Spec(
            address="10.0.0.7",
            port=self.chance.choice([80, 81]),
            zone=self.chance.choice(["", "z"]),
            checks=self.chance.choice([(), (TTL,)]),
            lease_seconds=self.chance.choice([None, 0.5, 2.0]),
            deregister_after_seconds=self.chance.choice([None, 0.5]),
        )

    def _read(self) -> None:
        """The outside reader goes on: it sees what anybody would see, and folds it."""
        for batch in self.reader.follow(self.broker.records(self.reader.cursor.position + 1)):
            folded = self.replayed.fold(batch)
            self.views.apply(0, folded, batch.cursor, batch.voids)
            self.heads[batch.cursor.head_position] = batch.cursor.head
            self.counts["void"] += batch.voids
            self._note([recorded for recorded, _ in folded])

    def _note(self, recorded: list[Recorded]) -> None:
        here = Counter(told.command_id for told in recorded)
        for id_, count in here.items():
            assert id_ not in self.applied, f"command {id_} was applied twice"
            self.applied[id_] = count
        self.history += recorded
        self.counts["expired"] += sum(told.actor == "muster" for told in recorded)

    def _judged(self, judge: Any) -> Any:
        """A callback of the future that ends the run with what it raises, as the loop would not."""

        def judged(future: "asyncio.Future[Any]") -> None:
            try:
                judge(future)
            except AssertionError as broken:
                self.broken = self.broken or broken

        return judged

    def _proven(self, views: Views, asked_at: Any, future: "asyncio.Future[int]") -> None:
        if future.cancelled() or future.exception() is not None:
            self.counts["not proven"] += 1
            return
        self.counts["proven"] += 1
        assert future.result() >= asked_at.head_position, f"a proof of {future.result()} is older than {asked_at}"
        assert views.cursors[0].position >= future.result(), "the view is behind what was proven"

    def _answered(self, asked: Asked, future: "asyncio.Future[Answer]") -> None:
        """An answer leaves: it must be true, and no older than the question."""
        if (error := future.exception()) is not None:
            assert isinstance(error, MusterError), error
            self.counts[type(error).__name__] += 1
            if isinstance(error, NotReady):
                self.not_taken.append(asked.envelope.id)
            return
        self._read()
        answer = future.result()
        self.counts[f"{answer.status}{' again' if answer.duplicate else ''}"] += 1
        self.digest.update(repr(answer).encode())
        if answer.error is not None and answer.error["name"] in UNDECIDED:
            return
        once = self.times[answer.id] == 1
        assert not (once and answer.duplicate), f"{answer} was asked for once"
        if answer.status == "accepted":
            own = [told for told in self.history if told.command_id == answer.id]
            assert own, f"{answer} is not in the log"
            assert (own[-1].position, own[-1].version) == (answer.position, answer.version), f"{answer}, but {own[-1]}"
        elif once:
            assert answer.position >= asked.head, f"{answer} is older than its question at {asked.head}"
            assert self._decided_at(answer.position, asked.envelope) == answer.status, f"{answer} was never true"

    def _decided_at(self, position: int, envelope: Envelope) -> str:
        told = [told for told in self.history if told.position <= position and told.stream == envelope.stream]
        try:
            decided = s.decide(envelope.command, reduce(s.evolve, told, s.INITIAL))
        except Refused:
            return "refused"
        return "accepted" if decided else "unchanged"

    def _check(self) -> None:
        self._read()
        if self.broken is not None:
            raise self.broken
        for controller in self.controllers:
            controller.check()
            cursor = controller.partition.cursor
            assert self.heads.get(cursor.head_position) == cursor.head, f"{controller.name} has another history"
            if cursor.position == self.reader.cursor.position and controller.writer.recovered.is_set():
                self._same(controller.partition, controller.views, controller.name)

    def _same(self, partition: Partition, views: Views, name: str) -> None:
        assert facts(partition) == facts(self.replayed), f"{name} knows something else than a replay"
        assert views.services == self.views.services, f"{name} shows other services"
        assert views.instances == self.views.instances, f"{name} shows other instances"
        assert views.history == self.views.history, f"{name} shows another history"

    async def _calm_down(self) -> None:
        """Nothing goes wrong any more: one writes, whoever asks is answered, and all know the same."""
        self.broker.calm = True
        for controller in self.controllers:
            controller.want(wanted=controller is self.controllers[0])
        await asyncio.sleep(30)
        answered = []
        for number, stream in enumerate(STREAMS):
            envelope = Envelope(f"last-{number}", stream, s.RegisterInstance(instance="a", spec=self._spec()), "ann")
            answered.append(self._submit(self.controllers[0], Asked(envelope, self.reader.cursor.head_position)))
        await asyncio.sleep(5)
        self._check()
        assert all(future is not None and future.done() for future in answered), "a calm writer answers"
        replay = Controller("replay", self.broker, Store(), self.chance, fence=False)
        await replay.start(from_snapshot=False)
        await asyncio.sleep(5)
        self.controllers.append(replay)
        self._read()
        assert {told.partition.cursor for told in self.controllers} == {self.reader.cursor}, "all are at the end"
        self._check()
        both = [id_ for id_ in self.not_taken if self.times[id_] == 1 and id_ in self.applied]
        assert not both, f"{both} were not taken, and are in the log"
        for controller in self.controllers:
            await controller.crash()
