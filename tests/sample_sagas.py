"""One plausible message of every kind about sagas, in the order of the catalogue."""

from typing import Final

from domain import saga as s
from domain.message import Event
from muster.wire.command import Command
from tests.sample_shards import MOVE

_EXTENT: Final = {"position": 12, "digest": "00ff", "records": 3, "bytes": 30}

EVENTS: Final[tuple[Event, ...]] = (
    s.SagaStarted(
        saga=MOVE,
        definition="shard_migration",
        version=1,
        data={"keyspace": "users", "shard": 17, "epoch": 4, "source": "n1", "target": "n2", "hold": False},
        step="plan",
    ),
    s.StepSucceeded(step="fence", attempt=2, result={"extent": _EXTENT}, next="drain"),
    s.StepAnswered(step="fence", attempt=1, node="n2", result={"extent": _EXTENT}, error=None),
    s.StepFailed(step="copy", attempt=1, error="ReadFailed: n1 does not answer", retry_seconds=0.173),
    s.StepRetried(step="copy", attempt=2, by_hand=False),
    s.StepSkipped(step="gate", next="close"),
    s.StepStalled(step="copy", attempt=1, seconds=3600.0),
    s.CompensationStarted(
        step="drain", cause="aborted", undo=("reclaim", "reactivate", "discard", "unreserve", "abandon")
    ),
    s.SagaBlocked(step="discard", attempt=5, error="no answer within 30 s"),
    s.SagaPaused(),
    s.SagaResumed(),
    s.SagaForced(),
    s.SagaUpgraded(version=2),
    s.SagaCompleted(),
    s.SagaCompensated(cause="aborted"),
)

COMMANDS: Final[tuple[Command, ...]] = (
    s.ReportStep(step="fence", attempt=2, node="n1", outcome="done", result={"extent": _EXTENT}),
    s.ReportProgress(step="copy", attempt=1, node="n2", progress={"bytes": 12}),
    s.PauseSaga(),
    s.ResumeSaga(),
    s.RetryStep(),
    s.SkipStep(step="gate"),
    s.AbortSaga(),
    s.ForceComplete(),
    s.UpgradeSaga(version=2),
)
