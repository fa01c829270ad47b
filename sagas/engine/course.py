"""One decision under way: what a command has made of a saga and of its root so far, and the ways on from there.

The pivot is the engine's, not the author's: before it a step that fails for good turns the saga back; after it the saga is
only ever tried again, or blocked until an operator helps. Compensation runs in the order that its first event names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

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
from muster.wire.command import Command
from muster.wire.error import Refused
from sagas.engine.definition import Apply, Definition, Step, Wait
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
        self.produced.append(Produced(False, event))
        self.saga = evolve(self.saga, foreseen(self.saga.id, self.saga.version, event))

    def apply(self, command: Command) -> None:
        """Add what the root makes of the command. Raises its refusal; nothing has changed then."""
        for event in self.root.decide(command, self.root.state):
            self.produced.append(Produced(True, event))
            self.root.state = self.root.evolve(
                self.root.state, foreseen(self.root.stream, self.root.state.version, event)
            )

    @property
    def step(self) -> Step:
        """The step under way."""
        assert self.saga.step is not None, "the saga has ended"
        return self.definition.step(self.saga.step)


def run(course: Course) -> None:
    """Go through the steps that need nobody else."""
    while course.saga.step is not None:
        step = course.step
        if course.saga.forced and step.skippable and not course.saga.paused:
            skip(course)
            continue
        if not course.saga.active:
            return
        actions = step.act(course.saga)
        applied = next((action for action in actions if isinstance(action, Apply)), None)
        if applied is None:
            if not any(isinstance(action, Wait) and action.seconds == 0 for action in actions):
                return
            succeed(course, {})
            continue
        try:
            course.apply(applied.command)
        except Refused as refusal:
            fail(course, f"{refusal.name}: {refusal.detail}", final=True, tried=False)
        else:
            succeed(course, {})


def succeed(course: Course, result: Mapping[str, Any]) -> None:
    """The step is done, with this result; the saga goes on to the next one, or ends."""
    step = course.step.name
    course.add(
        StepSucceeded(step=step, attempt=course.saga.attempt, result=dict(result), next=_following(course, step))
    )
    _end(course)


def skip(course: Course) -> None:
    """Leave the step out; the saga goes on to the next one, or ends."""
    step = course.step.name
    course.add(StepSkipped(step=step, next=_following(course, step)))
    _end(course)


def _following(course: Course, step: str) -> str | None:
    if course.saga.phase == "forward":
        return course.definition.after(step)
    return next(iter(course.saga.undo[1:]), None)


def _end(course: Course) -> None:
    if course.saga.step is None:
        compensated = course.saga.phase == "compensating"
        course.add(SagaCompensated(cause=course.saga.cause or "") if compensated else SagaCompleted())


def fail(course: Course, error: str, *, final: bool, tried: bool = True) -> None:
    """An attempt has failed: try again, or turn back if the pivot is still ahead, or block.

    `final`: another attempt would not help. `tried`: the step may have had an effect, so its undoing is in the scope.
    """
    saga, step = course.saga, course.step
    again = not final and saga.tried < step.attempts_max
    seconds = pause_seconds(saga, step) if again else None
    error = error[:2_000]
    course.add(StepFailed(step=step.name, attempt=saga.attempt, error=error, retry_seconds=seconds))
    if again:
        return
    if may_turn_back(course):
        turn_back(course, f"{step.name}: {error}"[:2_000], tried=tried)
    else:
        course.add(SagaBlocked(step=step.name, attempt=saga.attempt, error=error))


def may_turn_back(course: Course) -> bool:
    """Whether the pivot still lies ahead."""
    saga = course.saga
    if saga.phase != "forward" or saga.step is None:
        return False
    return course.definition.index(saga.step) <= course.definition.pivot


def turn_back(course: Course, cause: str, *, tried: bool = True) -> None:
    """Begin the compensation. Its scope is fixed here, in its first event."""
    step = course.step.name
    undo = course.definition.undoing(step, tried=tried)
    course.add(CompensationStarted(step=step, cause=cause, undo=undo))
    _end(course)
