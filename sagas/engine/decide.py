"""The engine of all sagas: what a command makes of one. Pure.

`decide` gives events for two streams, the saga's and its root's, to be recorded in one batch: so the pivot's event on the
root and the saga's own are both in the log, or neither. What a saga wants of others is `pending` (`wanted.py`), a function
of its state: after a crash it is the same again, with the same ids, and a repeated command is answered "already so".
"""

from collections.abc import Mapping
from typing import Any, assert_never

from domain.saga import (
    INITIAL,
    AbortSaga,
    AnyCommand,
    ExpireStep,
    ForceComplete,
    PauseSaga,
    ReportProgress,
    ReportStep,
    ResumeSaga,
    RetryStep,
    Saga,
    SagaStarted,
    SkipStep,
    StepAnswered,
    StepCommand,
    StepRetried,
    StepStalled,
    UpgradeSaga,
)
from domain.stage import Blocked, Retrying, StepUnderWay, Trying, UnderWay
from muster.wire.command import Command
from muster.wire.sagas import TOOK_LONGER
from muster.wire.stream import saga_stream
from sagas.engine.course import (
    Course,
    Produced,
    Root,
    conclude,
    fail,
    heard_of_participants,
    may_turn_back,
    run,
    succeed,
    turn_back,
)
from sagas.engine.definition import Apply, Ask, Definition, Definitions, Delegate
from sagas.engine.verbs import take_verb, upgrade


def begin(command: Command, root: Root, definition: Definition) -> tuple[str, list[Produced]]:
    """The stream of the new saga that the command starts, and the events that it makes; none: already so.

    Raises a refusal: of the facts, or of the saga's first step.
    """
    assert definition.number is not None, f"{type(command).__name__} starts no {definition.name}"
    number = definition.number(root.state)
    saga_id = saga_stream(root.stream, definition.saga, number)
    facts = definition.facts(command, saga_id, root.state)
    if facts is None:
        return saga_id, []
    produced = start(saga_id, facts, root, definition)
    # The root counts its sagas. Were this one not counted, the next one would get the same stream.
    assert definition.number(root.state) > number, f"{root.stream} has not counted {saga_id}"
    return saga_id, produced


def start(saga_id: str, data: Mapping[str, Any], root: Root, definition: Definition) -> list[Produced]:
    """A new saga. Raises the refusal of its first step: then there is no saga. `root` then has the state after the events."""
    first = definition.steps[0]
    course = Course(INITIAL, root, definition)
    started = SagaStarted(
        saga=saga_id, definition=definition.name, version=definition.version, data=dict(data), step=first.name
    )
    course.add(started)
    # Not by `run`, where a refusal fails the step: here it has to refuse the command, so that no saga begins.
    for action in first.act(course.saga):
        if isinstance(action, Apply):
            course.apply(action.command)
            succeed(course, {})
    run(course)
    return course.produced


def decide(command: AnyCommand, saga: Saga, root: Root, definitions: Definitions) -> list[Produced]:
    """What the command makes of the saga, which has begun. Raises VerbNotAllowed; empty: late, or already so."""
    course = Course(saga, root, definitions[saga.definition, saga.definition_version])
    match command:
        case ReportStep():
            _report(command, course)
        case ExpireStep():
            _expire(command, course)
        # Nothing is recorded; that the command was answered gives its attempt the full time again (`timers.renews`).
        case ReportProgress():
            pass
        case UpgradeSaga():
            upgrade(command, course, definitions)
        case PauseSaga() | ResumeSaga() | RetryStep() | SkipStep() | AbortSaga() | ForceComplete():
            take_verb(command, course)
        case _:
            assert_never(command)
    run(course)
    return course.produced


def hear(saga: Saga, root: Root, definitions: Definitions) -> list[Produced]:
    """What the saga makes of what has just happened to its root; empty: it waits for something else."""
    course = Course(saga, root, definitions[saga.definition, saga.definition_version])
    run(course)
    return course.produced


def _report(command: ReportStep, course: Course) -> None:
    """A participant's answer. One of another attempt, or of a participant that was not asked, changes nothing."""
    if command.node is not None and not course.saga.ended and course.step.enough is not None:
        _answer(command, command.node, course)
        return
    if not _current(command, course.saga) or not _asked(command.node, course):
        return
    # A success counts even after the attempt was given up, as long as no other one has begun. A failure is no news
    # then.
    trying = isinstance(course.at.standing, Trying)
    if command.outcome == "failed":
        if trying:
            fail(course, command.error or "it gave no reason", final=command.final)
        return
    wrong = course.step.check(course.saga, command.result)
    if wrong is None:
        succeed(course, command.result)
    elif trying:
        fail(course, wrong, final=True)


def _answer(command: ReportStep, node: str, course: Course) -> None:
    """The answer of one of several participants. What it has done counts whichever attempt it was asked at."""
    at = course.at
    past = command.attempt < at.attempt
    if command.step != at.name or command.attempt > at.attempt or node in at.answers or not _asked(node, course):
        return
    failed = command.outcome == "failed"
    error = (command.error or "it gave no reason") if failed else course.step.check(course.saga, command.result)
    trying = isinstance(at.standing, Trying)
    # That it could not do its part is no news any more where it is asked again, or was by hand.
    if error is not None and (past or not trying):
        return
    if failed and not command.final:
        fail(course, f"{node}: {error}", final=False)
        return
    result = command.result if error is None else {}
    course.add(StepAnswered(step=at.name, attempt=command.attempt, node=node, result=result, error=error))
    heard = heard_of_participants(course)
    # Also between two attempts, as with one participant. What it comes to otherwise is heard when the step is tried again.
    if heard is not None and heard.error is None:
        conclude(course, heard)


def _current(command: StepCommand, saga: Saga) -> bool:
    return not saga.ended and (saga.step, saga.attempt) == (command.step, command.attempt)


def _asked(node: str | None, course: Course) -> bool:
    actions = course.step.act(course.saga)
    if node is None:
        return any(isinstance(action, Ask) for action in actions)
    return any(isinstance(action, Delegate) and action.node == node and not action.assist for action in actions)


def _expire(command: ExpireStep, course: Course) -> None:
    stage = course.saga.stage
    if not isinstance(stage, UnderWay):
        return
    at = stage.at
    match command.kind:
        case "window":
            # Several timers of a saga may run out in one group, and the one before may have turned it back already.
            if may_turn_back(course) and course.definition.in_window(at.name):
                seconds = course.definition.seconds_of_window(course.saga)
                turn_back(course, f"the cut-over {TOOK_LONGER} {seconds:g} s")
        case "stalled":
            # Attempts come and go: it is the step that takes too long.
            waits = not course.saga.paused and not isinstance(at.standing, Blocked)
            if at.name == command.step and at.stalled is None and waits:
                course.add(StepStalled(step=at.name, attempt=at.attempt, seconds=course.step.stalled_seconds))
        case "retry" | "timeout" | "wait":
            if _current(command, course.saga) and not course.saga.paused:
                _expire_attempt(command, at, course)
        case _:
            assert_never(command.kind)


def _expire_attempt(command: ExpireStep, at: StepUnderWay, course: Course) -> None:
    match command.kind, at.standing:
        case "retry", Retrying():
            course.add(StepRetried(step=at.name, attempt=at.attempt + 1, by_hand=False))
        case "timeout", Trying():
            fail(course, f"no answer within {course.step.timeout_seconds:g} s", final=False)
        case "wait", Trying():
            succeed(course, {})
