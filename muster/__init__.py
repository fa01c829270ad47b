"""muster: what users import. The clients of a controller and of a keyspace, a publisher of commands for Kafka, and the
participant that drives a store through moves.

Importing this loads nothing of the server, and a library for the network only when who needs it is first named: `Client`
and `Agent` load aiohttp, `KafkaCommands` aiokafka, `Keyspace` gRPC.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

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
    from muster.agent import Agent
    from muster.agent_map import LocalShard
    from muster.client import Client
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


_HOME_OF: Final = {
    "Agent": "muster.agent",
    "Client": "muster.client",
    "KafkaCommands": "muster.kafka_commands",
    "Keyspace": "muster.keyspace",
    "LocalShard": "muster.agent_map",
}


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(import_module(_HOME_OF[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
