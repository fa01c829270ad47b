"""Events that another process of ours has decoded: plain values on their way here, built again without being judged again.

To validate an event takes several times as long as to build it, and most of a long reading is a few kinds of events. The process
that reads ahead has validated those; here they are only built. Any other record, and any that it could not decode, comes as
the document that it is: then the reader here judges it, and stops with its position. Never for bytes from elsewhere.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from datetime import datetime
from functools import lru_cache
from operator import attrgetter
from sys import intern
from typing import Any, Final, NamedTuple, overload

import orjson
from pydantic import TypeAdapter, ValidationError

from domain.catalogue import EVENTS
from domain.message import Event, Recorded, from_plain, to_plain
from domain.registry.instance import (
    InstanceCheckChanged,
    InstanceDeregistered,
    InstanceDrainEnded,
    InstanceDrainStarted,
    InstanceHealthChanged,
    InstanceMaintenanceCleared,
    InstanceMaintenanceSet,
    InstanceRegistered,
    LeaseExpired,
)
from infra.log.port import Document
from muster.wire.registry.spec import Checks, Spec

Values = tuple[Any, ...]
"""The values of an event's fields, in their order."""

Row = tuple[Any, ...]
"""(position, document), or a decoded event: (position, stream, version, time, type, values, id, command's id, correlation id,
actor, reason, command's hash, commands' offset, commands' topic).
"""

_checks_known_max: Final = 4_096
_CHECKS: Final[TypeAdapter[Checks]] = TypeAdapter(Checks)


class _Flat(NamedTuple):
    """An event's fields when all of them are texts and numbers: their names, and all their values at once."""

    names: tuple[str, ...]
    values: Callable[[Any], Values]


def _flat(kind: type) -> _Flat:
    # Two names at least, so that attrgetter always gives a tuple: an event with the instance alone has it twice.
    names = tuple(field.name for field in fields(kind))
    return _Flat(names, attrgetter(*names) if len(names) > 1 else attrgetter(*names * 2))


_FLAT: Final[dict[type[Event], _Flat]] = {
    kind: _flat(kind)
    for kind in (
        InstanceHealthChanged,
        InstanceCheckChanged,
        InstanceMaintenanceSet,
        InstanceMaintenanceCleared,
        InstanceDrainStarted,
        InstanceDrainEnded,
        LeaseExpired,
        InstanceDeregistered,
    )
}
_SPEC: Final = _flat(Spec)
_METADATA_AT, _TAGS_AT, _ZONE_AT, _CHECKS_AT = map(_SPEC.names.index, ("metadata", "tags", "zone", "checks"))


def row_of(position: int, document: Document) -> Row:
    """The record decoded, if it is of a kind that can be, and holds what it should."""
    try:
        event_type = EVENTS[document["type"]]
        if event_type not in _FLAT and event_type is not InstanceRegistered:
            return position, document
        # Marks that were kept are rare, and hold instants, which the frame cannot carry.
        if "maintenance" in document["data"] or "draining" in document["data"]:
            return position, document
        # Only judged here: the frame to the parent cannot carry a datetime, so the text goes on and is parsed there.
        datetime.fromisoformat(document["time"])
        values = _judged(event_type, document["data"])
        return (
            position,
            document["subject"],
            document["streamversion"],
            document["time"],
            event_type.type,
            values,
            document["id"],
            document["causationid"],
            document.get("correlationid"),
            document["actor"],
            document.get("reason"),
            document.get("commandhash"),
            document.get("commandsoffset"),
            document.get("commandstopic"),
        )
    except (KeyError, TypeError, ValueError, ValidationError):
        return position, document  # Its reader finds the same again, and says so.


def _judged(event_type: type[Event], data: Document) -> Values:
    """The values of the event's fields. Raises what `row_of` takes for a document that its reader has to judge."""
    if event_type is InstanceRegistered:
        return _registration_judged(data)
    return _FLAT[event_type].values(from_plain(event_type, data))


def _registration_judged(data: Document) -> Values:
    # Apart from the rest, so that checks which a whole service has are judged once.
    checks = _checks_judged(orjson.dumps(data["spec"]["checks"]))
    event = from_plain(InstanceRegistered, {**data, "spec": {**data["spec"], "checks": ()}})
    spec = list(_SPEC.values(event.spec))
    # Texts that many instances share are interned: half a KB less for each instance. Marshal writes each of them once
    # in a frame, and interns it in the parent too.
    spec[_METADATA_AT] = {intern(name): value for name, value in event.spec.metadata.items()}
    spec[_TAGS_AT] = tuple(map(intern, event.spec.tags))
    spec[_ZONE_AT] = intern(event.spec.zone)
    # Bytes can travel, objects of ours cannot. They are also the key under which `checks_of` keeps what it builds.
    spec[_CHECKS_AT] = checks
    return event.instance, event.incarnation, event.health, event.holder, spec


@lru_cache(_checks_known_max)
def _checks_judged(document: bytes) -> bytes:
    """The JSON of what the checks of this JSON are. Raises ValidationError."""
    return _CHECKS.dump_json(_CHECKS.validate_python(orjson.loads(document)))


def built(event_type: type[Event], values: Values) -> Event:
    """The event of these values, as `row_of` has taken it apart."""
    if event_type is InstanceHealthChanged:
        return _flip(values)
    if event_type is InstanceRegistered:
        instance, incarnation, health, holder, spec = values
        told = _spec(spec)
        return InstanceRegistered(instance=instance, incarnation=incarnation, health=health, holder=holder, spec=told)
    # Not strict: the value of an event with one field comes twice, see `_flat`.
    return event_type(**dict(zip(_FLAT[event_type].names, values, strict=False)))


def _flip(values: Values) -> InstanceHealthChanged:
    # Written out, because most of a long reading is flips, and going by the names of the fields costs half as much again.
    instance, was, to, cause, check, check_status = values
    return InstanceHealthChanged(instance=instance, was=was, to=to, cause=cause, check=check, check_status=check_status)


def _spec(values: Values) -> Spec:
    address, port, metadata, tags, zone, weight, checks, lease_seconds, deregister_after_seconds, heartbeats = values
    return Spec(
        address=address,
        port=port,
        metadata=metadata,
        tags=tags,
        zone=zone,
        weight=weight,
        checks=checks_of(checks),
        lease_seconds=lease_seconds,
        deregister_after_seconds=deregister_after_seconds,
        heartbeats=heartbeats,
    )


@lru_cache(_checks_known_max)
def checks_of(document: bytes) -> Checks:
    """The checks of this JSON. Instances of a service have the same as a rule, and share them: to build them takes a quarter of
    a registration's time, and to keep them 300 bytes."""
    return _CHECKS.validate_json(document)


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

    def topic(self) -> str | None:
        """The id of the commands topic, which rides on the last record."""
        last = self.rows[-1]
        topic: str | None = last[13] if len(last) > 2 else last[1].get("commandstopic")
        return topic

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
        # A row does not carry this mark. Batches come whole, so it belongs to the last row.
        if index in (-1, len(self.rows) - 1):
            document["batchlast"] = True
        return position, document


def _recorded(partition: int, row: Row) -> Recorded:
    position, stream, version, time, type_name, values, id_, command, correlation, actor, reason, *_ = row
    event, at = built(EVENTS[type_name], values), datetime.fromisoformat(time)
    return Recorded(partition, position, stream, version, at, event, id_, command, correlation, actor, reason)


def _document(row: Row) -> tuple[int, Document]:
    if len(row) == 2:
        return row
    position, stream, version, time, type_name, values, id_, command, correlation, actor, reason, *sealed = row
    content, offset, topic = sealed
    document = {
        "type": type_name,
        "id": id_,
        "subject": stream,
        "time": time,
        "streamversion": version,
        "causationid": command,
        "actor": actor,
        "data": to_plain(built(EVENTS[type_name], values)),
        "correlationid": correlation,
        "reason": reason,
        "commandhash": content,
        "commandsoffset": offset,
        "commandstopic": topic,
    }
    return position, {name: value for name, value in document.items() if value is not None}
