"""The fault matrix of a failover: what can go wrong, at each of its steps.

`play` runs one failover in which one thing goes wrong at one step, and lets the group come to rest. What decides a step is known
by asking the partition what it would record: so the faults hit each step, whoever's word it waits for.
"""

from dataclasses import replace
from typing import Any, Final
from zlib import crc32

from domain.groups import commands as c
from domain.groups import member as m
from domain.message import Recorded
from domain.saga import AbortSaga, StepSucceeded
from muster.wire.command import Command
from muster.wire.stream import FAILOVER, saga_stream
from sagas.group_failover import GROUP_FAILOVER
from tests.simulation.chaos import Weather
from tests.simulation.groups.world import MEMBERS, STREAM, Groups, turn_seconds
from tests.simulation.moves import Message

FORWARD: Final = tuple(step.name for step in GROUP_FAILOVER.steps)
BACK: Final = tuple(step.name for step in GROUP_FAILOVER.compensations)
STEPS: Final = (*FORWARD, *BACK)
STANDS: Final = frozenset(("fence", "compare", "activate"))
"""Steps at which a failover stands, until somebody says something; the others pass with the word that ends the one before."""
OF_RECORD: Final = ("crash before the record", "crash after the record")
OF_WORD: Final = ("lost word", "doubled word", "late word", "lost answer")
OF_WORLD: Final = (
    "second failover",
    "old primary returns",
    "old primary freezes",
    "new primary ends",
    "new primary is lost",
    "promote hook fails",
    "all members away",
    "controller replaced",
    "abort",
)
KINDS: Final = (*OF_RECORD, *OF_WORD, *OF_WORLD)
HARMLESS: Final = frozenset(
    (*OF_RECORD, "lost word", "doubled word", "lost answer", "second failover", "controller replaced")
)
"""What no failover turns back for, and none follows."""
late_seconds: Final = 9.0
away_seconds: Final = 6.0


class AtStep(Weather):
    """One thing goes wrong, once, at one step; else the weather is fine. What turns back is reached by an abort at the fence,
    while the primary, whose host stands still, cannot have ended.
    """

    def __init__(self, seed: int, step: str, kind: str) -> None:
        super().__init__(seed)
        self.step, self.kind = step, kind
        # The group has come to its first primary by a failover too; that one is left alone.
        self.armed = self.fired = False
        self.aborted = step not in BACK
        self.failing: str | None = None

    def entered(self, world: "FailingOver") -> None:
        """A turn begins."""
        for saga in world.controller.sagas if self.armed else ():
            if saga.step == "fence" and not self.aborted:
                self.aborted = True
                world.send(AbortSaga(), saga.id)
            if saga.step == self.step and self.step in STANDS:
                self._happen(world)
        if self.failing is not None and world.runners[self.failing].epoch == 2:
            # It was claimed, and cannot be served: that is said, and the member is not fit for a while.
            world.runners[self.failing].ill = True
            world.runners[self.failing].child_ends()

    def posted(self, world: "FailingOver", message: Message) -> bool:  # type: ignore[override]
        if not self.armed or self.fired or not self._decides(world, message):
            return True
        # Of the steps at which it never stands: the word that lets it pass is about to arrive.
        self._happen(world)
        match self.kind:
            case "lost word":
                self.fired = True
                return False
            case "doubled word":
                world.messages += [
                    replace(message, due=message.due + more, told=None) for more in (0.0, 1.0, late_seconds)
                ]
                self.fired = True
            case "late word":
                message.due += late_seconds
                self.fired = True
            case "lost answer":
                message.told = None
                self.fired = True
        return True

    def recording(self, recorded: list[Recorded]) -> str:
        if not self.armed or self.fired or self.kind not in OF_RECORD or not self._passes(recorded):
            return "record"
        self.fired = True
        return "lose" if self.kind == "crash before the record" else "die"

    def _decides(self, world: "FailingOver", message: Message) -> bool:
        # Several candidates say how far they reach in the same moment, and no word of theirs is enough by itself.
        if self.step in ("compare", "promote") and isinstance(message.command, m.ReportPosition):
            return any(saga.step == "compare" for saga in world.controller.sagas)
        return self._passes(world.controller.peek(message.stream, message.command))

    def _passes(self, recorded: list[Recorded]) -> bool:
        return any(isinstance(each.event, StepSucceeded) and each.event.step == self.step for each in recorded)

    def _happen(self, world: "FailingOver") -> None:
        if self.fired or self.kind not in OF_WORLD:
            return
        self.fired = True
        new = world.row().primary
        match self.kind:
            case "second failover":
                world.send(c.Failover(to="db3"))
                world.send(c.Failover(automatic=True))
            case "old primary returns":
                world.runners[world.old].crash(0.3)
            case "old primary freezes":
                world.runners[world.old].freeze(away_seconds)
            case "new primary ends" if new is not None:
                world.runners[new].child_ends()
            case "new primary is lost":
                for name in MEMBERS if new in (None, world.old) else (new,):
                    if name != world.old:
                        world.runners[name].crash(away_seconds)
            case "promote hook fails":
                self.failing = new if new != world.old else "db2"
            case "all members away":
                for runner in world.runners.values():
                    runner.crash(away_seconds)
            case "controller replaced":
                world.messages.clear()
                world.controller.start()
            case "abort":
                # The failover that is about to begin is there a turn later.
                world.send(AbortSaga(), saga_stream(STREAM, FAILOVER, 2), later=self.step in ("take", "close"))


class FailingOver(Groups):
    """A group whose members are compared by their copies, and whose primary an operator lets another one follow."""

    weather: AtStep

    def __init__(self, seed: int, step: str, kind: str) -> None:
        self.said = 0
        super().__init__(seed, AtStep(seed, step, kind))
        self.ask(c.SetGroup(max_lag=1_000_000, preempt=False))
        self.until(lambda: self.row().serving and all(member.status == "active" for member in self.row().members))
        self.old = str(self.row().primary)
        self.weather.armed = True
        if step in BACK:
            # So that it has not ended by itself before it is given back what was taken from it.
            self.runners[self.old].freeze(1.0)
        self.send(c.Failover())

    def _settings(self) -> dict[str, Any]:
        # As groups are unless somebody says otherwise: each fault is to meet the same failover.
        return {}

    def turn(self) -> None:
        self.weather.entered(self)
        super().turn()

    def until(self, holds: object, seconds: float = 30.0) -> None:
        """Let the time pass until this holds."""
        end = self.now + seconds
        while not holds():  # type: ignore[operator]
            assert self.now < end, f"it is never so: {self.row()}"
            super().turn()

    def send(self, command: Command, stream: str = STREAM, *, later: bool = False) -> None:
        """What an operator says, as a message like others: said once, under an id of its own."""
        self.said += 1
        # Rounded as the time is, or two that are a turn apart may arrive in the same one.
        due = round(self.now + (2 if later else 1) * turn_seconds, 6)
        message = Message(due, "ann", stream, command, None, f"ann-{self.said}")
        if self.weather.posted(self, message):
            self.messages.append(message)


def play(step: str, kind: str) -> FailingOver:
    """One failover with one fault, until the group has come to rest. Raises AssertionError where an invariant breaks."""
    seed = crc32(f"{step}/{kind}".encode())
    world = FailingOver(seed, step, kind)
    try:
        for _ in range(round((late_seconds + away_seconds) / turn_seconds)):
            world.turn()
        world._calm_down()
    except AssertionError as broken:
        raise AssertionError(f"{step} × {kind}: {broken}") from broken
    return world
