"""A world of runners, a controller and an operator, in which one group fails over and things go wrong.

Everything is drawn from one seed. After each recorded event the log's invariants hold; after each turn at most one runner
believes that it leads, and each epoch was led by one process alone. At the end the world calms down, and the group is served.
"""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Final

from domain.catalogue import Answer
from domain.groups import commands as c
from domain.groups import member as m
from domain.message import Recorded
from domain.saga import AbortSaga
from muster.wire.command import Command, Envelope
from muster.wire.groups.answers import GroupState
from projections.groups import shown
from sagas.invariants.log import Invariants
from tests.simulation.chaos import Weather
from tests.simulation.groups.controller import GroupController
from tests.simulation.groups.runner import Runner
from tests.simulation.move_controller import Crashed
from tests.simulation.moves import Message

turn_seconds: Final = 0.1
turns: Final = 1_200
STREAM: Final = "group/db"
MEMBERS: Final = ("db1", "db2", "db3")


class Groups:
    """One history. `run` plays it and returns its hash; `counts` says what happened in it."""

    def __init__(self, seed: int, weather: Weather | None = None) -> None:
        self.seed = seed
        self.weather = Weather(seed) if weather is None else weather
        self.chance: Random = self.weather.chance
        self.now = 0.0
        self.messages: list[Message] = []
        self.answers: list[tuple[float, Callable[[Answer], None], Answer]] = []
        self.history: list[Recorded] = []
        self.invariants = Invariants()
        self.granted: dict[int, str] = {}
        self.led: dict[int, str] = {}
        self.happened: Counter[str] = Counter()
        self.controller = GroupController(self._recorded, self.weather.recording, self._submitted)
        self.runners = {name: Runner(name, self) for name in MEMBERS}
        members = tuple(c.NewMember(name, 3 - number) for number, name in enumerate(MEMBERS))
        settings = {"max_lag": self.chance.choice([None, 40]), "preempt": self.chance.random() < 0.3}
        self.ask(c.CreateGroup(members=members, hold_down_seconds=5.0, **settings))

    @property
    def counts(self) -> Counter[str]:
        """What has happened."""
        events = Counter(type(recorded.event).__name__ for recorded in self.history)
        ends = Counter(f"ended: {each.event.how}" for each in self.history if isinstance(each.event, m.PrimaryEnded))
        return self.weather.counts + self.happened + events + ends

    def run(self, moments: int = turns) -> str:
        """Play; a hash of the history. Raises AssertionError, with the seed, where an invariant breaks."""
        try:
            self.weather.calm = False
            for _ in range(moments):
                self._disturb()
                self.turn()
            self._calm_down()
        except AssertionError as broken:
            raise AssertionError(f"make sim SEED='groups {self.seed}': {broken}") from broken
        return self.controller.partition.cursor.head.hex()[:16]

    def turn(self) -> None:
        """A moment passes."""
        self.now = round(self.now + turn_seconds, 6)
        self._deliver()
        try:
            self.controller.pass_time(turn_seconds)
            if self.chance.random() < 0.8:
                self.controller.see()
            self.controller.drive(turn_seconds)
        except Crashed:
            self.happened["taken over"] += 1
        runners = list(self.runners.values())
        self.chance.shuffle(runners)
        for runner in runners:
            runner.turn()
        self._check()

    def _disturb(self) -> None:
        if self.chance.random() > 0.04:
            return
        runner = self.runners[self.chance.choice(MEMBERS)]
        kinds = {
            "crash": 2,
            "freeze": 2,
            "child ends": 3,
            "cut off": 2,
            "joined up": 4,
            "ill": 2,
            "well": 4,
            "failover": 3,
        }
        kinds |= {"abort": 1, "pause": 0.3, "resume": 1, "stranger": 0.5}
        [kind] = self.chance.choices(list(kinds), list(kinds.values()))
        self.happened[kind] += 1
        match kind:
            case "crash":
                runner.crash(self.chance.choice([0.2, 1.0, 6.0]))
            case "freeze":
                runner.freeze(self.chance.choice([0.5, 1.9, 2.1, 8.0]))
            case "child ends":
                self._leading(runner).child_ends()
            case "cut off":
                self._leading(runner).cut_off = True
            case "joined up":
                runner.cut_off = False
            case "ill" | "well":
                runner.ill = kind == "ill"
            case "stranger":
                # Somebody starts another process of a member by mistake: of both the one that joined first has to end.
                self.ask(m.JoinGroup(member=runner.name, process="stranger"))
            case "failover":
                to = self.chance.choice([None, *MEMBERS])
                self.ask(c.Failover(to=to, accept_data_loss=self.chance.random() < 0.3))
                if self.chance.random() < 0.5:
                    # While the primary is still to stop, there is something to be taken back.
                    self._abort()
            case "abort":
                self._abort()
            case "pause" | "resume":
                self.ask(c.PauseGroup() if kind == "pause" else c.ResumeGroup())

    def _leading(self, runner: Runner) -> Runner:
        """Whoever leads, more often than anybody else."""
        leading = [one for one in self.runners.values() if one.epoch is not None]
        return self.chance.choice([runner, *leading, *leading])

    def _abort(self) -> None:
        for saga in self.controller.sagas:
            self.ask(AbortSaga(), saga.id)

    def _calm_down(self) -> None:
        """Nothing goes wrong any more: what was late arrives, and the group is led by one that serves."""
        self.weather.calm = True
        self.ask(c.ResumeGroup())
        for runner in self.runners.values():
            runner.cut_off, runner.ill, runner.frozen_until = False, False, 0.0
        end = self.now + 120.0
        settled = 0
        while settled < 30 or (self.messages and max(message.due for message in self.messages) > self.now + 1.0):
            assert self.now < end, f"it is never led: {self.row()}"
            self.turn()
            row = self.row()
            led = row.serving and row.failover is None and any(runner.leads for runner in self.runners.values())
            settled = settled + 1 if led else 0
            if row.primary is None and row.max_lag is not None:
                # Copies that were cut off for long may all be too far behind: an operator decides then.
                self.ask(c.Failover(accept_data_loss=True))
            for runner in self.runners.values():
                runner.copy = max(one.copy for one in self.runners.values())
        assert self.invariants.owed() == []
        self.controller.start()
        self.controller.stop()

    # Messages

    def post(self, runner: Runner, command: Command, told: Callable[[Answer], None] | None) -> None:
        """A command sets out. It arrives with the next turn, if it arrives."""
        if runner.cut_off:
            return
        message = Message(self.now + turn_seconds, runner.name, STREAM, command, told)
        if self.weather.posted(self, message):  # type: ignore[arg-type]
            self.messages.append(message)

    def _submitted(self, envelope: Envelope, told: Callable[[Answer], None]) -> None:
        self.messages.append(Message(self.now, "driver", envelope.stream, envelope.command, told, envelope.id))

    def _deliver(self) -> None:
        arrived = [answer for answer in self.answers if answer[0] <= self.now]
        self.answers = [answer for answer in self.answers if answer[0] > self.now]
        for _, told, answer in arrived:
            told(answer)
        due = [message for message in self.messages if message.due <= self.now]
        self.messages = [message for message in self.messages if message.due > self.now]
        for message in due:
            try:
                answer = self.controller.ask(message.stream, message.command, message.sender, message.id)
            except Crashed:
                self.happened["taken over"] += 1
                continue
            if message.told is not None:
                self._answer(message.told, answer)

    def _answer(self, told: Callable[[Answer], None], answer: Answer) -> None:
        """The answer sets out. Now and then it is lost or late: then it was done, and whoever asked does not know."""
        rough = 0.0 if self.weather.calm else self.chance.random()
        if rough < 0.85:
            told(answer)
        elif rough < 0.98:
            self.answers.append((self.now + self.chance.choice([0.3, 0.9, 1.2]), told, answer))

    def ask(self, command: Command, stream: str = STREAM) -> Answer | None:
        """What an operator asks for, at once; None: the controller died over it."""
        try:
            return self.controller.ask(stream, command)
        except Crashed:
            return None

    # What runners see

    def sees(self, runner: Runner) -> bool:
        """Whether news of the group reach the runner in this turn."""
        return not runner.cut_off and self.chance.random() < 0.8

    def row(self) -> GroupState:
        """The group as the read model shows it."""
        return shown("db", self.controller.views.groups[STREAM])

    # Checks

    def _recorded(self, recorded: Recorded) -> None:
        self.history.append(recorded)
        breaches = self.invariants.take(recorded)
        assert not breaches, breaches
        if isinstance(recorded.event, m.MemberPromoted | m.GroupReclaimed):
            self.granted[recorded.event.epoch] = recorded.event.member

    def _check(self) -> None:
        leading = [runner for runner in self.runners.values() if runner.leads]
        assert len(leading) <= 1, f"I18 {[(runner.process, runner.epoch) for runner in leading]} lead at one time"
        for runner in leading:
            epoch: Any = runner.epoch
            assert self.granted.get(epoch) == runner.name, f"I18 {runner.name} leads epoch {epoch} of another one"
            first = self.led.setdefault(epoch, runner.process)
            assert first == runner.process, f"I18 {first} and {runner.process} lead epoch {epoch}"
            self.happened["led"] += 1
            for other in self.runners.values():
                if other is not runner and other.up and not other.cut_off and self.chance.random() < 0.7:
                    other.copy = max(other.copy, runner.copy)
