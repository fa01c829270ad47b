"""The shapes of what is answered about sagas; see `workers.http.model`."""

from datetime import datetime
from typing import Literal

from domain.saga import SkipStep
from domain.stage import Phase, Standing
from muster.wire.stream import Name
from workers.http.model import Listing, Shape


class SkipBody(SkipStep):
    """Which step to leave out; the one under way without it."""

    step: Name | None = None  # type: ignore[assignment]


class StepShape(Shape):
    """A step that a migration has come to; `undoes`: the step that it takes back."""

    name: str
    attempts: int
    began_at: datetime
    ended_at: datetime | None
    seconds: float
    outcome: Literal["running", "done", "failed", "skipped", "given up"]
    error: str | None
    undoes: str | None


class SagaItem(Shape):
    """A saga: what it is, where it stands, what it waits for (null: it has ended), which verbs it takes now.

    `id` is its stream, `saga` the name in it, `root` the stream that it changes; `facts` are what it was started with.
    """

    id: str
    saga: str
    root: str
    definition: str
    version: int
    facts: dict[str, object]
    phase: Phase
    standing: Standing
    paused: bool
    step: str | None
    attempt: int
    error: str | None
    cause: str | None
    stalled: str | None
    started_at: datetime
    ended_at: datetime | None
    seconds: float
    actor: str
    reason: str | None
    events: int
    waits_for: str | None
    allowed: list[str]


class SagaList(Listing):
    """Sagas, newest first."""

    items: list[SagaItem]


class SagaWhole(SagaItem):
    """A saga with its steps."""

    steps: list[StepShape]
