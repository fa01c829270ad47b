"""muster: what users import. The clients of a controller and of a keyspace, and a publisher of commands for Kafka.

Importing this loads nothing of the server; `KafkaCommands` loads aiokafka when it is first named, `Keyspace` gRPC.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from domain.check import HttpCheck, TcpCheck, TtlCheck
from domain.error import (
    Corrupt,
    DataUnavailable,
    IdempotencyConflict,
    InstanceNotFound,
    InvalidCommand,
    InvalidInstance,
    InvalidShardKey,
    KeyspaceNotFound,
    MusterError,
    NoHealthyInstances,
    NoShardsAvailable,
    NotReady,
    Refused,
    ServiceNotFound,
    ShardOverflow,
    StaleIncarnation,
    Timeout,
    TooLarge,
    Transient,
    Unreachable,
    VersionConflict,
)
from muster.answer import (
    CheckState,
    Event,
    EventPage,
    History,
    HistoryEntry,
    Instance,
    Mark,
    Outcome,
    Page,
    Service,
    Written,
)
from muster.client import Client
from muster.command import to_service
from muster.operation import Applied, Delete, Get, KeyspaceStatistics, Put
from muster.registration import Registration
from muster.watch import Appeared, Change, Changed, Removed, Snapshot

if TYPE_CHECKING:
    from muster.kafka_commands import KafkaCommands
    from muster.keyspace import Keyspace

try:
    __version__ = version("musterd")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.0.0"

__all__ = [
    "Appeared",
    "Applied",
    "Change",
    "Changed",
    "CheckState",
    "Client",
    "Corrupt",
    "DataUnavailable",
    "Delete",
    "Event",
    "EventPage",
    "Get",
    "History",
    "HistoryEntry",
    "HttpCheck",
    "IdempotencyConflict",
    "Instance",
    "InstanceNotFound",
    "InvalidCommand",
    "InvalidInstance",
    "InvalidShardKey",
    "KafkaCommands",
    "Keyspace",
    "KeyspaceNotFound",
    "KeyspaceStatistics",
    "Mark",
    "MusterError",
    "NoHealthyInstances",
    "NoShardsAvailable",
    "NotReady",
    "Outcome",
    "Page",
    "Put",
    "Refused",
    "Registration",
    "Removed",
    "Service",
    "ServiceNotFound",
    "ShardOverflow",
    "Snapshot",
    "StaleIncarnation",
    "TcpCheck",
    "Timeout",
    "TooLarge",
    "Transient",
    "TtlCheck",
    "Unreachable",
    "VersionConflict",
    "Written",
    "__version__",
    "to_service",
]


def __getattr__(name: str) -> Any:
    if name == "KafkaCommands":
        from muster.kafka_commands import KafkaCommands

        return KafkaCommands
    if name == "Keyspace":
        from muster.keyspace import Keyspace

        return Keyspace
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
