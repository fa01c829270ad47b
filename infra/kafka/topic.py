"""The topics on Kafka: one literal table, from which they are created and checked and the AsyncAPI file is generated.

All have the same number of partitions, and a stream's partition has the same number in each; it never changes in place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

EVENTS: Final = "events"
COMMANDS: Final = "commands"
OUTCOMES: Final = "outcomes"
SNAPSHOTS: Final = "snapshots"
HEARTBEATS: Final = "heartbeats"
LIVENESS: Final = "liveness"
CONTROLLERS: Final = "controllers"
LOADS: Final = "loads"

PREFIX: Final = "muster"
PARTITIONS: Final = 8
BATCH_BYTES_MAX: Final = 4 * 1024 * 1024
"""The largest record batch, before compression: 4 MiB; a batch of events is recorded whole or not at all."""

_MINUTE: Final = 60_000
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of the table: its name after the prefix, what is in it, and its settings.

    `settings` are Kafka's topic settings; those in `vital` lose or damage data when they are otherwise, so that
    muster refuses to run on them; it only warns of the rest.
    """

    name: str
    title: str
    settings: Mapping[str, str]
    vital: frozenset[str] = frozenset()


def _settings(*, retention_ms: int, segment_ms: int | None = None, policy: str = "delete") -> Mapping[str, str]:
    settings = {
        "cleanup.policy": policy,
        "retention.ms": str(retention_ms),
        "retention.bytes": "-1",
        "max.message.bytes": str(BATCH_BYTES_MAX),
        # Retention runs on the broker's clock: a client's wrong one neither deletes records early nor has them refused.
        "message.timestamp.type": "LogAppendTime",
        # A leader that lacks acknowledged records would make history silently shorter.
        "unclean.leader.election.enable": "false",
    }
    if segment_ms is not None:
        # Only whole segments are deleted, and never the one being written to.
        settings["segment.ms"] = str(segment_ms)
    return settings


TOPICS: Final = (
    Topic(
        COMMANDS,
        "What is asked; kept for 7 days",
        _settings(retention_ms=7 * _DAY, segment_ms=_DAY),
        frozenset({"cleanup.policy"}),
    ),
    Topic(
        EVENTS,
        "What has happened, the only source of truth; kept for ever",
        _settings(retention_ms=-1),
        frozenset(
            {
                "cleanup.policy",
                "retention.ms",
                "retention.bytes",
                "max.message.bytes",
                "unclean.leader.election.enable",
            }
        ),
    ),
    Topic(
        OUTCOMES,
        "What became of each command: accepted, unchanged or refused; kept for 1 day",
        _settings(retention_ms=_DAY, segment_ms=_HOUR),
    ),
    Topic(
        SNAPSHOTS,
        "Folded state, so that a start need not read everything; the newest of each key is kept",
        _settings(retention_ms=-1, segment_ms=_HOUR, policy="compact"),
        frozenset({"max.message.bytes"}),
    ),
    Topic(
        HEARTBEATS,
        "Signs of life and load of instances; kept for 1 hour",
        _settings(retention_ms=_HOUR, segment_ms=10 * _MINUTE),
    ),
    Topic(
        LIVENESS,
        "Proofs of the writers' reigns; kept for 1 hour",
        _settings(retention_ms=_HOUR, segment_ms=10 * _MINUTE),
    ),
    Topic(
        # Not in `liveness`: a writer's beat counts only where no other record can be.
        CONTROLLERS,
        "Signs of life of the controllers, all in partition 0; kept for 1 hour",
        _settings(retention_ms=_HOUR, segment_ms=10 * _MINUTE),
    ),
    Topic(
        LOADS,
        "Loads of services and of shards, and the telemetry workers; the newest of each key is kept, for 1 hour",
        _settings(retention_ms=_HOUR, segment_ms=10 * _MINUTE, policy="compact,delete"),
    ),
)


def topic_name(name: str, prefix: str = PREFIX) -> str:
    """The topic's full name: `muster.events`. The prefix names the cluster; one Kafka can hold several."""
    return f"{prefix}.{name}"
