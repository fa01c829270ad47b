"""One decision under way: what a command has made of a saga and of its root so far, and the ways on from there.

The pivot is the engine's, not the author's: before it a step that fails for good turns the saga back; after it the saga is
only ever tried again, or blocked until an operator helps. Compensation runs in the order that its first event names.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, assert_never

from domain.message import Event, Recorded, foreseen
from domain.saga import (
    CompensationStarted,
    Saga,
    SagaBlocked,
    SagaCompensated,
    SagaCompleted,
    SagaEvent,
    StepFailed,
    StepSkipped,
    StepSucceeded,
    evolve,
)
from domain.stage import Compensated, Compensating, Completed, Forward, StepUnderWay, UnderWay, Unstarted
from muster.wire.command import Command
from muster.wire.error import Refused
from sagas.engine.definition import Action, Apply, Ask, Definition, Delegate, Heard, Step, Wait
from sagas.engine.wanted import pause_seconds

Decide = Callable[[Any, Any], list[Any]]
Evolve = Callable[[Any, Recorded[Any]], Any]


@dataclass(slots=True)
class Root:
    """The aggregate that a saga changes: its stream, its functions, and its state."""

    stream: str
    state: Any
    decide: Decide
    evolve: Evolve


class Produced(NamedTuple):
    """An event of the saga's own stream, or of its root's."""

    of_root: bool
    event: Event


@dataclass(slots=True)
class Course:
    """One decision under way: the states as the events so far have made them."""

    saga: Saga
    root: Root
    definition: Definition
    produced: list[Produced] = field(default_factory=list)

    def add(self, event: SagaEvent) -> None:
        """Add an event of the saga."""
        # Folded at once: what follows in this decision is decided on the saga as its events have made it so far.
        self.produced.append(Produced(False, event))
        self.saga = evolve(self.saga, foreseen(self.saga.id, self.saga.version, event))

    def apply(self, command: Command) -> None:
        """Add what the root makes of the command. Raises its refusal; nothing has changed then."""
        # `decide` has come to its end before the first event is added, so a refusal leaves nothing behind.
        for event in self.root.decide(command, self.root.state):
            self.produced.append(Produced(True, event))
            self.root.state = self.root.evolve(
                self.root.state, foreseen(self.root.stream, self.root.state.version, event)
            )

    @property
    def stage(self) -> UnderWay:
        """The saga's stage, while it has not ended."""
        assert isinstance(self.saga.stage, UnderWay), f"the saga is {self.saga.phase}"
        return self.saga.stage

    @property
    def at(self) -> StepUnderWay:
        """Where the saga is."""
        return self.stage.at

    @property
    def step(self) -> Step:
        """The step under way, as its author wrote it."""
        return self.definition.step(self.at.name)


def run(course: Course) -> None:
    """Go through the steps that need nobody else."""
    while not course.saga.ended:
        step = course.step
        forced = isinstance(course.stage, Forward) and course.stage.forced
        # Before the saga is asked whether it is active: a forced one also leaves out a step that is blocked or waits
        # to be tried again.
        if forced and step.skippable and not course.saga.paused:
            skip(course)
            continue
        if not course.saga.active:
            return
        actions = step.act(course.saga)
        applied = next((action for action in actions if isinstance(action, Apply)), None)
        if applied is None:
            heard = heard_of_participants(course) or _heard_of_root(course, actions)
            if heard is not None:
                conclude(course, heard)
                continue
            # A wait of no time is over at once. It would otherwise need a timer, and the writer's next tick.
            if not any(isinstance(action, Wait) and action.seconds == 0 for action in actions):
                return
            succeed(course, {})
            continue
        try:
            course.apply(applied.command)
        except Refused as refusal:
            # The state says no, so another attempt would get the same answer. And what was refused has done nothing
            # to be undone.
            fail(course, f"{refusal.name}: {refusal.detail}", final=True, tried=False)
        else:
            succeed(course, {})


def conclude(course: Course, heard: Heard) -> None:
    """The step has come to this."""
    if heard.error is not None:
        fail(course, heard.error, final=True)
    else:
        succeed(course, heard.result or {})


def heard_of_participants(course: Course) -> Heard | None:
    """What the answers that are there say about a step that asks several participants."""
    step, answers = course.step, course.at.answers
    if step.enough is None:
        return None
    heard = step.enough(course.saga, answers)
    actions = step.act(course.saga)
    # Nobody is left who could say more, and nothing else could decide the step: it would stand there for ever.
    left = [action for action in actions if not isinstance(action, Delegate) or action.node not in answers]
    if heard is None and all(isinstance(action, Delegate) and action.assist for action in left):
        said = "; ".join(f"{node}: {answer.error or 'done'}" for node, answer in sorted(answers.items()))
        return Heard(error=f"all have answered, and that is not enough: {said}"[:2_000])
    return heard


def _heard_of_root(course: Course, actions: Sequence[Action]) -> Heard | None:
    """What the root's own state says about the step: it is at hand, so nobody has to look at it and report."""
    asks = (action for action in actions if isinstance(action, Ask) and action.stream == course.root.stream)
    answers = (ask.heard(course.root.state) for ask in asks if ask.heard is not None)
    return next((heard for heard in answers if heard is not None), None)


def succeed(course: Course, result: Mapping[str, Any]) -> None:
    """The step is done, with this result; the saga goes on to the next one, or ends."""
    at = course.at
    course.add(StepSucceeded(step=at.name, attempt=at.attempt, result=dict(result), next=_following(course)))
    _end(course)


def skip(course: Course) -> None:
    """Leave the step out; the saga goes on to the next one, or ends."""
    course.add(StepSkipped(step=course.at.name, next=_following(course)))
    _end(course)


def _following(course: Course) -> str | None:
    match course.stage:
        case Forward(at):
            return course.definition.after(at.name)
        case Compensating(undo=undo):
            return next(iter(undo[1:]), None)
        case _:
            assert_never(course.stage)


def _end(course: Course) -> None:
    """Say so, if the saga has just ended."""
    match course.saga.stage:
        case Completed():
            course.add(SagaCompleted())
        case Compensated(cause):
            course.add(SagaCompensated(cause=cause))
        case Forward() | Compensating():
            pass
        case Unstarted():
            raise AssertionError("a saga ends that never started")
        case _:
            assert_never(course.saga.stage)


def fail(course: Course, error: str, *, final: bool, tried: bool = True) -> None:
    """An attempt has failed: try again, or turn back if the pivot is still ahead, or block.

    `final`: another attempt would not help. `tried`: the step may have had an effect, so its undoing is in the scope.
    """
    at, step = course.at, course.step
    again = not final and at.tried < step.attempts_max
    seconds = pause_seconds(course.saga, step) if again else None
    # The most that the event's class takes. Making an event validates nothing, so a longer text would be written, and
    # the log could not be read any more.
    error = error[:2_000]
    course.add(StepFailed(step=step.name, attempt=at.attempt, error=error, retry_seconds=seconds))
    # Its retry timer begins the next attempt: see `timers`.
    if again:
        return
    if may_turn_back(course):
        turn_back(course, f"{step.name}: {error}"[:2_000], tried=tried)
    else:
        course.add(SagaBlocked(step=step.name, attempt=at.attempt, error=error))


def may_turn_back(course: Course) -> bool:
    """Whether the pivot still lies ahead."""
    stage = course.saga.stage
    # At the pivot there still is a way back: as long as it has not succeeded, nothing of it has happened.
    return isinstance(stage, Forward) and course.definition.is_ahead(stage.at.name)


def turn_back(course: Course, cause: str, *, tried: bool = True) -> None:
    """Begin the compensation. Its scope is fixed here, in its first event."""
    step = course.step.name
    undo = course.definition.undoing(step, tried=tried)
    course.add(CompensationStarted(step=step, cause=cause, undo=undo))
    _end(course)
