"""Sagas as everyone outside sees them: processes of many steps, of any root."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from muster.wire.error import MigrationNotFound, SagaNotFound
from muster.wire.read_model import ReadModel
from muster.wire.stream import MIGRATION, saga_name_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SagaStep:
    """One step of a saga's story. `undoes`: the step that it takes back."""

    name: str
    attempts: int
    began_at: datetime
    ended_at: datetime | None = None
    seconds: float | None = None
    outcome: str | None = None
    error: str | None = None
    undoes: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a saga stands. `waits_for` says what it waits for, `allowed` which verbs it takes now.

    Lists leave out the `steps`.
    """

    id: str
    phase: str
    standing: str
    paused: bool
    step: str | None
    attempt: int
    error: str | None = None
    cause: str | None = None
    stalled: str | None = None
    started_at: datetime
    ended_at: datetime | None = None
    seconds: float | None = None
    actor: str | None = None
    reason: str | None = None
    events: int = 0
    waits_for: str | None = None
    allowed: tuple[str, ...] = ()
    steps: tuple[SagaStep, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self.step is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Saga(Standing):
    """A saga: what it is, where it stands, what it waits for (null: it has ended), which verbs it takes now.

    `id` is its stream, `saga` the name in it, `root` the stream that it changes; `facts` are what it was started with.
    """

    saga: str
    root: str
    definition: str
    version: int
    facts: dict[str, Any] = field(default_factory=dict)


TOOK_LONGER: Final = "took longer than"
"""What the `cause` of a saga says that was turned back because its window was over."""

SAGAS: Final = ReadModel(name="sagas", item=Saga, key=("id",))


def not_found(stream: str) -> SagaNotFound:
    """The refusal for a saga that is not there, by its stream: of a migration one of its own, which users of shards know."""
    if saga_name_of(stream) == MIGRATION:
        return MigrationNotFound(f"there is no migration {stream}", migration=stream)
    return SagaNotFound(f"there is no saga {stream}", saga=stream)
