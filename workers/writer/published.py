"""Published commands as anyone may write them, and their outcomes: this JSON is read and written only here.

{id, type, stream, data, actor?, reason?, expected_version?}  →  Envelope
Answer  →  {id, status, partition, position, version, incarnation, error[, duplicate]}
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

import orjson

from domain.catalogue import KIND_OF, Answer, command_from
from muster.wire import printable
from muster.wire.command import Envelope
from muster.wire.error import InvalidCommand, MusterError, TooLarge
from muster.wire.problem import facts_of, field_chars_max, verdict_of
from muster.wire.stream import FORMS, PATTERNS
from muster.wire.stream import NAME as NAME_FORM

command_bytes_max: Final = 524_288
reason_chars_max: Final = 1_024

NAME: Final = re.compile(NAME_FORM)
"""The names that services and instances may have."""

_ID: Final = re.compile(r"[\x21-\x7e]{1,200}")
_RESERVED_IDS: Final = ("report/", "drain/", "expire/", "check/", "muster.", *(f"{kind}/" for kind in PATTERNS))
"""How the ids begin that controllers make for what they have seen, and for the steps and reports of sagas."""
_PLACE: Final = re.compile(r"([^/]*\.commands/)[0-9]+/[0-9]+")
"""What the outcome of a published command without a usable id has for one: its place, in a cluster of any name."""
_FIELDS: Final = frozenset(("id", "type", "stream", "data", "actor", "reason", "expected_version"))
_STREAM_OF: Final = {type_name: re.compile(PATTERNS[kind]) for type_name, kind in KIND_OF.items()}


def envelope_from_json(value: bytes) -> Envelope:
    """The command in these bytes. Raises TooLarge, InvalidCommand or InvalidInstance."""
    if len(value) > command_bytes_max:
        raise TooLarge(f"a command may have {command_bytes_max} bytes, not {len(value)}", bytes_max=command_bytes_max)
    return envelope_from(json_from(value))


def envelope_from(obj: object, *, inside: bool = False) -> Envelope:
    """The command in this JSON value; an unknown field is refused. `inside`: it comes from a controller.

    Raises InvalidCommand or InvalidInstance, with the field.
    """
    if not isinstance(obj, dict):
        raise InvalidCommand("a command is a JSON object", field="command")
    if not obj.keys() <= _FIELDS:
        raise _unknown(obj.keys() - _FIELDS, "commands have no such field")
    type_name, stream = obj.get("type"), obj.get("stream")
    if not isinstance(type_name, str):
        raise InvalidCommand("type: is missing or no text", field="type")
    command = command_from(type_name, obj.get("data"), inside=inside)
    return Envelope(
        command_id(obj.get("id"), inside=inside),
        _stream(stream, type_name),
        command,
        actor_from(obj.get("actor", "anonymous"), inside=inside),
        reason_from(obj.get("reason")),
        _version(obj.get("expected_version")),
    )


def refuse_unknown(found: Mapping[str, object], *known: str) -> None:
    """Raise InvalidCommand when the JSON object has a field that is not among these."""
    if unknown := found.keys() - set(known):
        raise _unknown(unknown, "there is no such field here")


def _unknown(names: Collection[str], reason: str) -> InvalidCommand:
    field = printable(min(names)[:field_chars_max])
    return InvalidCommand(f"{field}: {reason}", field=field)


def json_from(value: bytes) -> Any:
    """The JSON value. Raises InvalidCommand, also for one that is nested too deeply or holds a NUL, which SQL text cannot."""
    found, escaped = parsed_json(value)
    if escaped:
        check_nul(found)
    return found


def parsed_json(value: bytes) -> tuple[Any, bool]:
    """The JSON value, and whether there may be a NUL in it, for which `check_nul` looks. Raises InvalidCommand."""
    try:
        # JSON has no other way to write it. An escaped backslash before `u0000` looks the same and is none.
        return orjson.loads(value), b"\\u0000" in value
    except orjson.JSONDecodeError as error:
        raise InvalidCommand(f"not JSON: {error}", field="body") from None


def check_nul(found: object) -> None:
    """Raise InvalidCommand, with the field, when a text or a name in the JSON value holds a NUL."""
    # A list of what is left, and no recursion: JSON may be nested more deeply than calls.
    left: list[tuple[_Trail, object]] = [(None, found)]
    while left:
        trail, each = left.pop()
        if isinstance(each, str) and "\0" in each:
            field = _path(trail)
            raise InvalidCommand(f"{field}: text must not hold NUL characters", field=field)
        if isinstance(each, dict):
            left += [(trail, name) for name in each]
            left += [((trail, name), item) for name, item in each.items()]
        elif isinstance(each, list):
            left += [((trail, str(index)), item) for index, item in enumerate(each)]


_Trail = tuple["_Trail", str] | None
"""How deep in a value: the name in it, and how deep what holds it is. Joined only when it is told."""


def _path(trail: "_Trail") -> str:
    names: list[str] = []
    while trail is not None:
        trail, name = trail
        names.append(printable(name[:field_chars_max]))
    return ".".join(reversed(names))[:field_chars_max] or "body"


def check_name(field: str, name: str) -> None:
    """Raise InvalidCommand when it is not a name."""
    if not NAME.fullmatch(name):
        raise InvalidCommand(f"{field}: {name[:140]!r} is no name: 1 to 128 letters, digits, . _ -", field=field)


def command_id(value: object, *, inside: bool = False) -> str:
    """The id of a command; `inside`: one that a controller may have made. Raises InvalidCommand."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise InvalidCommand("id: must be 1 to 200 visible ASCII characters", field="id")
    # If a client used such an id first, the command of a controller or a data node under it would be taken for a repeat.
    reserved = None
    # In one look at all of them: every command passes here.
    if value.startswith(_RESERVED_IDS):
        reserved = next(begin for begin in _RESERVED_IDS if value.startswith(begin))
    elif place := _PLACE.fullmatch(value):
        reserved = place[1]
    if reserved is not None and not inside:
        raise InvalidCommand(f"id: {reserved}… are ids of controllers; choose another", field="id")
    return value


def actor_from(value: object, *, inside: bool = False) -> str:
    """The actor of a command; `inside`: muster itself may be it. Raises InvalidCommand."""
    if not isinstance(value, str) or not 0 < len(value) <= 128 or not value.isprintable():
        raise InvalidCommand("actor: must be 1 to 128 printable characters", field="actor")
    if not inside and (value == "muster" or value.startswith("muster/")):
        raise InvalidCommand("actor: muster is the system itself; say who you are", field="actor")
    return value


def reason_from(value: object) -> str | None:
    """The reason of a command; None when there is none. Raises InvalidCommand."""
    if value is None or (isinstance(value, str) and len(value) <= reason_chars_max):
        return value
    raise InvalidCommand(f"reason: must be text of at most {reason_chars_max} characters", field="reason")


def _stream(value: object, type_name: str) -> str:
    if isinstance(value, str) and _STREAM_OF[type_name].fullmatch(value):
        return value
    wanted = FORMS[KIND_OF[type_name]]
    raise InvalidCommand(f"stream: a command of this type is for {wanted}", field="stream")


def _version(value: object) -> int | None:
    # JSON's true is an int in Python, but it is not a version.
    if value is None or (type(value) is int and value >= 0):
        return value
    raise InvalidCommand("expected_version: must be a whole number from 0 on", field="expected_version")


def claimed_id(obj: object) -> str:
    """The id of a malformed command, so that its sender finds the outcome; empty when it has none."""
    found = obj.get("id") if isinstance(obj, dict) else None
    return found if isinstance(found, str) and _ID.fullmatch(found) else ""


def outcome(answer: Answer) -> dict[str, Any]:
    """The outcome of an answered command, for its sender."""
    found: dict[str, Any] = {
        "id": answer.id,
        "status": answer.status,
        "partition": answer.partition,
        "position": answer.position,
        "version": answer.version,
        "incarnation": answer.incarnation,
        "error": answer.error,
    }
    if answer.duplicate:
        found["duplicate"] = True
    return found


def outcome_of_error(error: MusterError, command_id: str, partition: int | None) -> dict[str, Any]:
    """The outcome of a command that no writer has answered: `refused` when it is malformed, else `unknown`."""
    return {
        "id": command_id,
        "status": verdict_of(error),
        "partition": partition,
        "position": None,
        "version": None,
        "incarnation": None,
        "error": facts_of(error),
    }
