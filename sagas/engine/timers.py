"""What can run out for a saga, and the command that says so."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, assert_never

from domain.saga import ExpireStep, ReportProgress, Saga
from domain.stage import Blocked, Forward, Retrying, StepUnderWay, Trying, UnderWay
from muster.wire.command import Command
from sagas.engine.definition import Definition, Step, Wait


class SagaTimer(NamedTuple):
    """Something that runs out after `seconds`."""

    step: str
    attempt: int
    kind: Literal["timeout", "retry", "wait", "stalled", "window"]
    seconds: float

    @property
    def name(self) -> str:
        """What distinguishes it from other timers of its kind."""
        return f"{self.step}/{self.attempt}"


def timers(saga: Saga, definition: Definition) -> tuple[SagaTimer, ...]:
    """All that can run out for the saga now."""
    stage = saga.stage
    if not isinstance(stage, UnderWay) or saga.paused or isinstance(stage.at.standing, Blocked):
        return ()
    step = definition.step(stage.at.name)
    waits = [action for action in step.act(saga) if isinstance(action, Wait)]
    wanted = list[SagaTimer]()
    if definition.window is not None and isinstance(stage, Forward) and definition.in_window(step.name):
        # The same timer at each step of the stretch, so it goes on running when the saga comes to the next one. The
        # timer below is the same for all attempts at its step, for the same reason.
        wanted.append(SagaTimer(definition.window, 0, "window", definition.seconds_of_window(saga)))
    if not waits and stage.at.stalled is None:
        wanted.append(SagaTimer(step.name, 0, "stalled", step.stalled_seconds))
    return (*wanted, *_of_attempt(stage.at, step, waits))


def _of_attempt(at: StepUnderWay, step: Step, waits: Sequence[Wait]) -> Iterator[SagaTimer]:
    match at.standing:
        case Retrying(seconds=seconds):
            if seconds is not None:
                yield SagaTimer(at.name, at.attempt, "retry", seconds)
        case Trying():
            for wait in waits:
                # A wait for an instant has no timer: the saga's driver looks at the clock.
                if wait.seconds is not None:
                    yield SagaTimer(at.name, at.attempt, "wait", wait.seconds)
            if not waits and step.timeout_seconds is not None:
                yield SagaTimer(at.name, at.attempt, "timeout", step.timeout_seconds)
        case Blocked():
            pass
        case _:
            assert_never(at.standing)


def renews(command: Command) -> Callable[[SagaTimer], bool] | None:
    """Which timers the command gives their full length again; None: none at all."""
    if not isinstance(command, ReportProgress):
        return None
    attempt = "timeout", command.step, command.attempt
    return lambda timer: (timer.kind, timer.step, timer.attempt) == attempt


def expire(timer: SagaTimer) -> Command:
    """The command to give when the timer has run out."""
    # A command's attempt counts from 1. Timers of attempt 0 are of kinds where nobody looks at it.
    return ExpireStep(step=timer.step, attempt=max(timer.attempt, 1), kind=timer.kind)
