"""What an operator may do to a saga, by its state: pause, resume, retry, skip, abort, force-complete, upgrade."""

from typing import assert_never

from domain.saga import (
    VERBS,
    AbortSaga,
    ForceComplete,
    PauseSaga,
    ResumeSaga,
    RetryStep,
    Saga,
    SagaForced,
    SagaPaused,
    SagaResumed,
    SagaUpgraded,
    SkipStep,
    StepRetried,
    UpgradeSaga,
    Verb,
)
from domain.stage import (
    Blocked,
    Compensated,
    Compensating,
    Completed,
    Forward,
    Retrying,
    Trying,
    UnderWay,
    Unstarted,
)
from muster.wire.error import VerbNotAllowed
from sagas.engine.course import Course, skip, succeed, turn_back
from sagas.engine.definition import Definition, Definitions, Step, Wait


def allowed(saga: Saga, definition: Definition) -> tuple[str, ...]:
    """The verbs that an operator may use now."""
    stage = saga.stage
    if not isinstance(stage, UnderWay):
        return ()
    at, step = stage.at, definition.step(stage.at.name)
    forward = isinstance(stage, Forward)
    ahead = forward and definition.is_ahead(at.name)
    rules = {
        "pause": not saga.paused and not isinstance(at.standing, Blocked) and step.pausable,
        "resume": saga.paused or _held(saga, step),
        "retry": isinstance(at.standing, Retrying | Blocked),
        "skip": step.skippable,
        "abort": ahead,
        "force-complete": forward and not ahead,
    }
    return tuple(verb for verb, holds in rules.items() if holds and verb in definition.verbs)


def _held(saga: Saga, step: Step) -> bool:
    """Whether the step waits for nothing but an operator."""
    actions = step.act(saga) if saga.active else ()
    return any(isinstance(action, Wait) and action.seconds is None and action.until is None for action in actions)


def take_verb(command: Verb, course: Course) -> None:
    """Do what the operator says. Nothing, if it has had its effect already; raises VerbNotAllowed."""
    # Before the check: after its own effect the verb is often not allowed any more, and a repeat must not be refused.
    if _already(command, course):
        return
    _check(command, course)
    _obey(command, course)
    # An operator who gives one of these wants the saga to go on, so a pause ends with it.
    goes_on = isinstance(command, SkipStep | RetryStep | ForceComplete | AbortSaga)
    if goes_on and course.saga.paused and not course.saga.ended:
        course.add(SagaResumed())


def _check(command: Verb, course: Course) -> None:
    saga = course.saga
    verb = next(name for name, kind in VERBS.items() if isinstance(command, kind))
    verbs = allowed(saga, course.definition)
    if verb not in verbs or (isinstance(command, SkipStep) and command.step != saga.step):
        state = f"{saga.phase}, {saga.standing}" + (f" at {saga.step}" if saga.step else "")
        can = f"allowed now: {', '.join(verbs)}" if verbs else "nothing is allowed any more"
        what = f"{verb} {command.step}" if isinstance(command, SkipStep) else verb
        raise VerbNotAllowed(
            f"{what} is not allowed while the {course.definition.saga} is {state}; {can}", allowed=", ".join(verbs)
        )


def _obey(command: Verb, course: Course) -> None:
    match command:
        case PauseSaga():
            course.add(SagaPaused())
        case ResumeSaga():
            if course.saga.paused:
                course.add(SagaResumed())
            # One resume is enough for a saga that is both paused and held: whether it is held is seen after the pause has ended.
            if _held(course.saga, course.step):
                succeed(course, {})
        case RetryStep():
            course.add(StepRetried(step=course.at.name, attempt=course.at.attempt + 1, by_hand=True))
        case SkipStep():
            skip(course)
        case AbortSaga():
            turn_back(course, "aborted")
        case ForceComplete():
            course.add(SagaForced())
        case _:
            assert_never(command)


def _already(command: Verb, course: Course) -> bool:
    """Whether the verb has had its effect."""
    saga, definition = course.saga, course.definition
    match command:
        case PauseSaga():
            return saga.paused
        case ResumeSaga():
            return saga.active and not _held(saga, course.step)
        case RetryStep():
            return saga.at is not None and isinstance(saga.at.standing, Trying)
        case SkipStep():
            return _passed(command.step, saga, definition)
        case AbortSaga():
            return isinstance(saga.stage, Compensating | Compensated)
        case ForceComplete():
            return isinstance(saga.stage, Completed) or (isinstance(saga.stage, Forward) and saga.stage.forced)
        case _:
            assert_never(command)


def _passed(name: str, saga: Saga, definition: Definition) -> bool:
    if saga.step == name:
        return False
    forward = [step.name for step in definition.steps]
    if name in forward:
        # On the way back no forward step is left to be skipped, so all of them count as passed.
        return saga.step is None or saga.step not in forward or forward.index(name) < forward.index(saga.step)
    undone = any(step.name == name for step in definition.compensations)
    match saga.stage:
        case Compensating(undo=undo):
            return undone and name not in undo
        case Completed() | Compensated():
            return undone
        case Forward() | Unstarted():
            return False
        case _:
            assert_never(saga.stage)


def upgrade(command: UpgradeSaga, course: Course, definitions: Definitions) -> None:
    """A later definition takes over only where nobody is at work for the saga, and at a step that it knows."""
    saga, old = course.saga, course.definition
    if command.version == saga.definition_version:
        return
    new = definitions.get((saga.definition, command.version))
    if new is None or command.version < saga.definition_version or not isinstance(saga.stage, Forward):
        raise VerbNotAllowed(f"version {command.version} of {saga.definition} cannot take over this saga", allowed="")
    at = saga.stage.at
    # While somebody is at work, the new definition could ask for something else under the same task id.
    waits = isinstance(at.standing, Blocked) or all(isinstance(action, Wait) for action in course.step.act(saga))
    known = any(step.name == at.name for step in new.steps)
    if not waits or not known or old.is_ahead(at.name) != new.is_ahead(at.name):
        raise VerbNotAllowed(f"at {at.name} version {command.version} cannot take over; wait for a step that waits")
    course.add(SagaUpgraded(version=command.version))
    # What this decision does from here on, in `run`, goes by the new definition.
    course.definition = new
