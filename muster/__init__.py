"""muster: what users import. The clients of a controller and of a keyspace, a publisher of commands for Kafka, and the
participant that drives a store through moves.

Importing this loads nothing of the server; `KafkaCommands` loads aiokafka when it is first named, `Keyspace` gRPC.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from domain.check import HttpCheck, TcpCheck, TtlCheck
from domain.error import (
    ChecksumMismatch,
    Corrupt,
    DataUnavailable,
    IdempotencyConflict,
    InstanceNotFound,
    InvalidCommand,
    InvalidInstance,
    InvalidShardKey,
    KeyspaceNotFound,
    MigrationNotFound,
    MoveInProgress,
    MusterError,
    NodeCordoned,
    NodeNotFound,
    NodeTaken,
    NoHealthyInstances,
    NoShardsAvailable,
    NotOwner,
    NotReady,
    ReadFailed,
    Refused,
    ServiceNotFound,
    ShardNotFound,
    ShardOverflow,
    ShardPinned,
    StaleEpoch,
    StaleIncarnation,
    Timeout,
    TooLarge,
    Transient,
    Unreachable,
    VerbNotAllowed,
    VersionConflict,
    WriteFailed,
)
from muster.agent import Agent
from muster.agent_map import LocalShard
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
from muster.shard_answer import (
    ClusterState,
    KeyspaceState,
    Migration,
    MigrationStep,
    MoveProgress,
    MoveStarted,
    Node,
    Route,
    Shard,
)
from muster.watch import Appeared, Change, Changed, Removed, Snapshot

if TYPE_CHECKING:
    from muster.kafka_commands import KafkaCommands
    from muster.keyspace import Keyspace

try:
    __version__ = version("musterd")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.0.0"

__all__ = [
    "Agent",
    "Appeared",
    "Applied",
    "Change",
    "Changed",
    "CheckState",
    "ChecksumMismatch",
    "Client",
    "ClusterState",
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
    "KeyspaceState",
    "KeyspaceStatistics",
    "LocalShard",
    "Mark",
    "Migration",
    "MigrationNotFound",
    "MigrationStep",
    "MoveInProgress",
    "MoveProgress",
    "MoveStarted",
    "MusterError",
    "NoHealthyInstances",
    "NoShardsAvailable",
    "Node",
    "NodeCordoned",
    "NodeNotFound",
    "NodeTaken",
    "NotOwner",
    "NotReady",
    "Outcome",
    "Page",
    "Put",
    "ReadFailed",
    "Refused",
    "Registration",
    "Removed",
    "Route",
    "Service",
    "ServiceNotFound",
    "Shard",
    "ShardNotFound",
    "ShardOverflow",
    "ShardPinned",
    "Snapshot",
    "StaleEpoch",
    "StaleIncarnation",
    "TcpCheck",
    "Timeout",
    "TooLarge",
    "Transient",
    "TtlCheck",
    "Unreachable",
    "VerbNotAllowed",
    "VersionConflict",
    "WriteFailed",
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
