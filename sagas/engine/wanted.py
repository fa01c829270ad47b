"""What a saga wants now, under which id, and how long it pauses before it tries again. Pure functions of its state."""

from hashlib import blake2b

from domain.saga import Saga
from sagas.engine.definition import Action, Definition, Step


def pending(saga: Saga, definition: Definition) -> tuple[Action, ...]:
    """The actions that the saga wants now. Empty while it is paused or blocked, between two attempts, and after its end."""
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
