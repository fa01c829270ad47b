"""A seeded simulation: clients, rival controllers, crashes, late ticks, and a broker that behaves badly.

Everything is drawn from one seed, so that a seed is a history: `make sim SEED=123` runs it again, step by step.
After each step: one history for all; an answer that left is true; a command id is applied at most once; whoever is at the
log's end knows what a replay from zero knows.
"""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from functools import reduce
from hashlib import sha256
from random import Random
from typing import Any

from domain import service as s
from domain.catalogue import Answer
from domain.check import TtlCheck
from domain.error import Refused
from domain.instance import Spec
from domain.message import Command, Envelope, Recorded
from infra.chain import Chain
from infra.codec import CloudEventMapper
from infra.log import START
from tests.machine import facts
from tests.sample import NOON
from tests.simulation.broker import Broker
from tests.simulation.controller import Controller, Request, Store
from workers.partition import Partition
from workers.view import Views

STEPS = 1_500
STREAMS = ("service/orders", "service/users")
UNDECIDED = {"VersionConflict", "IdempotencyConflict", "TooLarge"}


class Simulation:
    """One history. `run` plays it and returns its hash; `counts` says what happened in it."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.broker = Broker(self.chance, fence=seed % 2 == 0)
        self.store = Store()
        self.controllers = [Controller(name, self.broker, self.store, self._answered) for name in ("w1", "w2", "w3")]
        self.clock = 0.0
        self.asked: list[Envelope] = []
        self.counts: Counter[str] = Counter()
        self.digest = sha256()
        self.reader = Chain(0, START)
        self.replayed = Partition(0, CloudEventMapper(), ids_max=10_000)
        self.views = Views([0])
        self.heads = {-1: START.head}
        self.history: list[Recorded] = []
        self.applied: dict[str, int] = {}

    def run(self, steps: int = STEPS) -> str:
        """Play the history; its hash over the log and all answers. Raises AssertionError where an invariant breaks."""
        for _ in range(steps):
            self._step()
            self._read()
            self._check()
        self._check_replay_from_zero()
        for key, value in self.broker.log:
            self.digest.update(key + value)
        return self.digest.hexdigest()[:16]

    def _step(self) -> None:
        controller = self.chance.choice(self.controllers)
        kinds = ["ask", "work", "pass", "claim", "crash", "snapshot", "late tick", "deliver"]
        kind = self.chance.choices(kinds, [30, 60, 20, 2, 1, 1, 1, 2])[0]
        self.counts[kind] += 1
        match kind:
            case "ask":
                self._ask(controller)
            case "work":
                controller.step(self._now())
            case "pass" | "late tick":
                self._pass(self.chance.uniform(0, 0.3) if kind == "pass" else self.chance.uniform(10, 10_000))
            case "claim":
                controller.claim(self._now())
            case "crash":
                controller.start(from_snapshot=self.chance.random() < 0.7)
            case "snapshot":
                controller.snapshot()
            case "deliver":
                self.broker.deliver()

    def _pass(self, seconds: float) -> None:
        self.clock += seconds
        for controller in self.controllers:
            controller.monotonic += seconds

    def _now(self) -> Any:
        # Each controller's own clock is off by up to a minute.
        return NOON + timedelta(seconds=self.clock + self.chance.uniform(-60, 60))

    def _ask(self, controller: Controller) -> None:
        """A new command, or one that was asked before (a retry), or another one under an id that was used before."""
        if self.asked and self.chance.random() < 0.3:
            envelope = self.chance.choice(self.asked[-50:])
            if self.chance.random() < 0.1:
                envelope = replace(envelope, command=self._command())
        else:
            version = self.chance.randrange(20) if self.chance.random() < 0.1 else None
            stream = self.chance.choice(STREAMS)
            envelope = Envelope(f"c{len(self.asked)}", stream, self._command(), "ann", None, version)
            self.asked.append(envelope)
        believing = [told for told in self.controllers if told.reigning]
        if believing and self.chance.random() < 0.8:
            controller = self.chance.choice(believing)
        controller.queue.append(Request(envelope, self.reader.cursor.head_position))

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
            checks=self.chance.choice([(), (TtlCheck(ttl_seconds=0.5),)]),
            lease_seconds=self.chance.choice([None, 0.5, 2.0]),
            deregister_after_seconds=self.chance.choice([None, 0.5]),
        )

    def _read(self) -> None:
        """The outside reader goes on: it sees what anybody would see, and folds it."""
        start = self.reader.cursor.position + 1
        rest = [(position, *self.broker.log[position]) for position in range(start, len(self.broker.log))]
        for batch in self.reader.follow(rest):
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

    def _answered(self, request: Request, answer: Answer) -> None:
        """An answer leaves: it must be true, and no older than the question."""
        self._read()
        self.counts[f"{answer.status}{' again' if answer.duplicate else ''}"] += 1
        self.digest.update(repr(answer).encode())
        if answer.error is not None and answer.error["name"] in UNDECIDED:
            return
        if answer.status == "accepted":
            own = [told for told in self.history if told.command_id == answer.id]
            assert own, f"{answer} is not in the log"
            assert (own[-1].position, own[-1].version) == (answer.position, answer.version), f"{answer}, but {own[-1]}"
        elif not answer.duplicate and not request.retried:
            assert answer.position >= request.head, f"{answer} is older than its question at {request.head}"
            assert self._decided_at(answer.position, request.envelope) == answer.status, f"{answer} was never true"

    def _decided_at(self, position: int, envelope: Envelope) -> str:
        told = [told for told in self.history if told.position <= position and told.stream == envelope.stream]
        try:
            decided = s.decide(envelope.command, reduce(s.evolve, told, s.INITIAL))
        except Refused:
            return "refused"
        return "accepted" if decided else "unchanged"

    def _check(self) -> None:
        for controller in self.controllers:
            cursor = controller.partition.cursor
            assert self.heads.get(cursor.head_position) == cursor.head, f"{controller.name} has another history"
            if cursor.position == self.reader.cursor.position and controller.taken is None:
                self._same(controller.partition, controller.views, controller.name)

    def _same(self, partition: Partition, views: Views, name: str) -> None:
        assert facts(partition) == facts(self.replayed), f"{name} knows something else than a replay"
        assert views.services == self.views.services, f"{name} shows other services"
        assert views.instances == self.views.instances, f"{name} shows other instances"
        assert views.history == self.views.history, f"{name} shows another history"

    def _check_replay_from_zero(self) -> None:
        last = Controller("replay", self.broker, Store(), self._answered)
        last.read()
        self._same(last.partition, last.views, "a replay from zero")
