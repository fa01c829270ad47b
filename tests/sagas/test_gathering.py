"""A step that asks several participants and goes on with enough of their answers: given/when/then, and on the real machine.

The saga makes another copy of a service's data the leading one: `n - q + 1` of the hosts that hold copies have to be fenced
first, and the longest of these leads. It is what replicas need; see `Step.enough`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from domain.message import Recorded
from domain.registry import service
from domain.registry.service import ClearMaintenance, RegisterInstance, SetMaintenance
from domain.saga import (
    INITIAL,
    AbortSaga,
    CompensationStarted,
    PauseSaga,
    ReportStep,
    ResumeSaga,
    RetryStep,
    Saga,
    SagaBlocked,
    SagaCompleted,
    StepAnswered,
    StepFailed,
    StepRetried,
    StepSucceeded,
)
from domain.shards.cluster import INITIAL as NO_CLUSTER
from muster.wire.command import Command, Envelope
from muster.wire.registry.spec import Spec
from muster.wire.stream import SERVICE, Name
from sagas.engine import decide as engine
from sagas.engine.definition import Action, Answers, Apply, Definition, Delegate, Heard, Step, Wait, table
from sagas.engine.explain import waits_for
from sagas.engine.wanted import pending
from tests.given import after
from tests.machine import Machine, statuses
from tests.sagas.story import Story, expire, root
from tests.sagas.tampered import Tamper, breaches, changed, followed_by, tampered
from workers.machine.aggregate import Aggregates
from workers.machine.group import Group

HOSTS: Final = ("h1", "h2", "h3")
FACTS: Final = {"instance": "a", "hosts": list(HOSTS), "needed": 2, "patient": False}


class SwitchCopies(Command):
    """Let the longest of the copies on these hosts lead, once `needed` of them are fenced."""

    type = "muster.test.switch_copies.v1"
    instance: Name
    hosts: tuple[Name, ...]
    needed: int


def _quiesce(saga: Saga) -> tuple[Action, ...]:
    return (Apply(SetMaintenance(instance=saga.data["instance"])),)


def _readmit(saga: Saga) -> tuple[Action, ...]:
    return (Apply(ClearMaintenance(instance=saga.data["instance"])),)


def _fence(saga: Saga) -> tuple[Action, ...]:
    asked = tuple(Delegate(host, "fence", {"epoch": 1}) for host in saga.data["hosts"])
    return (*asked, Wait("nobody else needs to answer", seconds=9.0)) if saga.data["patient"] else asked


def _fenced(saga: Saga, answers: Answers) -> Heard | None:
    """Enough are fenced; or so many cannot be that it will never be enough."""
    ends = {host: answer.result["end"] for host, answer in answers.items() if answer.error is None}
    if len(ends) >= saga.data["needed"]:
        return Heard(result={"ends": ends, "longest": max(sorted(ends), key=lambda host: ends[host])})
    if len(saga.data["hosts"]) - (len(answers) - len(ends)) < saga.data["needed"]:
        return Heard(error=f"too few copies are left: {sorted(answers.keys() - ends.keys())} have none")
    return None


def _says_its_end(_saga: Saga, result: Mapping[str, Any]) -> str | None:
    return None if "end" in result else "it does not say where its copy ends"


def _announce(saga: Saga) -> tuple[Action, ...]:
    spec = Spec(address=saga.results["fence"]["longest"], port=1, metadata={})
    return (Apply(RegisterInstance(instance=saga.data["instance"], spec=spec)),)


def _tell(saga: Saga) -> tuple[Action, ...]:
    return tuple(Delegate(host, "follow") for host in saga.data["hosts"])


def _told(saga: Saga, answers: Answers) -> Heard | None:
    return Heard() if len(answers) == len(saga.data["hosts"]) else None


SWITCH: Final = Definition(
    "switch_copies",
    1,
    (
        Step("quiesce", _quiesce, undo=(Step("readmit", _readmit),)),
        Step(
            "fence",
            _fence,
            harmless="a fenced copy only waits",
            timeout_seconds=1.0,
            attempts_max=3,
            check=_says_its_end,
            enough=_fenced,
        ),
        Step("announce", _announce, pivot=True),
        Step("tell", _tell, attempts_max=2, enough=_told),
        Step("admit", _readmit),
    ),
    saga="restart",
    root=SERVICE,
    start=SwitchCopies,
    number=lambda orders: orders.version + 1,
    facts=lambda command, _saga, _orders: {**FACTS, "hosts": list(command.hosts), "needed": command.needed},
)


def switch(**facts: Any) -> Story:
    """The saga as it begins to fence."""
    registered = RegisterInstance(instance="a", spec=Spec(address="h1", port=1, metadata={}))
    orders = after(service, service.INITIAL, *service.decide(registered, service.INITIAL))
    story = Story(INITIAL, orders, service, table(SWITCH))
    told = engine.start("service/orders/restart/1", {**FACTS, **facts}, root("service/orders", orders, service), SWITCH)
    return story.after(told)


def answers(node: str, end: int | None = None, *, attempt: int = 1, step: str = "fence") -> ReportStep:
    result = {} if end is None else {"end": end}
    return ReportStep(step=step, attempt=attempt, node=node, outcome="done", result=result)


def cannot(node: str, error: str = "no copy", *, attempt: int = 1, final: bool = True) -> ReportStep:
    return ReportStep(step="fence", attempt=attempt, node=node, outcome="failed", error=error, final=final)


def answered(node: str, end: int | None = None, *, attempt: int = 1, error: str | None = None) -> StepAnswered:
    result = {} if end is None else {"end": end}
    return StepAnswered(step="fence", attempt=attempt, node=node, result=result, error=error)


def announced() -> Story:
    return switch().when(answers("h1", 5)).when(answers("h3", 7)).until("tell")


def undecided(story: Story) -> Story:
    """As if the author never said that it is enough."""
    fence = replace(SWITCH.step("fence"), enough=lambda _saga, _answers: None)
    return replace(story, definitions=table(replace(SWITCH, steps=(SWITCH.steps[0], fence, *SWITCH.steps[2:]))))


def asked(story: Story) -> list[str]:
    return [task.node for task in story.tasks]


class TestEnough:
    def test_all_are_asked_at_once(self):
        assert asked(switch()) == ["h1", "h2", "h3"]

    def test_an_answer_is_recorded_and_its_participant_is_asked_no_more(self):
        story = switch().when(answers("h1", 5)).then(answered("h1", 5))
        assert asked(story) == ["h2", "h3"]

    def test_it_goes_on_as_soon_as_there_are_enough(self):
        story = switch().when(answers("h1", 5)).when(answers("h3", 7))
        told = [type(event) for event in story.events()]
        assert told == [StepAnswered, StepSucceeded, StepSucceeded]
        assert story.saga.results["fence"] == {"ends": {"h1": 5, "h3": 7}, "longest": "h3"}
        assert story.root.instances["a"].spec.address == "h3"

    def test_the_next_step_begins_without_answers(self):
        assert asked(announced()) == ["h1", "h2", "h3"]

    def test_where_nobody_is_needed_nobody_is_waited_for(self):
        story = switch(hosts=["h1"], needed=1).when(answers("h1", 0)).until("tell")
        assert asked(story) == ["h1"]

    def test_it_ends_when_all_have_answered_a_step_that_needs_all(self):
        story = announced()
        for host in HOSTS:
            story = story.when(answers(host, step="tell"))
        assert story.events()[-1] == SagaCompleted()

    def test_nobody_else_counts(self):
        switch().nothing(answers("h9", 5), answers("h1", 5, step="tell"), answers("h1", 5, attempt=2))

    def test_a_second_answer_of_the_same_one_counts_for_nothing(self):
        switch().when(answers("h1", 5)).nothing(answers("h1", 9), cannot("h1"))

    def test_what_comes_behind_the_step_changes_nothing(self):
        announced().nothing(answers("h2", 9))


class TestOverItsAttempts:
    def retried(self) -> Story:
        """One has answered; the attempt has run out, and another one is under way."""
        return switch().when(answers("h1", 5)).runs_out("timeout").runs_out("retry")

    def test_answers_are_kept(self):
        story = self.retried()
        assert (story.saga.attempt, asked(story)) == (2, ["h2", "h3"])
        assert story.when(answers("h2", 9, attempt=2)).step == "tell"

    def test_a_late_answer_to_an_earlier_attempt_counts(self):
        assert self.retried().when(answers("h2", 9, attempt=1)).step == "tell"

    def test_a_late_failure_of_an_earlier_attempt_does_not(self):
        self.retried().nothing(cannot("h2", attempt=1), cannot("h2", attempt=1, final=False), answers("h2", attempt=1))

    def test_between_two_attempts_enough_is_enough(self):
        story = switch().when(answers("h1", 5)).runs_out("timeout")
        assert story.saga.standing == "retrying"
        assert story.when(answers("h2", 9)).step == "tell"

    def test_during_a_pause_an_answer_is_kept_too(self):
        story = switch().when(PauseSaga()).when(answers("h1", 5)).then(answered("h1", 5))
        assert asked(story.when(ResumeSaga())) == ["h2", "h3"]

    def test_a_failure_that_is_not_for_good_is_a_failed_attempt(self):
        story = switch().when(answers("h1", 5)).when(cannot("h2", "busy", final=False))
        [failed] = story.events()
        assert isinstance(failed, StepFailed)
        assert failed.error == "h2: busy"
        assert asked(story.runs_out("retry")) == ["h2", "h3"]

    def test_without_enough_of_them_the_saga_turns_back(self):
        story = switch().when(answers("h1", 5))
        for _ in range(2):
            story = story.runs_out("timeout").runs_out("retry")
        story = story.runs_out("timeout")
        assert any(isinstance(event, CompensationStarted) for event in story.events())
        assert story.saga.phase == "compensated"


class TestThoseThatCannot:
    def test_it_is_recorded_and_others_are_waited_for(self):
        story = switch().when(cannot("h1")).then(answered("h1", error="no copy"))
        assert asked(story) == ["h2", "h3"]
        assert story.when(answers("h2", 5)).when(answers("h3", 7)).step == "tell"

    def test_so_is_an_answer_that_cannot_be_taken(self):
        switch().when(answers("h1")).then(answered("h1", error="it does not say where its copy ends"))

    def test_it_is_over_as_soon_as_there_can_never_be_enough(self):
        story = switch().when(cannot("h1")).when(cannot("h2"))
        assert (asked(story), story.saga.phase) == ([], "compensated")
        assert story.saga.cause == "fence: too few copies are left: ['h1', 'h2'] have none"

    def test_all_have_answered_and_the_author_says_nothing(self):
        story = undecided(switch()).when(answers("h1", 1)).when(answers("h2", 2)).when(cannot("h3"))
        assert story.saga.cause == ("fence: all have answered, and that is not enough: h1: done; h2: done; h3: no copy")

    def test_but_something_else_may_decide_the_step_then(self):
        story = undecided(switch(hosts=["h1"], needed=1, patient=True)).when(answers("h1", 1))
        assert (story.step, asked(story)) == ("fence", [])

    def test_an_operator_who_tries_again_has_those_asked_again_that_could_not(self):
        story = announced().when(answers("h1", step="tell"))
        story = story.when(ReportStep(step="tell", attempt=1, node="h2", outcome="failed", error="e", final=False))
        story = story.runs_out("retry")
        story = story.when(ReportStep(step="tell", attempt=2, node="h2", outcome="failed", error="e", final=False))
        assert isinstance(story.events()[-1], SagaBlocked)
        story = story.when(RetryStep()).then(StepRetried(step="tell", attempt=3, by_hand=True))
        assert asked(story) == ["h2", "h3"]

    def test_those_that_cannot_are_asked_again_by_hand_only(self):
        story = switch().when(cannot("h1")).runs_out("timeout")
        assert asked(story.runs_out("retry")) == ["h2", "h3"]
        assert asked(story.when(RetryStep())) == ["h1", "h2", "h3"]


class TestWhatItWaitsFor:
    def told(self, story: Story) -> str | None:
        return waits_for(story.saga, SWITCH, lambda _: NO_CLUSTER)

    def test_it_says_whose_answers_are_missing_and_whose_are_there(self):
        away = " (which has not joined)"
        story = switch()
        assert self.told(story) == f"enough of: h1{away} to fence, h2{away} to fence, h3{away} to fence"
        story = story.when(answers("h2", 5)).when(cannot("h1"))
        assert self.told(story) == f"enough of: h3{away} to fence; h1 cannot: no copy; h2 has answered"

    def test_also_where_something_else_may_decide_the_step(self):
        assert (self.told(switch(patient=True)) or "").startswith("enough of: h1")
        only = undecided(switch(hosts=["h1"], needed=1, patient=True)).when(answers("h1", 1))
        assert self.told(only) == "9.0 s more to pass: nobody else needs to answer"


class Switches(Machine):
    """A machine that knows this saga."""

    def __init__(self) -> None:
        super().__init__(Aggregates(table(SWITCH)))
        self.count, self.told = 0, list[Recorded]()
        self.ask("service/orders", RegisterInstance(instance="a", spec=Spec(address="h1", port=1, metadata={})))
        command = SwitchCopies(instance="a", hosts=HOSTS, needed=2)
        self.ask("service/orders", command)
        [self.stream] = [stream for stream in self.partition.streams if "/restart/" in stream]

    def ask(self, stream: str, command: Command) -> str:
        self.count += 1
        return statuses([self.answer(Envelope(f"c{self.count}", stream, command, actor="ann"))])[0]

    def commit(self, group: Group) -> list[Recorded]:
        self.told += (recorded := super().commit(group))
        return recorded

    @property
    def saga(self) -> Saga:
        found: Saga = self.partition.streams[self.stream]
        return found

    def takes_over(self) -> None:
        """Another machine carries on, from the log alone."""
        self.claims("w2", self.recovered())


@pytest.mark.parametrize("restarts", [False, True])
def test_on_the_real_machine_its_log_is_sound(restarts: bool) -> None:
    machine = Switches()
    assert machine.ask(machine.stream, cannot("h2")) == "accepted"
    if restarts:
        machine.takes_over()
    assert [task.node for task in pending(machine.saga, SWITCH) if isinstance(task, Delegate)] == ["h1", "h3"]
    machine.passes(1.1)
    assert machine.ask(machine.stream, answers("h1", 5)) == "accepted"
    assert machine.ask(machine.stream, answers("h3", 7)) == "accepted"
    if restarts:
        machine.takes_over()
    assert machine.saga.step == "tell"
    for host in HOSTS:
        machine.ask(machine.stream, answers(host, step="tell"))
    assert machine.saga.phase == "completed"
    assert breaches(machine.told) == []


def test_who_could_not_and_is_asked_again_by_hand_may_answer_once_more() -> None:
    machine = Switches()
    machine.ask(machine.stream, cannot("h2"))
    machine.passes(1.1)
    assert machine.ask(machine.stream, RetryStep()) == "accepted"
    assert machine.ask(machine.stream, answers("h2", 5, attempt=machine.saga.attempt)) == "accepted"
    assert breaches(machine.told) == []


@pytest.mark.parametrize(
    "tamper",
    [changed(step="tell"), changed(attempt=2), followed_by(answered("h1", 9))],
    ids=["another step", "an attempt to come", "twice"],
)
def test_answers_that_cannot_have_been_given_are_named(tamper: Tamper) -> None:
    machine = Switches()
    machine.ask(machine.stream, answers("h1", 5))
    [breach] = [told for told in tampered(tuple(machine.told), StepAnswered, tamper) if "I14" in told]
    assert "answers" in breach


def test_aborted_it_asks_nobody_any_more() -> None:
    story = switch().when(answers("h1", 5)).when(AbortSaga())
    assert (story.saga.phase, story.tasks) == ("compensated", [])
    story.nothing(answers("h2", 5), expire("timeout", "fence"))
