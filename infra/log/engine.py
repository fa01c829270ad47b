"""An engine: what stores the log. Embedded (SQLite) or Kafka; everything above sees only this."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from infra.log.port import Archive, EventLog
from infra.log.snapshot import SnapshotArchive


class PartitionLog(EventLog, Archive, Protocol):
    """One partition, for writing, following and random reading."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An open engine: one log per partition, and the snapshots. `description` is for status answers. `faults` examines what
    the log stands on: by partition, why nothing may be written there (None: nobody else can change that).
    """

    description: str
    logs: Mapping[int, PartitionLog]
    snapshots: SnapshotArchive
    faults: Callable[[], Awaitable[Mapping[int, str]]] | None = None
