"""What can run out for a saga, and the command that says so."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from domain.saga import ExpireStep, ReportProgress, Saga
from muster.wire.command import Command
from sagas.engine.definition import Definition, Wait


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
