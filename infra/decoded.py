"""Events that another process of ours has decoded: plain values on the way here, built again without the validator.

Validating and building an event takes 4 µs, 15 for a registration; building alone 0.7 and 4. Whoever reads ahead has validated
it, so here it is only built. What it could not decode comes as the document that it is: then the reader here judges it, and
stops with the position. Never for bytes from elsewhere.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import fields as fields_of
from datetime import datetime
from operator import attrgetter
from sys import intern
from typing import Any, Final, overload

import orjson
from pydantic import ValidationError

from domain.catalogue import EVENTS
from domain.check import HttpCheck, TcpCheck, TtlCheck
from domain.instance import (
    InstanceCheckChanged,
    InstanceDeregistered,
    InstanceDrainEnded,
    InstanceDrainStarted,
    InstanceHealthChanged,
    InstanceMaintenanceCleared,
    InstanceMaintenanceSet,
    InstanceRegistered,
    LeaseExpired,
    Spec,
)
from domain.message import Event, Recorded, fact
from infra.log import Document

Row = tuple[Any, ...]
"""(position, document), or a decoded event: (position, stream, version, time, type, fields, id, command's id, correlation id,
actor, reason, command's hash, commands' offset).
"""

_FLAT: Final = frozenset(
    (
        InstanceHealthChanged,
        InstanceCheckChanged,
        InstanceMaintenanceSet,
        InstanceMaintenanceCleared,
        InstanceDrainStarted,
        InstanceDrainEnded,
        LeaseExpired,
        InstanceDeregistered,
    )
)
"""Events whose fields are texts and numbers, if anything."""

_CHECKS: Final = {"http": HttpCheck, "tcp": TcpCheck, "ttl": TtlCheck}
_CHECK_NAMES: Final = {check: [field.name for field in fields_of(check)] for check in _CHECKS.values()}
_SPEC_NAMES: Final = [field.name for field in fields_of(Spec)]
_spec_values: Final = attrgetter(*_SPEC_NAMES)


def row_of(position: int, document: Document) -> Row:
    """The record decoded, if it can be."""
    try:
        event_type, data = EVENTS.get(document["type"]), document.get("data")
        if event_type is not None and data is not None:
            datetime.fromisoformat(document["time"])
            fields = plain(event_type.__pydantic_validator__.validate_python(data))
            if fields is not None:
                return (
                    position,
                    document["subject"],
                    document["streamversion"],
                    document["time"],
                    event_type.type,
                    fields,
                    document["id"],
                    document["causationid"],
                    document.get("correlationid"),
                    document["actor"],
                    document.get("reason"),
                    document.get("commandhash"),
                    document.get("commandsoffset"),
                )
    except (KeyError, TypeError, ValueError, ValidationError):
        return position, document  # Its reader finds the same again, and says so.
    return position, document


def plain(event: Event) -> dict[str, Any] | None:
    """The event's fields as values that marshal knows; None: it is none of the events that long logs are full of."""
    if type(event) in _FLAT:
        return event.__dict__
    if isinstance(event, InstanceRegistered):
        return {**event.__dict__, "spec": _plain_spec(event.spec)}
    return None


def _plain_spec(spec: Spec) -> dict[str, Any]:
    """Texts that many instances share are interned, and so they are on the other side: half a KB less for each."""
    values = dict(zip(_SPEC_NAMES, _spec_values(spec), strict=True))
    values["metadata"] = {intern(name): value for name, value in spec.metadata.items()}
    values["tags"] = tuple(map(intern, spec.tags))
    values["zone"] = intern(spec.zone)
    values["checks"] = [_plain_check(check) for check in spec.checks]
    return values


def _plain_check(check: HttpCheck | TcpCheck | TtlCheck) -> dict[str, Any]:
    values = {name: getattr(check, name) for name in _CHECK_NAMES[type(check)]}
    values["name"] = intern(check.name)
    return values


def built(event_type: type[Event], fields: dict[str, Any]) -> Event:
    """The event of these `plain` fields, which become its own."""
    if event_type is InstanceRegistered:
        spec = fields["spec"]
        spec["checks"] = tuple([_CHECKS[check["kind"]](**check) for check in spec["checks"]])
        fields["spec"] = Spec(**spec)
    return fact(event_type, fields)


class DecodedRecords(Sequence[tuple[int, Document]]):
    """A batch's records from a process that has decoded them; to others they are documents as ever."""

    __slots__ = ("rows",)

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def events(self, partition: int, decode: Callable[[int, int, Document], Recorded]) -> list[Recorded]:
        """The events; `decode` judges what could not be decoded there."""
        return [_recorded(partition, row) if len(row) > 2 else decode(partition, *row) for row in self.rows]

    def hashes(self) -> list[str | None]:
        """The hash of what its command asked, for each event; None: the command came from inside."""
        return [row[11] if len(row) > 2 else row[1].get("commandhash") for row in self.rows]

    def offset(self) -> str | None:
        """The commands' offset that rides on the last record."""
        last = self.rows[-1]
        offset: str | None = last[12] if len(last) > 2 else last[1].get("commandsoffset")
        return offset

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[int, Document]]:
        return (self[index] for index in range(len(self.rows)))

    @overload
    def __getitem__(self, index: int) -> tuple[int, Document]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[int, Document]]: ...
    def __getitem__(self, index: int | slice) -> tuple[int, Document] | list[tuple[int, Document]]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self.rows)))]
        position, document = _document(self.rows[index])
        if index in (-1, len(self.rows) - 1):
            document["batchlast"] = True
        return position, document


def _recorded(partition: int, row: Row) -> Recorded:
    position, stream, version, time, type_name, fields, id_, command, correlation, actor, reason, _, _ = row
    event = built(EVENTS[type_name], fields)
    at = datetime.fromisoformat(time)
    return Recorded(partition, position, stream, version, at, event, id_, command, correlation, actor, reason)


def _document(row: Row) -> tuple[int, Document]:
    if len(row) == 2:
        return row
    position, stream, version, time, type_name, fields, id_, command, correlation, actor, reason, content, offset = row
    event = built(EVENTS[type_name], deepcopy(fields))
    told = {
        "type": type_name,
        "id": id_,
        "subject": stream,
        "time": time,
        "streamversion": version,
        "causationid": command,
        "actor": actor,
        "data": orjson.loads(event.__pydantic_serializer__.to_json(event)),
        "correlationid": correlation,
        "reason": reason,
        "commandhash": content,
        "commandsoffset": offset,
    }
    return position, {name: value for name, value in told.items() if value is not None}
