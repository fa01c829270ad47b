"""Sagas as API users see them: from the views' rows to plain JSON."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from heapq import nlargest
from typing import Any, Literal

from domain.saga import Saga
from muster.wire.stream import root_of, saga_name_of, saga_number_of
from projections.migrations import MigrationRow, StepRow
from sagas.engine.definition import Definition
from sagas.engine.explain import waits_for
from sagas.engine.verbs import allowed
from workers.views.shards import ShardViews

Item = dict[str, Any]
State = Literal["running", "blocked", "paused", "ended"]


def in_state(row: MigrationRow, state: State | None) -> bool:
    """Whether the saga is in the state (None: any). `running` are all that have not ended, blocked and paused ones too."""
    match state:
        case "running":
            return row.ended_at is None
        case "ended":
            return row.ended_at is not None
        case "blocked":
            return row.standing == "blocked"
        case "paused":
            return row.paused and row.ended_at is None
        case None:
            return True


def newest_first(rows: Iterable[MigrationRow], rows_max: int) -> list[MigrationRow]:
    """The newest sagas."""
    return nlargest(rows_max, rows, key=lambda row: (row.started_at, saga_number_of(row.migration)))


def saga_item(views: ShardViews, row: MigrationRow, now: datetime) -> Item:
    """A saga of any root in a row: what it is, and where it stands."""
    id_ = row.migration
    return {
        "id": id_,
        "saga": saga_name_of(id_),
        "root": root_of(id_),
        "definition": row.definition,
        "version": row.version,
        "facts": row.data,
        **standing_item(views, row, now),
    }


def saga_whole(views: ShardViews, row: MigrationRow, now: datetime) -> Item:
    """A saga with every step that it has come to."""
    return {**saga_item(views, row, now), "steps": steps_of(views, row, now)}


def standing_item(views: ShardViews, row: MigrationRow, now: datetime) -> Item:
    """Where a saga stands, what it waits for, and what may be done."""
    # The row is from the events alone. What is wanted and allowed is a function of the state, as it is for the writer.
    saga = views.sagas.get(row.migration)
    ended = saga is None or saga.ended
    return {
        "phase": row.phase,
        "standing": row.standing,
        "paused": row.paused,
        "step": row.step,
        "attempt": row.attempt,
        "error": row.error,
        "cause": row.cause,
        "stalled": saga.stalled if saga is not None else None,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "seconds": _seconds(row.started_at, row.ended_at or now),
        "actor": row.actor,
        "reason": row.reason,
        "events": row.events,
        "waits_for": None if ended or saga is None else _waits_for(saga, row, views, now),
        "allowed": [] if ended or saga is None else list(allowed(saga, _definition(saga, views))),
    }


def steps_of(views: ShardViews, row: MigrationRow, now: datetime) -> list[Item]:
    """Every step that the saga has come to."""
    undone = {undo.name: step.name for step in _definition(row, views).steps for undo in step.undo}
    return [_step(step, undone, now) for step in row.steps]


def _step(step: StepRow, undone: Mapping[str, str], now: datetime) -> Item:
    return {
        "name": step.step,
        "attempts": step.attempts,
        "began_at": step.began_at,
        "ended_at": step.ended_at,
        "seconds": _seconds(step.began_at, step.ended_at or now),
        "outcome": step.outcome,
        "error": step.error,
        "undoes": undone.get(step.step),
    }


def _definition(of: Saga | MigrationRow, views: ShardViews) -> Definition:
    # A row keeps the version that the saga began with; an upgrade changes that of the state.
    return views.definitions[of.definition, of.definition_version if isinstance(of, Saga) else of.version]


def _waits_for(saga: Saga, row: MigrationRow, views: ShardViews, now: datetime) -> str | None:
    # Between two attempts the pause counts from the last failure, else the time from the beginning of the attempt.
    since = row.steps[-1].ended_at if saga.standing == "retrying" else row.step_at
    waited = _seconds(since or row.step_at, now)
    return waits_for(saga, _definition(saga, views), views.state, waited_seconds=waited, paused_by=row.paused_by)


def _seconds(since: datetime, until: datetime) -> float:
    # Instants of the log come from its writer's clock, `now` from ours.
    return max(0.0, round((until - since).total_seconds(), 3))
