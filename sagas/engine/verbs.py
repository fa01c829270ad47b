"""What an operator may do to a saga, by its state: pause, resume, retry, skip, abort, force-complete, upgrade."""

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
)
from muster.wire.command import Command
from muster.wire.error import VerbNotAllowed
from sagas.engine.course import Course, skip, succeed, turn_back
from sagas.engine.definition import Definition, Definitions, Step, Wait


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
    return tuple(verb for verb, holds in rules.items() if holds and verb in definition.verbs)


def _held(saga: Saga, step: Step) -> bool:
    """Whether the step waits for nothing but an operator."""
    actions = step.act(saga) if saga.active else ()
    return any(isinstance(action, Wait) and action.seconds is None and action.until is None for action in actions)


def take_verb(command: Command, course: Course) -> None:
    """Do what the operator says. Nothing, if it has had its effect already; raises VerbNotAllowed."""
    saga = course.saga
    if _already(command, course):
        return
    verb = next(name for name, kind in VERBS.items() if isinstance(command, kind))
    verbs = allowed(saga, course.definition)
    if verb not in verbs or (isinstance(command, SkipStep) and command.step != saga.step):
        state = f"{saga.phase}, {saga.standing}" + (f" at {saga.step}" if saga.step else "")
        can = f"allowed now: {', '.join(verbs)}" if verbs else "nothing is allowed any more"
        what = f"{verb} {command.step}" if isinstance(command, SkipStep) else verb
        raise VerbNotAllowed(
            f"{what} is not allowed while the {course.definition.saga} is {state}; {can}", allowed=", ".join(verbs)
        )
    assert saga.step is not None, "a saga that has ended allows nothing"
    match command:
        case PauseSaga():
            course.add(SagaPaused())
        case ResumeSaga():
            if saga.paused:
                course.add(SagaResumed())
            if _held(course.saga, course.step):
                succeed(course, {})
        case RetryStep():
            course.add(StepRetried(step=saga.step, attempt=saga.attempt + 1, by_hand=True))
        case SkipStep():
            skip(course)
        case AbortSaga():
            turn_back(course, "aborted")
        case ForceComplete():
            course.add(SagaForced())
        case _:
            raise AssertionError(f"no decision for {type(command).__name__}")
    if (
        isinstance(command, SkipStep | RetryStep | ForceComplete | AbortSaga)
        and course.saga.paused
        and not course.saga.ended
    ):
        course.add(SagaResumed())


def _already(command: Command, course: Course) -> bool:
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


def upgrade(command: UpgradeSaga, course: Course, definitions: Definitions) -> None:
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
    course.add(SagaUpgraded(version=command.version))
    course.definition = new
