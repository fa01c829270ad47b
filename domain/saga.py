"""A saga's history, and the state that it folds into; stream `<root>/<kind>/<number>`, in the partition of its root.

    running ──StepSucceeded──▶ … ──last step──▶ completed          StepFailed ▶ retrying ▶ StepRetried ▶ running
       │ CompensationStarted (before the pivot only)                                └─ no more attempts ▶ SagaBlocked
       ▼
    compensating: the scope that the event names, in reverse order ──last one──▶ compensated

Definition and version are pinned in the first event; steps are known by name. A saga that is blocked or paused wants nothing.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, assert_never, get_args

from immutables import Map
from pydantic import Field, StringConstraints

from domain.decider import AsPairs, Decider
from domain.message import Event, Recorded, event
from muster.wire.command import Command
from muster.wire.stream import SAGA, Name
from muster.wire.value import value

Phase = Literal["forward", "compensating", "completed", "compensated"]
Standing = Literal["running", "retrying", "blocked", "ended"]
Text = Annotated[str, StringConstraints(max_length=2_000)]
Attempt = Annotated[int, Field(strict=True, ge=1)]
Facts = dict[str, Any]


@value
class Saga:
    """A saga. `step` is the one under way (None: it has ended); `undo` what is left to be undone behind it; `results` what
    steps were answered, by name; `tried` how many attempts of the step have been made since the last verb; `data` its facts.
    """

    id: str
    version: int
    definition: str
    definition_version: int
    data: Mapping[str, Any]
    phase: Phase
    standing: Standing
    step: str | None
    attempt: int
    tried: int
    results: Annotated[Map[str, Mapping[str, Any]], AsPairs]
    undo: tuple[str, ...] = ()
    paused: bool = False
    forced: bool = False
    error: str | None = None
    retry_seconds: float | None = None
    cause: str | None = None
    stalled: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self.step is None

    @property
    def active(self) -> bool:
        """Whether its step is wanted now."""
        return self.standing == "running" and not self.paused


INITIAL: Final = Saga("", 0, "", 0, {}, "forward", "ended", None, 0, 0, Map())


class SagaCommand(Command):
    """What can be said to a saga; its stream says to which."""


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
    final: bool = False


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
"""What an operator may say."""

PublicCommand = ReportStep | ReportProgress | Verb | UpgradeSaga
AnyCommand = PublicCommand | ExpireStep
"""All that a saga can be told; `ExpireStep` by the writer of its partition alone."""


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


SagaEvent = (
    SagaStarted
    | StepSucceeded
    | StepFailed
    | StepRetried
    | StepSkipped
    | StepStalled
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
    event = recorded.event
    if isinstance(event, SagaStarted):
        assert state.version == 0, "the saga started twice"
        saga = Saga(
            event.saga, 0, event.definition, event.version, event.data, "forward", "running", event.step, 1, 1, Map()
        )
    else:
        assert state.version > 0, f"{event.type} of a saga that never started"
        saga = _evolve(state, event)
    return replace(saga, version=state.version + 1)


def _evolve(saga: Saga, event: SagaEvent) -> Saga:
    match event:
        case SagaStarted():
            raise AssertionError("the saga started twice")
        case StepSucceeded():
            _at(saga, event.step, event.attempt)
            return _next(replace(saga, results=saga.results.set(event.step, event.result)), event.next)
        case StepSkipped():
            assert saga.step == event.step, f"{event.step} was skipped, but the saga is at {saga.step}"
            return _next(saga, event.next)
        case StepFailed():
            _at(saga, event.step, event.attempt)
            return replace(saga, standing="retrying", error=event.error, retry_seconds=event.retry_seconds)
        case StepRetried():
            assert saga.attempt + 1 == event.attempt, f"attempt {event.attempt} of {event.step} after {saga.attempt}"
            tried, stalled = (1, None) if event.by_hand else (saga.tried + 1, saga.stalled)
            return replace(
                saga, standing="running", attempt=event.attempt, tried=tried, retry_seconds=None, stalled=stalled
            )
        case StepStalled():
            return replace(saga, stalled=f"{event.step} takes longer than {event.seconds:g} s")
        case CompensationStarted():
            assert saga.phase == "forward", "a saga turns back only once"
            return _next(
                replace(saga, phase="compensating", undo=event.undo, cause=event.cause), next(iter(event.undo), None)
            )
        case SagaBlocked():
            return replace(saga, standing="blocked", error=event.error, retry_seconds=None)
        case SagaPaused():
            return replace(saga, paused=True)
        case SagaResumed():
            return replace(saga, paused=False)
        case SagaForced():
            return replace(saga, forced=True)
        case SagaUpgraded():
            return replace(saga, definition_version=event.version)
        case SagaCompleted():
            assert saga.step is None, f"completed at {saga.step}"
            return replace(saga, phase="completed", standing="ended")
        case SagaCompensated():
            assert not saga.undo, f"compensated, but {saga.undo} is left"
            return replace(saga, phase="compensated", standing="ended")
        case _:
            assert_never(event)


def _at(saga: Saga, step: str, attempt: int) -> None:
    assert (saga.step, saga.attempt) == (step, attempt), (
        f"{step}/{attempt}, but the saga is at {saga.step}/{saga.attempt}"
    )


def _next(saga: Saga, step: str | None) -> Saga:
    """At the next step, its first attempt."""
    undo = saga.undo[1:] if saga.phase == "compensating" and saga.undo and saga.undo[0] == saga.step else saga.undo
    return replace(
        saga, step=step, standing="running", attempt=1, tried=1, undo=undo, error=None, retry_seconds=None, stalled=None
    )


DECIDER: Final[Decider[Saga, AnyCommand, SagaEvent]] = Decider(
    stream=SAGA,
    commands=get_args(PublicCommand),
    own=(ExpireStep,),
    events=get_args(SagaEvent),
    initial=INITIAL,
    decide=None,
    evolve=evolve,
    state=Saga,
)
"""Sagas as their streams tell them. What a command makes of one is decided together with its root: `sagas.engine`."""
