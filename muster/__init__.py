"""muster: what users import. The client of a controller, and a publisher of commands for Kafka.

Importing this loads nothing of the server; `KafkaCommands` loads aiokafka when it is first named.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from domain.check import HttpCheck, TcpCheck, TtlCheck
from domain.error import (
    Corrupt,
    IdempotencyConflict,
    InstanceNotFound,
    InvalidCommand,
    InvalidInstance,
    MusterError,
    NoHealthyInstances,
    NotReady,
    Refused,
    ServiceNotFound,
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
from muster.registration import Registration
from muster.watch import Appeared, Change, Changed, Removed, Snapshot

if TYPE_CHECKING:
    from muster.kafka_commands import KafkaCommands

try:
    __version__ = version("musterd")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.0.0"

__all__ = [
    "Appeared",
    "Change",
    "Changed",
    "CheckState",
    "Client",
    "Corrupt",
    "Event",
    "EventPage",
    "History",
    "HistoryEntry",
    "HttpCheck",
    "IdempotencyConflict",
    "Instance",
    "InstanceNotFound",
    "InvalidCommand",
    "InvalidInstance",
    "KafkaCommands",
    "Mark",
    "MusterError",
    "NoHealthyInstances",
    "NotReady",
    "Outcome",
    "Page",
    "Refused",
    "Registration",
    "Removed",
    "Service",
    "ServiceNotFound",
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
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
