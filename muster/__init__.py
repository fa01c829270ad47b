"""muster: what users import. The clients of a controller, of a keyspace and of a failover group, what spreads calls over the
instances of a service, a publisher of commands for Kafka, the guard of what primaries write to, and the agent that drives a
store through moves.

A name is loaded when it is first used, so that the import itself is fast, and a program that only handles errors never
loads aiohttp, aiokafka or gRPC.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

# Each name stands three times: here for type checkers, in `__all__`, and with its module in `_NAMES_OF`.
if TYPE_CHECKING:
    from muster.agent.agent import Agent
    from muster.agent.settle import LocalShard
    from muster.balance.attempt import Attempt
    from muster.balance.balancer import Balancer
    from muster.balance.hooks.aiohttp_middleware import balanced
    from muster.balance.hooks.grpc_channel import BalancedChannel
    from muster.balance.hooks.httpx_transport import BalancedTransport
    from muster.balance.limit import Priority
    from muster.balance.request import NotSent, Request
    from muster.balance.statistics import BalancerStatistics, InstanceStatistics
    from muster.client.client import Client
    from muster.client.registration import Registration
    from muster.client.watch import Appeared, Change, Changed, Removed, Snapshot, TrafficSet
    from muster.group.fencing import FenceTarget
    from muster.group.group import Group, Primary
    from muster.group.membership import Membership
    from muster.guard.guard import Guard
    from muster.guard.middleware import GuardMiddleware
    from muster.kafka_commands import KafkaCommands
    from muster.keyspace.keyspace import Keyspace
    from muster.keyspace.operation import Applied, Delete, Get, KeyspaceStatistics, Put
    from muster.wire.command import PublishedCommand, to_service
    from muster.wire.error import (
        ChecksumMismatch,
        Corrupt,
        DataLossRefused,
        DataUnavailable,
        FailoverTimeout,
        GroupNotFound,
        IdempotencyConflict,
        InstanceNotFound,
        InvalidCommand,
        InvalidInstance,
        InvalidShardKey,
        KeyspaceNotFound,
        MemberNotFound,
        MigrationNotFound,
        MoveInProgress,
        MusterError,
        NoAvailableInstances,
        NodeCordoned,
        NodeNotFound,
        NodeTaken,
        NoHealthyInstances,
        NoHealthyStandby,
        NoPrimary,
        NoShardsAvailable,
        NotOwner,
        NotReady,
        OtherLog,
        ReadFailed,
        Refused,
        ResourceExhausted,
        SagaNotFound,
        ServiceNotFound,
        ShardNotFound,
        ShardOverflow,
        ShardPinned,
        StaleEpoch,
        StaleIncarnation,
        Timeout,
        TooLarge,
        TrafficNotFound,
        Transient,
        Unreachable,
        VerbNotAllowed,
        VersionConflict,
        WriteFailed,
        WrongCluster,
        WrongPartition,
    )
    from muster.wire.read_model import Page
    from muster.wire.registry.answers import (
        CheckState,
        Event,
        EventPage,
        History,
        HistoryEntry,
        Instance,
        Mark,
        Outcome,
        Service,
        UnknownCheck,
        Written,
    )
    from muster.wire.registry.check import HttpCheck, HttpsCheck, TcpCheck, TtlCheck
    from muster.wire.registry.traffic import Traffic, TrafficSettings
    from muster.wire.sagas import Saga, SagaStep
    from muster.wire.shards.answers import (
        ClusterState,
        KeyspaceState,
        Migration,
        MigrationStep,
        MoveProgress,
        MoveSlots,
        MoveStarted,
        Node,
        Route,
        Shard,
    )
    from muster.wire.telemetry.heartbeats import LoadReport
    from muster.wire.telemetry.loads import SeenInstance, ServiceLoad
    from muster.wire.telemetry.observations import Observation, Observations
    from muster.wire.telemetry.shard_loads import ShardLoad, ShardLoadReport, ShardLoads

__version__ = "0.1.0"

__all__ = [
    "Agent",
    "Appeared",
    "Applied",
    "Attempt",
    "BalancedChannel",
    "BalancedTransport",
    "Balancer",
    "BalancerStatistics",
    "Change",
    "Changed",
    "CheckState",
    "ChecksumMismatch",
    "Client",
    "ClusterState",
    "Corrupt",
    "DataLossRefused",
    "DataUnavailable",
    "Delete",
    "Event",
    "EventPage",
    "FailoverTimeout",
    "FenceTarget",
    "Get",
    "Group",
    "GroupNotFound",
    "Guard",
    "GuardMiddleware",
    "History",
    "HistoryEntry",
    "HttpCheck",
    "HttpsCheck",
    "IdempotencyConflict",
    "Instance",
    "InstanceNotFound",
    "InstanceStatistics",
    "InvalidCommand",
    "InvalidInstance",
    "InvalidShardKey",
    "KafkaCommands",
    "Keyspace",
    "KeyspaceNotFound",
    "KeyspaceState",
    "KeyspaceStatistics",
    "LoadReport",
    "LocalShard",
    "Mark",
    "MemberNotFound",
    "Membership",
    "Migration",
    "MigrationNotFound",
    "MigrationStep",
    "MoveInProgress",
    "MoveProgress",
    "MoveSlots",
    "MoveStarted",
    "MusterError",
    "NoAvailableInstances",
    "NoHealthyInstances",
    "NoHealthyStandby",
    "NoPrimary",
    "NoShardsAvailable",
    "Node",
    "NodeCordoned",
    "NodeNotFound",
    "NodeTaken",
    "NotOwner",
    "NotReady",
    "NotSent",
    "Observation",
    "Observations",
    "OtherLog",
    "Outcome",
    "Page",
    "Primary",
    "Priority",
    "PublishedCommand",
    "Put",
    "ReadFailed",
    "Refused",
    "Registration",
    "Removed",
    "Request",
    "ResourceExhausted",
    "Route",
    "Saga",
    "SagaNotFound",
    "SagaStep",
    "SeenInstance",
    "Service",
    "ServiceLoad",
    "ServiceNotFound",
    "Shard",
    "ShardLoad",
    "ShardLoadReport",
    "ShardLoads",
    "ShardNotFound",
    "ShardOverflow",
    "ShardPinned",
    "Snapshot",
    "StaleEpoch",
    "StaleIncarnation",
    "TcpCheck",
    "Timeout",
    "TooLarge",
    "Traffic",
    "TrafficNotFound",
    "TrafficSet",
    "TrafficSettings",
    "Transient",
    "TtlCheck",
    "UnknownCheck",
    "Unreachable",
    "VerbNotAllowed",
    "VersionConflict",
    "WriteFailed",
    "Written",
    "WrongCluster",
    "WrongPartition",
    "__version__",
    "balanced",
    "to_service",
]

_NAMES_OF: Final = {
    "muster.agent.agent": ("Agent",),
    "muster.agent.settle": ("LocalShard",),
    "muster.balance.attempt": ("Attempt",),
    "muster.balance.balancer": ("Balancer",),
    "muster.balance.limit": ("Priority",),
    "muster.balance.request": ("NotSent", "Request"),
    "muster.balance.statistics": ("BalancerStatistics", "InstanceStatistics"),
    "muster.balance.hooks.aiohttp_middleware": ("balanced",),
    "muster.balance.hooks.grpc_channel": ("BalancedChannel",),
    "muster.balance.hooks.httpx_transport": ("BalancedTransport",),
    "muster.client.client": ("Client",),
    "muster.client.registration": ("Registration",),
    "muster.client.watch": (
        "Appeared",
        "Change",
        "Changed",
        "Removed",
        "Snapshot",
        "TrafficSet",
    ),
    "muster.group.group": ("Group", "Primary"),
    "muster.guard.guard": ("Guard",),
    # Whom a membership is asked to fence: the argument of its `fence`.
    "muster.group.fencing": ("FenceTarget",),
    "muster.group.membership": ("Membership",),
    "muster.guard.middleware": ("GuardMiddleware",),
    "muster.kafka_commands": ("KafkaCommands",),
    "muster.keyspace.keyspace": ("Keyspace",),
    "muster.keyspace.operation": (
        "Applied",
        "Delete",
        "Get",
        "KeyspaceStatistics",
        "Put",
    ),
    "muster.wire.registry.check": (
        "HttpCheck",
        "HttpsCheck",
        "TcpCheck",
        "TtlCheck",
    ),
    "muster.wire.registry.traffic": ("Traffic", "TrafficSettings"),
    "muster.wire.command": ("PublishedCommand", "to_service"),
    "muster.wire.telemetry.heartbeats": ("LoadReport",),
    "muster.wire.telemetry.shard_loads": ("ShardLoad", "ShardLoadReport", "ShardLoads"),
    "muster.wire.telemetry.loads": ("SeenInstance", "ServiceLoad"),
    "muster.wire.telemetry.observations": ("Observation", "Observations"),
    "muster.wire.error": (
        "ChecksumMismatch",
        "Corrupt",
        "DataLossRefused",
        "DataUnavailable",
        "FailoverTimeout",
        "GroupNotFound",
        "IdempotencyConflict",
        "InstanceNotFound",
        "InvalidCommand",
        "InvalidInstance",
        "InvalidShardKey",
        "KeyspaceNotFound",
        "MemberNotFound",
        "MigrationNotFound",
        "MoveInProgress",
        "MusterError",
        "NoAvailableInstances",
        "NoHealthyInstances",
        "NoHealthyStandby",
        "NoPrimary",
        "NoShardsAvailable",
        "NodeCordoned",
        "NodeNotFound",
        "NodeTaken",
        "NotOwner",
        "NotReady",
        "OtherLog",
        "ReadFailed",
        "Refused",
        "ResourceExhausted",
        "SagaNotFound",
        "ServiceNotFound",
        "ShardNotFound",
        "ShardOverflow",
        "ShardPinned",
        "StaleEpoch",
        "StaleIncarnation",
        "Timeout",
        "TooLarge",
        "TrafficNotFound",
        "Transient",
        "Unreachable",
        "VerbNotAllowed",
        "VersionConflict",
        "WriteFailed",
        "WrongCluster",
        "WrongPartition",
    ),
    "muster.wire.read_model": ("Page",),
    "muster.wire.registry.answers": (
        "CheckState",
        "Event",
        "EventPage",
        "History",
        "HistoryEntry",
        "Instance",
        "Mark",
        "Outcome",
        "Service",
        "UnknownCheck",
        "Written",
    ),
    "muster.wire.sagas": ("Saga", "SagaStep"),
    "muster.wire.shards.answers": (
        "ClusterState",
        "KeyspaceState",
        "Migration",
        "MigrationStep",
        "MoveProgress",
        "MoveSlots",
        "MoveStarted",
        "Node",
        "Route",
        "Shard",
    ),
}
_HOME_OF: Final = {name: module for module, names in _NAMES_OF.items() for name in names}


def __getattr__(name: str) -> Any:
    # Also how Python asks whether there is a module of this name, so it must be this kind of error.
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Kept among the module's names, so that the next use does not come here again.
    globals()[name] = found = getattr(import_module(_HOME_OF[name]), name)
    return found


def __dir__() -> list[str]:
    return __all__
