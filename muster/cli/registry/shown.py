"""The columns of the registry's tables."""

from typing import Final

from muster.cli.registry.line import state
from muster.cli.table import TableColumn, coloured, columns
from muster.cli.text import age, details, instant, short_type
from muster.wire.registry.answers import Event, HistoryEntry, Instance, Service

_COLOURS: Final = {"healthy": "green", "unhealthy": "red", "unknown": "yellow"}


def _of_data(entry: HistoryEntry) -> str:
    return details(entry.data)


def _of_instance_and_data(event: Event) -> str:
    return f"{event.data.get('instance', '')} {details(event.data)}".strip()


_AT: Final[TableColumn[HistoryEntry]] = TableColumn("AT", lambda entry: instant(entry.at))
_TYPE: Final[TableColumn[HistoryEntry]] = TableColumn("EVENT", lambda entry: short_type(entry.type))

SERVICES: Final[list[TableColumn[Service]]] = columns("service", "instances", "healthy", "unhealthy", "unknown")
HEALTH: Final[TableColumn[Instance]] = TableColumn(
    "HEALTH", lambda row: coloured(row.health, _COLOURS.get(row.health, ""))
)
INSTANCES: Final[list[TableColumn[Instance]]] = columns(
    "instance",
    "endpoint",
    HEALTH,
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
