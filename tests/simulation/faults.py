"""The fault matrix of a move: what can go wrong, at each of its steps.

`play` runs one move in which one thing goes wrong at one step, and lets it come to its end. What decides a step is known
by asking the partition what it would record: so the faults hit each step, whoever answers it.
"""

from dataclasses import replace
from typing import Final
from zlib import crc32

from domain.message import Recorded
from domain.saga import AbortSaga, ExpireStep, PauseSaga, ResumeSaga, Saga, StepSucceeded
from domain.shards.keyspace import MoveShard
from domain.shards.node import SlotsGranted, SlotsReleased
from muster.wire.stream import CLUSTER
from sagas.shard_migration import SHARD_MIGRATION
from sagas.tasks import TaskRow
from tests.simulation.moves import KEYSPACE, Fault, Message, Moves

FORWARD: Final = tuple(step.name for step in SHARD_MIGRATION.steps)
BACK: Final = tuple(step.name for step in SHARD_MIGRATION.compensations)
STEPS: Final = (*FORWARD, *BACK)
APPLIED: Final = frozenset(("plan", "intend", "gate", "close", "commit", "complete", "reclaim", "abandon"))
"""Steps at which a saga never stands: what happens "at" them happens when the message that decides them arrives."""
TASKS: Final = frozenset(
    ("prepare", "copy", "catch_up", "verify", "fence", "drain", "activate", "publish", "clean", "reactivate", "discard")
)
ASKED: Final = {"reserve": SlotsGranted, "release": SlotsReleased, "unreserve": SlotsReleased}
"""Steps that ask something of the cluster, and what it does then. That it was done is told to the saga without a message."""
BEHIND: Final = {"intend": "reserve", "abandon": "unreserve"}
"""Steps that are applied when one of those is done."""
KINDS: Final = (
    "crash before",
    "crash after the effect",
    "crash after the record",
    "duplicate reply",
    "late reply",
    "lost reply",
    "timeout",
    "abort",
    "pause and resume",
    "target removed",
    "source removed",
    "source's lease lost",
    "source stopped",
    "target stopped",
    "controller replaced",
)
HARMLESS: Final = frozenset(KINDS[:4]) | {"lost reply", "pause and resume", "controller replaced"}
"""What no move turns back for."""
away_seconds = 8.0


class AtStep(Fault):
    """One thing goes wrong, once, at one step. A compensation is reached by an abort while the target drains."""

    def __init__(self, step: str, kind: str) -> None:
        self.step = step
        self.kind = kind
        self.fired = False
        self.fired_at = 0.0
        self.aborted = step not in BACK
        self.later: list[tuple[float, str]] = []
        self.lost = 0

    def entered(self, world: Moves) -> None:
        for due, what in list(self.later):
            if world.now >= due:
                self.later.remove((due, what))
                self._heal(world, what)
        for saga in world.controller.sagas:
            if saga.step == "drain" and not self.aborted:
                self.aborted = True
                world.post("ann", saga.id, AbortSaga())
            if saga.step == self.step and self.step not in APPLIED:
                self._happen(world, saga)
            if saga.step == self.step == "soak" and not self.fired:
                self._disturb_the_clock(world, saga)

    def _happen(self, world: Moves, saga: Saga | None) -> None:
        """What needs no message: it happens while the saga stands at the step, or is about to pass it."""
        if self.fired or self.kind not in KINDS[7:]:
            return
        self.fired = True
        match self.kind:
            case "abort" if saga is not None:
                world.ask(saga.id, AbortSaga())
            case "pause and resume" if saga is not None:
                world.ask(saga.id, PauseSaga())
                self.later.append((world.now + 3.0, "resume"))
            case "target removed":
                world.remove("n2")
            case "source removed":
                world.remove("n1")
            case "source's lease lost":
                world.nodes["n1"].cut_off = True
                self.later.append((world.now + away_seconds, "join"))
            case "source stopped":
                world.nodes["n1"].crash(away_seconds)
            case "target stopped":
                world.nodes["n2"].crash(away_seconds)
            case "controller replaced":
                world.messages.clear()
                world.controller.start()

    def _disturb_the_clock(self, world: Moves, saga: Saga) -> None:
        """Nobody answers a step that lets time pass, but its timer can tell twice, and the process can hang over it."""
        if self.kind == "duplicate reply":
            self.fired = True
            again = ExpireStep(step="soak", attempt=saga.attempt, kind="wait")
            world.messages += [Message(world.now + more, "driver", saga.id, again, None) for more in (2.0, 7.0)]
        elif self.kind in ("late reply", "timeout"):
            self.fired = True
            world.controller.monotonic += 60.0

    def _heal(self, world: Moves, what: str) -> None:
        match what:
            case "resume":
                for saga in world.controller.sagas:
                    if saga.paused:
                        world.ask(saga.id, ResumeSaga())
            case "join":
                world.nodes["n1"].cut_off = False

    def posted(self, world: Moves, message: Message) -> bool:
        if self.kind not in ("duplicate reply", "late reply", "lost reply", "timeout") or self._is_over(world):
            return True
        if not self._decides(world, message):
            return True
        self.fired_at = self.fired_at if self.fired else world.now
        self.fired = True
        match self.kind:
            case "duplicate reply":
                world.messages += [replace(message, due=message.due + more, told=None) for more in (0.25, 2.0, 7.0)]
                return True
            case "late reply":
                message.due = self.fired_at + self._patience()
                return True
            case "lost reply":
                self.lost += 1
                return self.lost > 2
            case _:
                return False

    def _is_over(self, world: Moves) -> bool:
        return self.fired and world.now > self.fired_at + self._patience()

    def _patience(self) -> float:
        """Longer than an attempt of the step takes."""
        step = SHARD_MIGRATION.step(self.step)
        return (step.timeout_seconds or 10.0) + 3.0 if self.step in TASKS else 6.0

    def delivered(self, world: Moves, message: Message) -> None:
        if (
            not self.fired
            and self.step in APPLIED
            and self._passes(world.controller.peek(message.stream, message.command))
        ):
            saga = world.controller.views.sagas.get(message.stream)
            self._happen(world, saga)

    def _decides(self, world: Moves, message: Message) -> bool:
        recorded = world.controller.peek(message.stream, message.command)
        wanted = ASKED.get(BEHIND.get(self.step, self.step))
        if wanted is not None and message.stream == CLUSTER:
            return any(isinstance(each.event, wanted) for each in recorded)
        return self._passes(recorded)

    def _passes(self, recorded: list[Recorded]) -> bool:
        return any(isinstance(each.event, StepSucceeded) and each.event.step == self.step for each in recorded)

    def recording(self, recorded: list[Recorded]) -> str:
        if self.fired:
            return "record"
        fate = "record"
        if self.kind == "crash after the record" and self._passes(recorded):
            fate = "die"
        elif self.step in TASKS:
            return "record"
        elif self._passes(recorded) and (
            self.kind == "crash before" or (self.kind, self.step) == ("lost reply", "soak")
        ):
            fate = "lose"
        elif self.kind == "crash after the effect":
            wanted = ASKED.get(self.step)
            if wanted is None:
                fate = "lose" if self._passes(recorded) else "record"
            elif any(isinstance(each.event, wanted) for each in recorded):
                fate = "die"
        self.fired = fate != "record"
        return fate

    def works_on(self, world: Moves, node: str, task: TaskRow) -> bool:
        if task.step == "drain" and self.step in BACK:
            return False
        if task.step != self.step or (task.kind == "fence" and self.step == "drain"):
            return True
        if not self.fired and self.kind in KINDS[7:] and task.saga is not None:
            # Before the participant has heard of the step.
            self._happen(world, world.controller.views.sagas[task.saga])
            return False
        if self.kind == "timeout" and task.attempt == 1:
            self.fired = True
            return False
        if self.kind == "crash before" and not self.fired:
            self.fired = True
            world.nodes[node].crash()
            return False
        return True

    def worked_on(self, world: Moves, node: str, task: TaskRow) -> bool:
        if task.step != self.step or self.kind != "crash after the effect" or self.fired:
            return True
        self.fired = True
        world.nodes[node].crash()
        return False


def seed_of(step: str, kind: str, number: int = 0) -> int:
    """A seed of its own for each case."""
    return crc32(f"{step}/{kind}/{number}".encode())


def play(step: str, kind: str, number: int = 0) -> tuple[Moves, AtStep]:
    """One move with one fault, to its end. Raises AssertionError, with the seed, where an invariant breaks."""
    seed, fault = seed_of(step, kind, number), AtStep(step, kind)
    world = Moves(seed)
    world.fault = fault
    command = MoveShard(shard=0, target="n2", soak_seconds=0.5, cleanup_seconds=0.0)
    try:
        while not world.controller.views.migrations:
            world.post("ann", KEYSPACE, command)
            world.pass_time(1.0)
        world.settle()
    except AssertionError as broken:
        raise AssertionError(f"{step} × {kind}, seed {seed}: {broken}") from broken
    return world, fault
