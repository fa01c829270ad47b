"""The columns of the registry's tables."""

from dataclasses import dataclass
from typing import Final

from muster.cli.registry.line import state
from muster.cli.table import TableColumn, cell, coloured, columns
from muster.cli.text import age, details, instant, short_type
from muster.wire.registry.answers import Event, HistoryEntry, Instance, Service
from muster.wire.telemetry.loads import ServiceLoad

_COLOURS: Final = {"healthy": "green", "unhealthy": "red", "unknown": "yellow"}


def _of_data(entry: HistoryEntry) -> str:
    return details(entry.data)


def _of_instance_and_data(event: Event) -> str:
    return f"{event.data.get('instance', '')} {details(event.data)}".strip()


_AT: Final[TableColumn[HistoryEntry]] = TableColumn("AT", lambda entry: instant(entry.at))
_TYPE: Final[TableColumn[HistoryEntry]] = TableColumn("EVENT", lambda entry: short_type(entry.type))

SERVICES: Final[list[TableColumn[Service]]] = columns("service", "instances", "healthy", "unhealthy", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedService(Service):
    """A service, and what it has to do now; None: nobody says so."""

    load: ServiceLoad | None


def _load(title: str, name: str) -> TableColumn[LoadedService]:
    return TableColumn(title, lambda row: "" if row.load is None else cell(getattr(row.load, name)))


def _failed(row: LoadedService) -> str:
    share = None if row.load is None else row.load.failure_share
    return "" if share is None else f"{share:.1%}"


def _latency(row: LoadedService) -> str:
    seconds = None if row.load is None else row.load.latency_seconds
    return "" if seconds is None else f"{seconds * 1000:.3g}ms"


LOADS: Final[list[TableColumn[LoadedService]]] = columns(
    "service",
    "instances",
    "healthy",
    _load("HEARD", "heard"),
    _load("IN FLIGHT", "in_flight"),
    _load("PER SECOND", "per_second"),
    _load("FAILURES PER SECOND", "failures_per_second"),
    _load("UTILISATION", "utilisation"),
    # What instances say of themselves is to the left of here, what their clients saw to the right.
    _load("CLIENTS", "observers"),
    _load("CALLS PER SECOND", "attempts_per_second"),
    TableColumn("FAILED", _failed),
    TableColumn("LATENCY", _latency),
)
INSTANCES: Final[list[TableColumn[Instance]]] = columns(
    "instance",
    "endpoint",
    TableColumn("HEALTH", lambda row: coloured(row.health, _COLOURS.get(row.health, ""))),
    TableColumn("SINCE", lambda row: age(row.health_since)),
    "zone",
    "weight",
    "tags",
    TableColumn("STATE", state),
    "cause",
)
HISTORY: Final[list[TableColumn[HistoryEntry]]] = columns(
    "position", _AT, _TYPE, TableColumn("WHAT", _of_data), "actor", "reason"
)
EVENTS: Final[list[TableColumn[Event]]] = columns(
    TableColumn("POSITION", lambda event: f"{event.partition}:{event.position}"),
    _AT,
    "stream",
    _TYPE,
    TableColumn("WHAT", _of_instance_and_data),
    "actor",
    "reason",
)
