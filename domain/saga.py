"""A saga's history, and the state that it folds into; stream `<root>/<kind>/<number>`, in the partition of its root.

    running ──StepSucceeded──▶ … ──last step──▶ completed          StepFailed ▶ retrying ▶ StepRetried ▶ running
       │ CompensationStarted (before the pivot only)                                └─ no more attempts ▶ SagaBlocked
       ▼
    compensating: the scope that the event names, in reverse order ──last one──▶ compensated

Definition and version are pinned in the first event; steps are known by name. A saga that is blocked or paused wants nothing.
"""

from dataclasses import replace
from typing import Annotated, Final, Literal, assert_never, get_args

from immutables import Map
from pydantic import Field, StringConstraints

from domain.decider import Decider
from domain.message import Event, Recorded, event
from domain.stage import INITIAL as INITIAL
from domain.stage import (
    Blocked,
    Compensated,
    Compensating,
    Completed,
    Forward,
    Retrying,
    Stage,
    StepAnswer,
    StepUnderWay,
    UnderWay,
    Unstarted,
    answered,
    assert_at,
    retried,
)
from domain.stage import Facts as Facts
from domain.stage import Saga as Saga
from muster.wire.command import Command, Flag
from muster.wire.stream import SAGA, Name

Text = Annotated[str, StringConstraints(max_length=2_000)]
Attempt = Annotated[int, Field(strict=True, ge=1)]


class SagaCommand(Command):
    """A command to a saga; the stream that it is sent to names the saga."""


class StepCommand(SagaCommand):
    """Something about one attempt of a step: late ones are known by their number."""

    step: Name
    attempt: Attempt


class ReportStep(StepCommand):
    """A participant's answer to a task."""

    type = "muster.saga.report_step.v1"
    node: Name | None = None
    outcome: Literal["done", "failed"]
    result: Facts = Field(default_factory=dict)
    error: Text | None = None
    final: Flag = False


class ReportProgress(StepCommand):
    """A participant is at it: its attempt gets its full time again. Never recorded."""

    type = "muster.saga.report_progress.v1"
    node: Name | None = None
    progress: Facts = Field(default_factory=dict)


class ExpireStep(StepCommand):
    """A timer of the step has run out."""

    type = "muster.saga.expire_step.v1"
    kind: Literal["timeout", "retry", "wait", "stalled", "window"]


class PauseSaga(SagaCommand):
    """Stop after what is under way; nothing more is wanted of anybody."""

    type = "muster.saga.pause.v1"


class ResumeSaga(SagaCommand):
    """Go on."""

    type = "muster.saga.resume.v1"


class RetryStep(SagaCommand):
    """Try the failed step again, with all its attempts."""

    type = "muster.saga.retry.v1"


class SkipStep(SagaCommand):
    """Leave the step out, if it can be left out. It is named, so that a repeat does not skip the next one too."""

    type = "muster.saga.skip.v1"
    step: Name


class AbortSaga(SagaCommand):
    """Turn back, if the pivot has not been passed."""

    type = "muster.saga.abort.v1"


class ForceComplete(SagaCommand):
    """Leave out whatever can be left out of the rest, once the pivot has been passed."""

    type = "muster.saga.force_complete.v1"


class UpgradeSaga(SagaCommand):
    """Let a later version of the definition take over, at a step that waits."""

    type = "muster.saga.upgrade.v1"
    version: Annotated[int, Field(strict=True, ge=1)]


VERBS: Final[dict[str, type[SagaCommand]]] = {
    "pause": PauseSaga,
    "resume": ResumeSaga,
    "retry": RetryStep,
    "skip": SkipStep,
    "abort": AbortSaga,
    "force-complete": ForceComplete,
}
Verb = PauseSaga | ResumeSaga | RetryStep | SkipStep | AbortSaga | ForceComplete
"""The commands of an operator."""

PublicCommand = ReportStep | ReportProgress | Verb | UpgradeSaga
AnyCommand = PublicCommand | ExpireStep
"""Every command that a saga takes. `ExpireStep` comes from the writer of its partition alone."""


@event
class SagaStarted(Event):
    """A saga is under way, at its first step."""

    type = "muster.saga.started.v1"
    saga: Annotated[str, StringConstraints(max_length=400)]
    definition: Name
    version: int
    data: Facts
    step: Name


@event
class StepSucceeded(Event):
    """The step is done; `next` is under way (None: that was the last one)."""

    type = "muster.saga.step_succeeded.v1"
    step: Name
    attempt: int
    result: Facts
    next: Name | None


@event
class StepAnswered(Event):
    """One of several participants has answered the step for good; `error`: that it cannot do its part."""

    type = "muster.saga.step_answered.v1"
    step: Name
    attempt: int
    node: Name
    result: Facts
    error: Text | None


@event
class StepFailed(Event):
    """An attempt has failed; the next one begins after `retry_seconds` (None: there is none)."""

    type = "muster.saga.step_failed.v1"
    step: Name
    attempt: int
    error: Text
    retry_seconds: float | None


@event
class StepRetried(Event):
    """Another attempt of the step is under way."""

    type = "muster.saga.step_retried.v1"
    step: Name
    attempt: int
    by_hand: bool


@event
class StepSkipped(Event):
    """The step was left out."""

    type = "muster.saga.step_skipped.v1"
    step: Name
    next: Name | None


@event
class StepStalled(Event):
    """The step takes longer than it should."""

    type = "muster.saga.step_stalled.v1"
    step: Name
    attempt: int
    seconds: float


@event
class CompensationStarted(Event):
    """The saga turns back: `undo` are the steps that take back what was done, in this order."""

    type = "muster.saga.compensation_started.v1"
    step: Name
    cause: Text
    undo: tuple[Name, ...]


@event
class SagaBlocked(Event):
    """The saga cannot go on by itself."""

    type = "muster.saga.blocked.v1"
    step: Name
    attempt: int
    error: Text


@event
class SagaPaused(Event):
    """Nothing more is wanted until it is resumed."""

    type = "muster.saga.paused.v1"


@event
class SagaResumed(Event):
    """It goes on where it was."""

    type = "muster.saga.resumed.v1"


@event
class SagaForced(Event):
    """Whatever can be left out of the rest is left out."""

    type = "muster.saga.forced.v1"


@event
class SagaUpgraded(Event):
    """A later version of its definition has taken over."""

    type = "muster.saga.upgraded.v1"
    version: int


@event
class SagaCompleted(Event):
    """All steps are done, or were left out by hand."""

    type = "muster.saga.completed.v1"


@event
class SagaCompensated(Event):
    """Everything has been taken back."""

    type = "muster.saga.compensated.v1"
    cause: Text


OfAttempt = StepAnswered | StepFailed | StepRetried | StepSkipped | StepStalled
SagaEvent = (
    SagaStarted
    | StepSucceeded
    | OfAttempt
    | CompensationStarted
    | SagaBlocked
    | SagaPaused
    | SagaResumed
    | SagaForced
    | SagaUpgraded
    | SagaCompleted
    | SagaCompensated
)
"""All that can happen to a saga."""


def evolve(state: Saga, recorded: Recorded[SagaEvent]) -> Saga:
    """The saga after the event."""
    return replace(_evolved(state, recorded.event), version=state.version + 1)


def _evolved(saga: Saga, event: SagaEvent) -> Saga:
    match event:
        case SagaStarted():
            assert isinstance(saga.stage, Unstarted), "the saga started twice"
            first = Forward(StepUnderWay(event.step))
            return Saga(event.saga, 0, event.definition, event.version, event.data, Map(), first)
        case SagaUpgraded():
            # Steps are known by their names, so the stage needs no translation.
            return replace(saga, definition_version=event.version)
        case SagaPaused() | SagaResumed():
            assert not isinstance(saga.stage, Unstarted), f"{event.type} of a saga that never started"
            # Not in the stage: what is under way may still succeed during the pause, and the pause must outlast that.
            return replace(saga, paused=isinstance(event, SagaPaused))
        case StepSucceeded():
            # Steps that undo leave results too: from these the last of them sees whether something is still left to clean up.
            saga = replace(saga, results=saga.results.set(event.step, event.result))
            return replace(saga, stage=_stepped(saga.stage, event))
        case SagaCompleted():
            # The last step's event, just before this one, has ended the saga already; so has the last undoing's.
            assert isinstance(saga.stage, Completed), f"completed at {saga.step}"
            return saga
        case SagaCompensated():
            left = saga.stage.undo if isinstance(saga.stage, Compensating) else (saga.step,)
            assert isinstance(saga.stage, Compensated), f"compensated, but {left} is left"
            return saga
        case _:
            assert isinstance(saga.stage, UnderWay), f"{event.type} of a saga that is {saga.phase}"
            return replace(saga, stage=_went_on(saga.stage, event))


def _stepped(stage: Stage, event: StepSucceeded | StepSkipped) -> Stage:
    """At the next step, its first attempt; or at the end."""
    assert isinstance(stage, UnderWay), f"{event.step} is over, but the saga is {stage.phase}"
    assert_at(stage.at, event.step, event.attempt if isinstance(event, StepSucceeded) else stage.at.attempt)
    match stage:
        case Forward():
            # `forced` stays with the stage: it holds for all the steps to come.
            return Completed() if event.next is None else replace(stage, at=StepUnderWay(event.next))
        case Compensating():
            # The order was fixed when the saga turned back. The definition is not asked again.
            left = stage.undo[1:]
            assert event.next == next(iter(left), None), f"{event.next} follows {event.step}, but {left} is left"
            if event.next is None:
                return Compensated(stage.cause)
            return replace(stage, at=StepUnderWay(event.next), undo=left)
        case _:
            assert_never(stage)


def _went_on(stage: UnderWay, event: OfAttempt | CompensationStarted | SagaBlocked | SagaForced) -> Stage:
    at = stage.at
    match event:
        case StepAnswered():
            # Also one to an earlier attempt: whoever asks several takes what each of them has said once.
            assert event.step == at.name, f"{event.node} has answered {event.step}, but the saga is at {at.name}"
            return replace(stage, at=answered(at, event.node, StepAnswer(event.result, event.error)))
        case StepSkipped():
            return _stepped(stage, event)
        case StepFailed():
            assert_at(at, event.step, event.attempt)
            return replace(stage, at=replace(at, standing=Retrying(event.error, event.retry_seconds)))
        case StepRetried():
            return replace(stage, at=retried(at, event.attempt, by_hand=event.by_hand))
        case StepStalled():
            # Operators see it in the answers. Nothing else happens: the attempt goes on.
            return replace(stage, at=replace(at, stalled=f"{event.step} takes longer than {event.seconds:g} s"))
        case SagaBlocked():
            return replace(stage, at=replace(at, standing=Blocked(event.error)))
        case SagaForced():
            assert isinstance(stage, Forward), "a saga that turned back cannot be forced"
            return replace(stage, forced=True)
        case CompensationStarted():
            assert isinstance(stage, Forward), "a saga turns back only once"
            # Only harmless steps were done, so there is nothing to take back and the saga has ended.
            if not event.undo:
                return Compensated(event.cause)
            return Compensating(StepUnderWay(event.undo[0]), event.undo, event.cause)
        case _:
            assert_never(event)


DECIDER: Final[Decider[Saga, AnyCommand, SagaEvent]] = Decider(
    stream=SAGA,
    commands=get_args(PublicCommand),
    # The saga's timers are kept where its partition is written, so nobody else can know that one has run out.
    own=(ExpireStep,),
    events=get_args(SagaEvent),
    initial=INITIAL,
    decide=None,
    evolve=evolve,
    state=Saga,
)
"""Sagas as their streams tell them. What a command makes of one is decided together with its root: `sagas.engine`."""
