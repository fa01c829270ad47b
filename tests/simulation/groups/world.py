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
from domain.groups import state as g
from domain.message import Recorded
from domain.saga import AbortSaga
from muster.wire.command import Command, Envelope
from muster.wire.groups.answers import GroupState
from projections.groups import shown
from sagas.invariants.log import Invariants
from tests.simulation.chaos import Weather
from tests.simulation.groups.controller import GroupController
from tests.simulation.groups.copies import Acknowledged, common, follow
from tests.simulation.groups.rules import Rules, hold_down_seconds
from tests.simulation.groups.runner import Runner
from tests.simulation.groups.services import SERVICE, Services
from tests.simulation.move_controller import Crashed
from tests.simulation.moves import Message

turn_seconds: Final = 0.1
turns: Final = 1_200
STREAM: Final = "group/db"
MEMBERS: Final = ("db1", "db2", "db3")
KINDS: Final[dict[str, float]] = {
    "crash": 2,
    "freeze": 2,
    "child ends": 3,
    "cut off": 2,
    "joined up": 4,
    "ill": 2,
    "well": 4,
    "failover": 6,
    "abort": 1,
    "pause": 0.5,
    "resume": 2,
    "stranger": 0.5,
    "looks ill": 2,
    "looks well": 4,
    "maintained": 0.5,
    "not maintained": 2,
    "falls": 2,
}
"""What goes wrong, or right again, and how often beside the others."""


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
        self.acknowledged = Acknowledged()
        self.rules = Rules()
        self.services = Services(self.chance, MEMBERS)
        about = self._recorded, self.weather.recording, self._submitted
        self.controller = GroupController(self.services.views, *about)
        self.runners = {name: Runner(name, self) for name in MEMBERS}
        members = tuple(c.NewMember(name, 3 - number) for number, name in enumerate(MEMBERS))
        for runner in self.runners.values():
            runner.fences = self.chance.random() < 0.7
        self.ask(c.CreateGroup(members=members, hold_down_seconds=hold_down_seconds, **self._settings()))

    def _settings(self) -> dict[str, Any]:
        """How this group fails over."""
        kind = self.chance.choice(["plain", "max_lag", "synchronous"])
        return {
            "max_lag": self.chance.choice([3, 40]) if kind == "max_lag" else None,
            "synchronous": kind == "synchronous",
            "preempt": self.chance.random() < 0.3,
            "service": self.chance.choice([None, SERVICE]),
            "fencing": self.chance.choice(["lease", "hook"]),
            "lease_seconds": self.chance.choice([2.0, 2.0, 6.0]),
            "failover_seconds": self.chance.choice([5.0, 30.0]),
        }

    @property
    def counts(self) -> Counter[str]:
        """What has happened."""
        events = Counter(type(recorded.event).__name__ for recorded in self.history)
        ends = Counter(f"ended: {each.event.how}" for each in self.history if isinstance(each.event, m.PrimaryEnded))
        begun = (each.event for each in self.history if isinstance(each.event, g.FailoverStarted))
        causes = Counter(f"cause: {event.cause}" for event in begun)
        signs = Counter({"sign of life": self.controller.signs})
        return self.weather.counts + self.happened + events + ends + causes + signs

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
            self.controller.instances_changed(self.services.news(self.now))
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
        [kind] = self.chance.choices(list(KINDS), list(KINDS.values()))
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
            case _:
                self._seen_by_checks(kind, runner)

    def _seen_by_checks(self, kind: str, runner: Runner) -> None:
        """What the service of the members shows, rightly or not."""
        match kind:
            case "looks ill" | "looks well":
                self.services.looks(self._leading(runner).name, well=kind == "looks well", now=self.now)
            case "maintained" | "not maintained":
                self.services.maintained(runner.name, begins=kind == "maintained", now=self.now)
            case "falls":
                # What a member's host does is mostly seen by its checks as well.
                fallen = self._leading(runner)
                self.services.looks(fallen.name, well=False, now=self.now)
                fallen.freeze(self.chance.choice([1.9, 4.0, 8.0]))

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
            self.services.looks(runner.name, well=True, now=self.now)
            self.services.maintained(runner.name, begins=False, now=self.now)
        end = self.now + 120.0
        settled = 0
        while settled < 30 or (self.messages and max(message.due for message in self.messages) > self.now + 1.0):
            assert self.now < end, f"it is never led: {self.row()}"
            self.turn()
            row = self.row()
            led = row.serving and row.failover is None and any(runner.leads for runner in self.runners.values())
            settled = settled + 1 if led else 0
            if row.primary is None and (row.max_lag is not None or row.synchronous):
                # Copies that were cut off for long may all be too far behind: an operator decides then.
                self.ask(c.Failover(accept_data_loss=True))
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
            answer = self.controller.ask(stream, command)
        except Crashed:
            return None
        if answer.error is not None:
            self.happened[answer.error["name"]] += 1
        return answer

    # What runners see

    def sees(self, runner: Runner) -> bool:
        """Whether news of the group reach the runner in this turn."""
        return not runner.cut_off and self.chance.random() < 0.8

    def caught_up(self, primary: Runner) -> list[str]:
        """Whose copies hold all that somebody may count on, so that acknowledgements may rest on them."""
        return [one.name for one in self._followers(primary) if common(one.log, primary.log) >= primary.committed]

    def powers_off(self, name: str) -> None:
        """Somebody ends all that the host runs; it comes back later."""
        self.happened["powered off"] += 1
        self.runners[name].crash(self.chance.choice([0.2, 2.0, 6.0]))

    def row(self) -> GroupState:
        """The group as the read model shows it."""
        return shown("db", self.controller.views.groups[STREAM])

    # Checks

    def _recorded(self, recorded: Recorded) -> None:
        self.history.append(recorded)
        breaches = self.invariants.take(recorded)
        assert not breaches, breaches
        event = recorded.event
        # By the clock of the log: a word that arrives is decided before the time of its turn has passed there.
        self.rules.take(event, recorded.at.timestamp())
        if isinstance(event, m.MemberPromoted | m.GroupReclaimed):
            self.granted[event.epoch] = event.member
        if isinstance(event, m.MemberPromoted):
            self.acknowledged.promoted(event, self.runners[event.member], guarded=self.rules.settings.synchronous)
        if isinstance(event, g.FailoverEnded) and "DataLossRefused" in event.detail:
            self.happened["DataLossRefused"] += 1

    def _check(self) -> None:
        leading = [runner for runner in self.runners.values() if runner.leads]
        assert len(leading) <= 1, f"I18 {[(runner.process, runner.epoch) for runner in leading]} lead at one time"
        for runner in leading:
            epoch: Any = runner.epoch
            assert self.granted.get(epoch) == runner.name, f"I18 {runner.name} leads epoch {epoch} of another one"
            first = self.led.setdefault(epoch, runner.process)
            assert first == runner.process, f"I18 {first} and {runner.process} lead epoch {epoch}"
            self.happened["led"] += 1
            for other in self._followers(runner):
                if self.chance.random() < 0.7:
                    follow(other, runner)
            if self.now >= runner.frozen_until:
                self.happened["acknowledged"] += self.acknowledged.by(runner, self.runners)

    def _followers(self, primary: Runner) -> list[Runner]:
        others = (one for one in self.runners.values() if one is not primary)
        return [one for one in others if one.up and not one.cut_off and self.now >= one.frozen_until]
