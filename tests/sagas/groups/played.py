"""A failover group on the real partition machine: members that renew, time, and a driver that hears what sagas wait for.

Nothing is drawn by chance: whoever is `alive` renews all the time, and whatever else happens is told by the test. After each
batch the log's invariants hold.
"""

from datetime import datetime
from typing import Any, Final

from domain.catalogue import Answer
from domain.groups import commands as c
from domain.groups import member as m
from domain.groups.choice import due
from domain.groups.state import FailoverGroup
from domain.message import Recorded
from domain.saga import ReportStep, Saga
from muster.wire.command import Command, Envelope
from sagas.catalogue import DEFINITIONS
from sagas.engine.definition import Ask
from sagas.engine.wanted import pending
from sagas.invariants.log import Invariants
from tests.domain.groups.beginnings import MEMBERS, at
from tests.machine import Machine

STREAM: Final = "group/db"
turn_seconds: Final = 0.1


class Played(Machine):
    """`alive` are the members whose runners renew, `incarnations` those that they joined with; `recorded` is all that happened,
    batch by batch. With `restarts` another partition takes over after each batch, folded from the log alone.
    """

    def __init__(self, *, restarts: bool = False, **settings: Any) -> None:
        self.restarts = False
        self.recorded: list[list[Recorded]] = []
        self.invariants = Invariants()
        self.alive: set[str] = set()
        self.incarnations: dict[str, int] = {}
        self.asked = 0
        super().__init__()
        members = tuple(c.NewMember(name, 3 - number) for number, name in enumerate(MEMBERS))
        self.ask(c.CreateGroup(members=members, **settings))
        for name in MEMBERS:
            self.joins(name)
        self.drive()
        self.serves()
        self.restarts = restarts

    @property
    def group(self) -> FailoverGroup:  # type: ignore[override]
        """The group as the log has it."""
        found: FailoverGroup = self.partition.state(STREAM)
        return found

    @property
    def sagas(self) -> list[Saga]:
        """Those under way."""
        return [state for state in self.partition.streams.values() if isinstance(state, Saga) and not state.ended]

    @property
    def step_name(self) -> str | None:
        """Where the failover under way stands."""
        return self.sagas[0].step if self.sagas else None

    @property
    def history(self) -> list[Recorded]:
        """All events, in order."""
        return [each for batch in self.recorded for each in batch]

    @property
    def now(self) -> datetime:
        return at(self.monotonic)

    def ask(self, command: Command, stream: str = STREAM) -> Answer:
        """The answer to the command; what its effect leads to by itself comes after it."""
        self.asked += 1
        group = self.step(Envelope(f"c{self.asked}", stream, command, "ann"), now=self.now)
        answer = group.answers[0]
        self._take(group)
        return answer

    def _take(self, group: Any) -> None:
        recorded = self.commit(group)
        breaches = [breach for each in recorded for breach in self.invariants.take(each)]
        assert breaches == []
        if recorded:
            self.recorded.append(recorded)
            if self.restarts:
                before = self.partition.committed()
                self.claims("w2", self.recovered())
                assert self.partition.committed() == before, "a replay from zero gives another state"

    def drive(self) -> None:
        """What sagas hear is reported to them, and what is due begins, until nothing comes of it."""
        while wanted := [*self._heard(), *self._due()]:
            stream, command = wanted[0]
            before = self.partition.cursor
            self._take(self.partition.step(self.now, observations=[(stream, command)]))
            if self.partition.cursor == before:
                return

    def _heard(self) -> list[tuple[str, Command]]:
        told: list[tuple[str, Command]] = []
        for saga in self.sagas:
            for ask in pending(saga, DEFINITIONS[saga.definition, saga.definition_version]):
                heard = ask.heard(self.group) if isinstance(ask, Ask) and ask.heard is not None else None
                if heard is not None and saga.step is not None:
                    done = {"outcome": "done", "result": dict(heard.result or {})}
                    told.append((saga.id, ReportStep(step=saga.step, attempt=saga.attempt, **done)))
        return told

    def _due(self) -> list[tuple[str, Command]]:
        return [] if due(self.group, self.now) is None else [(STREAM, c.Failover(automatic=True))]

    def joins(self, member: str, process: str = "p1", *, fences: bool = False) -> None:
        """A process runs the member, and it is ready."""
        answer = self.ask(m.JoinGroup(member=member, process=process, fences=fences))
        assert answer.incarnation is not None
        self.incarnations[member] = answer.incarnation
        self.alive.add(member)
        self.says(m.ReportMember, member, outcome="ready")

    def says(self, command: type[m.RunnerCommand], member: str, **more: Any) -> Answer:
        """The member's runner says so; what that leads to comes with it."""
        answer = self.ask(command(member=member, incarnation=self.incarnations[member], **more))
        self.drive()
        return answer

    def serves(self) -> None:
        """The primary's promote hook is done."""
        member = self.group.primary
        assert member is not None
        self.says(m.ReportServing, member.name, epoch=self.group.ownership.epoch)

    def ends(self, how: str = "seen") -> None:
        """What the primary runs has ended."""
        own = self.group.ownership
        assert own.holder is not None
        self.says(m.ReportEnded, own.holder, epoch=own.epoch, how=how)

    def passes_time(self, seconds: float) -> None:
        """So much time passes; whoever is alive renews, and whoever is the primary does so with its epoch."""
        for number in range(round(seconds / turn_seconds)):
            self.monotonic += turn_seconds
            self.partition.deadlines.advance(self.monotonic)
            self._take(self.partition.step(self.now))
            for member in sorted(self.alive) if number % 4 == 0 else ():
                own = self.group.ownership
                epoch = own.epoch if own.holder == member and not own.fenced else None
                self.says(m.RenewMember, member, epoch=epoch)
            self.drive()
