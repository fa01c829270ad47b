"""What has each migration done, when, and how long did it take? One row per saga, from its events alone."""

from dataclasses import replace
from datetime import datetime
from typing import Any, Final, Literal

from domain.message import Recorded
from domain.saga import (
    DECIDER,
    CompensationStarted,
    SagaBlocked,
    SagaCompensated,
    SagaCompleted,
    SagaPaused,
    SagaResumed,
    SagaStarted,
    SagaUpgraded,
    StepFailed,
    StepRetried,
    StepSkipped,
    StepStalled,
    StepSucceeded,
)
from muster.wire.value import value
from projections.projection import Key, Projection

Outcome = Literal["running", "done", "failed", "skipped", "given up"]


@value
class StepRow:
    """A step that the migration has come to: how often it was tried, from when to when, and what became of it."""

    step: str
    attempts: int
    began_at: datetime
    ended_at: datetime | None
    outcome: Outcome
    error: str | None
    result: dict[str, Any] | None
    undoes: bool


@value
class MigrationRow:
    """A migration as readers see it. Instants are UTC; `position` is that of the last event."""

    migration: str
    definition: str
    version: int
    data: dict[str, Any]
    phase: str
    standing: str
    paused: bool
    step: str | None
    attempt: int
    error: str | None
    cause: str | None
    stalled: bool
    started_at: datetime
    step_at: datetime
    ended_at: datetime | None
    actor: str
    reason: str | None
    steps: tuple[StepRow, ...]
    events: int
    position: int
    paused_by: str | None = None

    @property
    def keyspace(self) -> str | None:
        """The keyspace of the moved shard."""
        # A saga of another kind may be about no shard: then this and the three below are None.
        return self.data.get("keyspace")

    @property
    def shard(self) -> int | None:
        """The moved shard."""
        return self.data.get("shard")

    @property
    def source(self) -> str | None:
        """The node that the shard leaves."""
        return self.data.get("source")

    @property
    def target(self) -> str | None:
        """The node that the shard goes to."""
        return self.data.get("target")


def key_of(recorded: Recorded) -> Key:
    """(the saga's stream,)."""
    return (recorded.stream,)


def fold(row: MigrationRow | None, recorded: Recorded) -> MigrationRow | None:
    """The row after the event."""
    event, at = recorded.event, recorded.at
    if isinstance(event, SagaStarted):
        return MigrationRow(
            recorded.stream,
            event.definition,
            event.version,
            event.data,
            "forward",
            "running",
            False,
            event.step,
            1,
            None,
            None,
            False,
            at,
            at,
            None,
            recorded.actor,
            recorded.reason,
            (StepRow(event.step, 1, at, None, "running", None, None, False),),
            1,
            recorded.position,
        )
    assert row is not None, f"{event.type} of {recorded.stream}, which never started"
    # Here, because `_changed` does not know who did it.
    if isinstance(event, SagaPaused):
        row = replace(row, paused_by=recorded.actor)
    return replace(_changed(row, event, at), events=row.events + 1, position=recorded.position)


def _changed(row: MigrationRow, event: object, at: datetime) -> MigrationRow:
    match event:
        case StepSucceeded():
            return _next(_ended(row, at, "done", result=event.result), event.next, at)
        case StepSkipped():
            return _next(_ended(row, at, "skipped"), event.next, at)
        case StepFailed():
            # Without another attempt the next event of the same batch says what follows: blocked, or on its way back.
            standing = "retrying" if event.retry_seconds is not None else row.standing
            return replace(_ended(row, at, "failed", error=event.error), standing=standing, error=event.error)
        case StepRetried():
            last = replace(row.steps[-1], attempts=event.attempt, ended_at=None, outcome="running")
            steps = (*row.steps[:-1], last)
            return replace(row, standing="running", attempt=event.attempt, step_at=at, stalled=False, steps=steps)
        case StepStalled():
            return replace(row, stalled=True)
        case CompensationStarted():
            # A step that has failed has ended already; one that was aborted in the middle has not.
            turned = row if row.steps[-1].ended_at is not None else _ended(row, at, "given up")
            # Before `_next`, which marks by the phase that the steps from here on undo something.
            turned = replace(turned, phase="compensating", cause=event.cause)
            return _next(turned, event.undo[0] if event.undo else None, at)
        case SagaBlocked():
            return replace(row, standing="blocked", error=event.error)
        case SagaPaused():
            return replace(row, paused=True)
        case SagaResumed():
            return replace(row, paused=False, paused_by=None)
        case SagaUpgraded():
            return replace(row, version=event.version)
        case SagaCompleted():
            return replace(row, phase="completed", standing="ended", ended_at=at)
        case SagaCompensated():
            return replace(row, phase="compensated", standing="ended", ended_at=at)
        case _:
            return row


def _ended(
    row: MigrationRow, at: datetime, outcome: Outcome, error: str | None = None, result: dict[str, Any] | None = None
) -> MigrationRow:
    # The last failure stays to be read, also when a later attempt has succeeded.
    last = replace(row.steps[-1], ended_at=at, outcome=outcome, error=error or row.steps[-1].error, result=result)
    return replace(row, steps=(*row.steps[:-1], last))


def _next(row: MigrationRow, step: str | None, at: datetime) -> MigrationRow:
    steps = row.steps
    if step is not None:
        steps = (*steps, StepRow(step, 1, at, None, "running", None, None, row.phase == "compensating"))
    return replace(row, step=step, standing="running", attempt=1, error=None, stalled=False, step_at=at, steps=steps)


MIGRATIONS: Final = Projection(
    name="migrations",
    revision=1,
    row=MigrationRow,
    key=("migration",),
    events=frozenset(DECIDER.events),
    key_of=key_of,
    fold=fold,
    columns=(
        "keyspace",
        "shard",
        "source",
        "target",
        "phase",
        "standing",
        "step",
        "attempt",
        "error",
        "cause",
        "started_at",
        "ended_at",
        "actor",
        "reason",
        "position",
    ),
    keeps_whole_row=True,
)
