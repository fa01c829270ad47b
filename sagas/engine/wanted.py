"""What a saga wants now, under which id, and how long it pauses before it tries again. Pure functions of its state."""

from hashlib import blake2b

from domain.saga import Saga
from muster.wire import backoff
from sagas.engine.definition import Action, Definition, Delegate, Step


def pending(saga: Saga, definition: Definition) -> tuple[Action, ...]:
    """The actions that the saga wants now. Empty while it is paused or blocked, between two attempts, and after its end."""
    if not saga.active or saga.step is None:
        return ()
    return tuple(action for action in definition.step(saga.step).act(saga) if not _has_answered(action, saga))


def _has_answered(action: Action, saga: Saga) -> bool:
    """Whether it is wanted of somebody whose answer is there already."""
    return isinstance(action, Delegate) and saga.at is not None and action.node in saga.at.answers


def task_id(saga: Saga) -> str:
    """The id of what the saga wants now: the same after every crash, another one for every attempt."""
    return f"{saga.id}/{saga.step}/{saga.attempt}"


def pause_seconds(saga: Saga, step: Step) -> float:
    """How long to wait before the next attempt: doubling, and between half and all of it as the attempt's id says."""
    assert saga.at is not None, "a saga that has ended tries nothing again"
    # A hash of the id in place of chance, since a decision has no randomness: two of its bytes give a share below 1.
    share = int.from_bytes(blake2b(task_id(saga).encode(), digest_size=2).digest(), "big") / 65_536
    return round(backoff.pause_seconds(saga.at.tried - 1, step.backoff_seconds, step.backoff_seconds_max, share), 3)
