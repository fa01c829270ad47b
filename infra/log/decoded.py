"""Events that another process of ours has decoded: plain values on the way here, built again without the validator.

Validating and building an event takes 4 µs, 15 for a registration; building alone 0.7 and 4. Whoever reads ahead has validated
it, so here it is only built. What it could not decode comes as the document that it is: then the reader here judges it, and
stops with the position. Never for bytes from elsewhere.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from datetime import datetime
from functools import cache, lru_cache
from sys import intern
from typing import Any, Final, overload

import orjson
from pydantic import ValidationError
from pydantic_core import SchemaValidator
from pydantic_core.core_schema import no_info_after_validator_function, no_info_plain_validator_function

from domain.catalogue import EVENTS
from domain.message import Event, Recorded, fact
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
from muster.wire.check import REPORTED, HttpCheck, TcpCheck, TtlCheck, named
from muster.wire.spec import Checks, Spec

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

_CHECKS_KNOWN_MAX: Final = 4_096
_NO_CHECKS: Final = b"[]"

_new: Final = tuple.__new__
_instant: Final = datetime.fromisoformat
_CHECKS: Final = {"http": HttpCheck, "tcp": TcpCheck, "ttl": TtlCheck}


def row_of(position: int, document: Document) -> Row:
    """The record decoded, if it can be."""
    try:
        event_type = EVENTS.get(document["type"])
        if event_type in _FLAT or event_type is InstanceRegistered:
            _instant(document["time"])
            fields = _plain_validator(event_type).validate_python(document["data"])
            if event_type is InstanceRegistered:
                _share(fields["spec"])
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


def _share(spec: dict[str, Any]) -> None:
    """Texts that many instances share are interned, and so they are on the other side: half a KB less for each. Checks are one
    text already, by which the other side finds those that it has built before."""
    spec["metadata"] = {intern(name): value for name, value in spec["metadata"].items()}
    spec["tags"] = tuple(map(intern, spec["tags"]))
    spec["zone"] = intern(spec["zone"])
    spec["checks"] = spec["checks"] or _NO_CHECKS


@cache
def _plain_validator(event_type: type[Event]) -> SchemaValidator:
    """Judges as the event's own validator does, but gives its fields as values that marshal knows: to build the event only
    to take it apart again would take twice as long."""
    return SchemaValidator(_plain(event_type.__pydantic_core_schema__))


def _plain(schema: Any) -> Any:
    """The schema with dicts in place of models and dataclasses."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    match schema:
        case {"type": "model", "schema": {"fields": fields}, "config": config}:
            return _plain_dict(fields, config)
        case {"type": "dataclass", "schema": {"fields": fields}, "config": config}:
            return _plain_dict({field["name"]: field for field in fields}, config)
        case {"type": "function-after", "function": {"function": function}} if function is named:
            return no_info_plain_validator_function(_checks_judged(_plain(schema["schema"])))
    return {name: _plain(part) for name, part in schema.items()}


def _plain_dict(fields: dict[str, Any], config: Any) -> Any:
    return {
        "type": "typed-dict",
        "config": config,
        "fields": {
            name: {**_plain(field), "type": "typed-dict-field", "required": field["schema"]["type"] != "default"}
            for name, field in fields.items()
        },
    }


def _checks_judged(schema: Any) -> Callable[[object], bytes]:
    """Judges checks and gives their JSON. What is the same text again, as it is all over a service, is not judged again."""
    validator = SchemaValidator(no_info_after_validator_function(_named_apart, schema))

    @lru_cache(_CHECKS_KNOWN_MAX)
    def judged(document: bytes) -> bytes:
        return orjson.dumps(validator.validate_python(orjson.loads(document)))

    return lambda checks: judged(orjson.dumps(checks))


def _named_apart(checks: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    """Checks that `named` leaves as they are; others are left to it."""
    names = {check["name"] for check in checks}
    if REPORTED in names or len(names) < len(checks):
        raise ValueError("to be named")
    return checks


def built(event_type: type[Event], fields: dict[str, Any]) -> Event:
    """The event of these `plain` fields, which become its own."""
    if event_type is InstanceRegistered:
        spec = fields["spec"]
        spec["checks"] = checks_of(spec["checks"])
        fields["spec"] = Spec(**spec)
    return fact(event_type, fields)


@lru_cache(_CHECKS_KNOWN_MAX)
def checks_of(document: bytes) -> Checks:
    """The checks of this JSON. Instances of a service have the same as a rule, and share them: to build them takes a quarter of
    a registration's time, and to keep them 300 bytes."""
    return tuple(
        [_CHECKS[check["kind"]](**check | {"name": intern(check["name"])}) for check in orjson.loads(document)]
    )


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
    event, at = built(EVENTS[type_name], fields), _instant(time)
    # What `Recorded(...)` does behind a call in Python.
    return _new(Recorded, (partition, position, stream, version, at, event, id_, command, correlation, actor, reason))


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
