"""The engine of all sagas: what a command makes of one, what it waits for, and what runs out. Pure.

`decide` gives events for two streams, the saga's and its root's, to be recorded in one batch: so the pivot's event on the
root and the saga's own are both in the log, or neither. What a saga wants of others is `pending`, a function of its state:
after a crash it is the same again, with the same ids, and whoever answers twice is answered "already so".

The pivot is the engine's, not the author's: before it a step that fails for good turns the saga back, behind it the
saga is only ever tried again, or blocked until an operator helps. Compensation runs in the order that its first event names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal, NamedTuple

from domain.message import Event
from domain.saga import (
    INITIAL,
    VERBS,
    AbortSaga,
    CompensationStarted,
    ExpireStep,
    ForceComplete,
    PauseSaga,
    ReportProgress,
    ReportStep,
    ResumeSaga,
    RetryStep,
    Saga,
    SagaBlocked,
    SagaCompensated,
    SagaCompleted,
    SagaForced,
    SagaPaused,
    SagaResumed,
    SagaStarted,
    SagaUpgraded,
    SkipStep,
    StepCommand,
    StepFailed,
    StepRetried,
    StepSkipped,
    StepStalled,
    StepSucceeded,
    UpgradeSaga,
    evolve,
)
from muster.wire.command import Command
from muster.wire.error import MigrationNotFound, Refused, VerbNotAllowed
from sagas.engine.definition import Action, Apply, Ask, Definition, Definitions, Step, Task, Wait, newest

Decide = Callable[[Command, Any], list[Event]]
Evolve = Callable[[Any, Event], Any]


@dataclass(slots=True)
class Root:
    """The aggregate that a saga changes: its functions, and its state."""

    state: Any
    decide: Decide
    evolve: Evolve


class Told(NamedTuple):
    """An event of the saga's own stream, or of its root's."""

    of_root: bool
    event: Event


@dataclass(slots=True)
class _Course:
    """One decision under way: the states as the events so far have made them."""

    saga: Saga
    root: Root
    definition: Definition
    told: list[Told] = field(default_factory=list)

    def tell(self, event: Event) -> None:
        """Add an event of the saga."""
        self.told.append(Told(False, event))
        self.saga = evolve(self.saga, event)

    def apply(self, command: Command) -> None:
        """Add what the root makes of the command. Raises its refusal; nothing has changed then."""
        for event in self.root.decide(command, self.root.state):
            self.told.append(Told(True, event))
            self.root.state = self.root.evolve(self.root.state, event)

    @property
    def step(self) -> Step:
        """The step under way."""
        assert self.saga.step is not None, "the saga has ended"
        return self.definition.step(self.saga.step)


def start(saga_id: str, name: str, data: Mapping[str, Any], root: Root, definitions: Definitions) -> list[Told]:
    """A new saga of the newest definition of this name. Raises the refusal of its first step: then there is no saga."""
    definition = newest(definitions, name)
    first = definition.steps[0]
    course = _Course(INITIAL, root, definition)
    started = SagaStarted(saga=saga_id, definition=name, version=definition.version, data=dict(data), step=first.name)
    course.tell(started)
    for action in first.act(course.saga):
        if isinstance(action, Apply):
            course.apply(action.command)
            _succeed(course, {})
    _run(course)
    return course.told


def decide(command: Command, saga: Saga, root: Root, definitions: Definitions) -> list[Told]:
    """What the command makes of the saga. Raises MigrationNotFound or VerbNotAllowed; empty: late, or already so."""
    if saga.version == 0:
        raise MigrationNotFound("there is no such migration")
    course = _Course(saga, root, definitions[saga.definition, saga.definition_version])
    match command:
        case ReportStep():
            _report(command, course)
        case ExpireStep():
            _expire(command, course)
        case ReportProgress():
            pass
        case UpgradeSaga():
            _upgrade(command, course, definitions)
        case _:
            _verb(command, course)
    _run(course)
    return course.told


def _run(course: _Course) -> None:
    """Go through the steps that need nobody else."""
    while course.saga.step is not None:
        step = course.step
        if course.saga.forced and step.skippable and not course.saga.paused:
            _skip(course)
            continue
        if not course.saga.active:
            return
        actions = step.act(course.saga)
        applied = next((action for action in actions if isinstance(action, Apply)), None)
        if applied is None:
            if not any(isinstance(action, Wait) and action.seconds == 0 for action in actions):
                return
            _succeed(course, {})
            continue
        try:
            course.apply(applied.command)
        except Refused as refusal:
            _fail(course, f"{refusal.name}: {refusal.detail}", final=True, tried=False)
        else:
            _succeed(course, {})


def _succeed(course: _Course, result: Mapping[str, Any]) -> None:
    step = course.step.name
    course.tell(
        StepSucceeded(step=step, attempt=course.saga.attempt, result=dict(result), next=_following(course, step))
    )
    _end(course)


def _skip(course: _Course) -> None:
    step = course.step.name
    course.tell(StepSkipped(step=step, next=_following(course, step)))
    _end(course)


def _following(course: _Course, step: str) -> str | None:
    if course.saga.phase == "forward":
        return course.definition.after(step)
    return next(iter(course.saga.undo[1:]), None)


def _end(course: _Course) -> None:
    if course.saga.step is None:
        compensated = course.saga.phase == "compensating"
        course.tell(SagaCompensated(cause=course.saga.cause or "") if compensated else SagaCompleted())


def _fail(course: _Course, error: str, *, final: bool, tried: bool = True) -> None:
    saga, step = course.saga, course.step
    again = not final and saga.tried < step.attempts_max
    seconds = pause_seconds(saga, step) if again else None
    error = error[:2_000]
    course.tell(StepFailed(step=step.name, attempt=saga.attempt, error=error, retry_seconds=seconds))
    if again:
        return
    if _may_turn_back(course):
        _turn_back(course, f"{step.name}: {error}"[:2_000], tried=tried)
    else:
        course.tell(SagaBlocked(step=step.name, attempt=saga.attempt, error=error))


def _may_turn_back(course: _Course) -> bool:
    """Whether the pivot still lies ahead."""
    saga = course.saga
    if saga.phase != "forward" or saga.step is None:
        return False
    return course.definition.index(saga.step) <= course.definition.pivot


def _turn_back(course: _Course, cause: str, *, tried: bool = True) -> None:
    step = course.step.name
    undo = course.definition.undoing(step, tried=tried)
    course.tell(CompensationStarted(step=step, cause=cause, undo=undo))
    _end(course)


def _report(command: ReportStep, course: _Course) -> None:
    """A participant's answer. Of another attempt, or of somebody who was not asked, it changes nothing."""
    if not _current(command, course.saga) or not _asked(command.node, course):
        return
    if command.outcome == "failed":
        if course.saga.standing == "running":
            _fail(course, command.error or "it gave no reason", final=command.final)
        return
    wrong = course.step.check(course.saga, command.result)
    if wrong is None:
        _succeed(course, command.result)
    elif course.saga.standing == "running":
        _fail(course, wrong, final=True)


def _current(command: StepCommand, saga: Saga) -> bool:
    return not saga.ended and (saga.step, saga.attempt) == (command.step, command.attempt)


def _asked(node: str | None, course: _Course) -> bool:
    actions = course.step.act(course.saga)
    if node is None:
        return any(isinstance(action, Ask) for action in actions)
    return any(isinstance(action, Task) and action.node == node and not action.assist for action in actions)


def _expire(command: ExpireStep, course: _Course) -> None:
    saga = course.saga
    if command.kind == "window":
        if _may_turn_back(course) and saga.step is not None and course.definition.in_window(saga.step):
            _turn_back(course, f"the cut-over took longer than {course.definition.window_seconds:g} s")
        return
    if command.kind == "stalled":
        # Attempts come and go: it is the step that takes too long.
        if saga.step == command.step and saga.stalled is None and not saga.paused and saga.standing != "blocked":
            course.tell(StepStalled(step=command.step, attempt=saga.attempt, seconds=course.step.stalled_seconds))
        return
    if not _current(command, saga) or saga.paused:
        return
    match command.kind:
        case "retry" if saga.standing == "retrying":
            course.tell(StepRetried(step=command.step, attempt=saga.attempt + 1, by_hand=False))
        case "timeout" if saga.standing == "running":
            _fail(course, f"no answer within {course.step.timeout_seconds:g} s", final=False)
        case "wait" if saga.standing == "running":
            _succeed(course, {})


def allowed(saga: Saga, definition: Definition) -> tuple[str, ...]:
    """The verbs that an operator may use now."""
    if saga.step is None:
        return ()
    step = definition.step(saga.step)
    forward = saga.phase == "forward"
    ahead = forward and definition.index(saga.step) <= definition.pivot
    rules = {
        "pause": not saga.paused and saga.standing != "blocked" and step.pausable,
        "resume": saga.paused or _held(saga, step),
        "retry": saga.standing in ("retrying", "blocked"),
        "skip": step.skippable,
        "abort": ahead,
        "force-complete": forward and not ahead,
    }
    return tuple(verb for verb, holds in rules.items() if holds)


def _held(saga: Saga, step: Step) -> bool:
    """Whether the step waits for nothing but an operator."""
    actions = step.act(saga) if saga.active else ()
    return any(isinstance(action, Wait) and action.seconds is None and action.until is None for action in actions)


def _verb(command: Command, course: _Course) -> None:
    saga = course.saga
    if _already(command, course):
        return
    verb = next(name for name, kind in VERBS.items() if isinstance(command, kind))
    verbs = allowed(saga, course.definition)
    if verb not in verbs or (isinstance(command, SkipStep) and command.step != saga.step):
        state = f"{saga.phase}, {saga.standing}" + (f" at {saga.step}" if saga.step else "")
        can = f"allowed now: {', '.join(verbs)}" if verbs else "nothing is allowed any more"
        what = f"{verb} {command.step}" if isinstance(command, SkipStep) else verb
        raise VerbNotAllowed(f"{what} is not allowed while the migration is {state}; {can}", allowed=", ".join(verbs))
    assert saga.step is not None, "a saga that has ended allows nothing"
    match command:
        case PauseSaga():
            course.tell(SagaPaused())
        case ResumeSaga():
            if saga.paused:
                course.tell(SagaResumed())
            if _held(course.saga, course.step):
                _succeed(course, {})
        case RetryStep():
            course.tell(StepRetried(step=saga.step, attempt=saga.attempt + 1, by_hand=True))
        case SkipStep():
            _skip(course)
        case AbortSaga():
            _turn_back(course, "aborted")
        case ForceComplete():
            course.tell(SagaForced())
        case _:
            raise AssertionError(f"no decision for {type(command).__name__}")
    if (
        isinstance(command, SkipStep | RetryStep | ForceComplete | AbortSaga)
        and course.saga.paused
        and not course.saga.ended
    ):
        course.tell(SagaResumed())


def _already(command: Command, course: _Course) -> bool:
    """Whether the verb has had its effect."""
    saga, definition = course.saga, course.definition
    match command:
        case PauseSaga():
            return saga.paused
        case ResumeSaga():
            return not saga.ended and saga.active and not _held(saga, course.step)
        case RetryStep():
            return not saga.ended and saga.standing == "running"
        case SkipStep():
            return _passed(command.step, saga, definition)
        case AbortSaga():
            return saga.phase in ("compensating", "compensated")
        case ForceComplete():
            return saga.forced or saga.phase == "completed"
        case _:
            return False


def _passed(name: str, saga: Saga, definition: Definition) -> bool:
    if saga.step == name:
        return False
    forward = [step.name for step in definition.steps]
    if name in forward:
        return saga.step is None or saga.step not in forward or forward.index(name) < forward.index(saga.step)
    undone = any(step.name == name for step in definition.compensations)
    return undone and name not in saga.undo and saga.phase != "forward"


def _upgrade(command: UpgradeSaga, course: _Course, definitions: Definitions) -> None:
    """A later definition takes over only where nobody is at work for the saga, and at a step that it knows."""
    saga, old = course.saga, course.definition
    if command.version == saga.definition_version:
        return
    new = definitions.get((saga.definition, command.version))
    if new is None or command.version < saga.definition_version or saga.step is None or saga.phase != "forward":
        raise VerbNotAllowed(f"version {command.version} of {saga.definition} cannot take over this saga", allowed="")
    waits = saga.standing == "blocked" or all(isinstance(action, Wait) for action in course.step.act(saga))
    known = any(step.name == saga.step for step in new.steps)
    if not waits or not known or (old.index(saga.step) <= old.pivot) != (new.index(saga.step) <= new.pivot):
        raise VerbNotAllowed(f"at {saga.step} version {command.version} cannot take over; wait for a step that waits")
    course.tell(SagaUpgraded(version=command.version))
    course.definition = new


def pending(saga: Saga, definition: Definition) -> tuple[Action, ...]:
    """What the saga wants now, of whomever. Empty while it is paused, pauses between attempts, is blocked, or has ended."""
    if not saga.active or saga.step is None:
        return ()
    return definition.step(saga.step).act(saga)


def task_id(saga: Saga) -> str:
    """The id of what the saga wants now: the same after every crash, another one for every attempt."""
    return f"{saga.id}/{saga.step}/{saga.attempt}"


def pause_seconds(saga: Saga, step: Step) -> float:
    """How long to wait before the next attempt: doubling, and between half and all of it as the attempt's id says."""
    whole = min(step.backoff_seconds_max, step.backoff_seconds * float(2 ** min(saga.tried - 1, 20)))
    share = blake2b(task_id(saga).encode(), digest_size=2).digest()
    return round(whole * (0.5 + int.from_bytes(share, "big") / 131_072), 3)


class SagaTimer(NamedTuple):
    """Something that runs out after `seconds`."""

    step: str
    attempt: int
    kind: Literal["timeout", "retry", "wait", "stalled", "window"]
    seconds: float

    @property
    def name(self) -> str:
        """What tells it from others of its kind."""
        return f"{self.step}/{self.attempt}"


def timers(saga: Saga, definition: Definition) -> tuple[SagaTimer, ...]:
    """All that can run out for the saga now."""
    if saga.step is None or saga.paused or saga.standing == "blocked":
        return ()
    step, wanted = definition.step(saga.step), list[SagaTimer]()
    name, attempt = step.name, saga.attempt
    if definition.window is not None and saga.phase == "forward" and definition.in_window(name):
        wanted.append(SagaTimer(definition.window, 0, "window", definition.window_seconds))
    waits = [action for action in step.act(saga) if isinstance(action, Wait)]
    if not waits and saga.stalled is None:
        wanted.append(SagaTimer(name, 0, "stalled", step.stalled_seconds))
    if saga.standing == "retrying":
        if saga.retry_seconds is not None:
            wanted.append(SagaTimer(name, attempt, "retry", saga.retry_seconds))
        return tuple(wanted)
    for wait in waits:
        if wait.seconds is not None:
            wanted.append(SagaTimer(name, attempt, "wait", wait.seconds))
    if not waits and step.timeout_seconds is not None:
        wanted.append(SagaTimer(name, attempt, "timeout", step.timeout_seconds))
    return tuple(wanted)


def renews(command: Command) -> Callable[[SagaTimer], bool] | None:
    """Which timers the command gives their full length again; None: none at all."""
    if not isinstance(command, ReportProgress):
        return None
    attempt = "timeout", command.step, command.attempt
    return lambda timer: (timer.kind, timer.step, timer.attempt) == attempt


def expire(timer: SagaTimer) -> Command:
    """The command to give when the timer has run out."""
    return ExpireStep(step=timer.step, attempt=max(timer.attempt, 1), kind=timer.kind)
