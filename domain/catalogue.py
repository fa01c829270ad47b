"""Everything that can be asked and can have happened, as literal tables."""

from typing import Any, Final, Literal

from pydantic import ValidationError

from domain import saga
from domain.message import NAME_PATTERN, Command, Event
from domain.registry import service
from domain.shards import cluster, keyspace, node
from muster.wire.check import URL_PATTERN
from muster.wire.error import InvalidCommand, InvalidInstance
from muster.wire.value import value

_COMMANDS_OF: Final[dict[str, tuple[type[Command], ...]]] = {
    service.KIND: service.COMMANDS,
    keyspace.KIND: keyspace.COMMANDS,
    cluster.KIND: node.COMMANDS,
    saga.KIND: saga.COMMANDS,
}
_INTERNAL_OF: Final[dict[str, tuple[type[Command], ...]]] = {
    keyspace.KIND: keyspace.INTERNAL_COMMANDS,
    cluster.KIND: node.INTERNAL_COMMANDS,
}

COMMANDS: Final[dict[str, type[Command]]] = {
    command.type: command for commands in _COMMANDS_OF.values() for command in commands
}
"""The commands that anyone may publish, by type."""

INTERNAL_COMMANDS: Final[dict[str, type[Command]]] = {
    command.type: command for commands in _INTERNAL_OF.values() for command in commands
}
"""The commands that a controller may give to another one, by type."""

KIND_OF: Final[dict[str, str]] = {
    command.type: kind
    for table in (_COMMANDS_OF, _INTERNAL_OF)
    for kind, commands in table.items()
    for command in commands
}
"""The kind of stream that a command is for, by type."""

EVENTS: Final[dict[str, type[Event]]] = {
    event.type: event for events in (service.EVENTS, keyspace.EVENTS, node.EVENTS, saga.EVENTS) for event in events
}
"""All events, by type."""

_NAME: Final = NAME_PATTERN[1:-1]
STREAMS: Final[dict[str, str]] = {
    service.KIND: f"{service.KIND}/{_NAME}",
    keyspace.KIND: f"{keyspace.KIND}/{_NAME}",
    cluster.KIND: cluster.STREAM,
    saga.KIND: f"{keyspace.KIND}/{_NAME}/migration/[1-9][0-9]{{0,17}}",
}
"""What streams are called, by kind, as regular expressions."""


_FORMS: Final = {
    NAME_PATTERN: "must be 1 to 128 letters, digits, . _ - and begin with a letter or digit",
    URL_PATTERN: "must be an http:// or https:// URL with a host, and a port up to 65535 if any",
}


def command_from(type_name: str, data: object, *, inside: bool = False) -> Command:
    """The command of this type with this data; `inside`: also one that only controllers give.

    Raises InvalidCommand or InvalidInstance, with the field.
    """
    command_type = COMMANDS.get(type_name) or (INTERNAL_COMMANDS.get(type_name) if inside else None)
    if command_type is None:
        raise InvalidCommand(f"unknown command type {type_name!r}", field="type")
    try:
        command: Command = command_type.__pydantic_validator__.validate_python(data)
        return command
    except ValidationError as error:
        raise refusal(error, command_type) from None


def command_from_json(type_name: str, data: bytes) -> Command:
    """As `command_from`, from JSON text."""
    command_type = COMMANDS.get(type_name)
    if command_type is None:
        raise InvalidCommand(f"unknown command type {type_name!r}", field="type")
    try:
        return command_type.model_validate_json(data)
    except ValidationError as error:
        raise refusal(error, command_type) from None


def refusal(error: ValidationError, command_type: type[Command]) -> InvalidCommand | InvalidInstance:
    """A pydantic error as a refusal that names the first field and the reason."""
    first = error.errors(include_url=False, include_input=False)[0]
    parts = [str(part) for part in first["loc"] if part not in ("http", "tcp", "ttl")]
    reason = _FORMS.get(first.get("ctx", {}).get("pattern", ""), first["msg"].removeprefix("Value error, "))
    if command_type is service.RegisterInstance and parts[:1] == ["spec"]:
        field = ".".join(parts[1:]) or "spec"
        return InvalidInstance(f"{field}: {reason}", field=field)
    field = ".".join(parts) or "data"
    return InvalidCommand(f"{field}: {reason}", field=field)


@value
class Answer:
    """What became of a command.

    `position` is the place of its last event, or the head that the decision saw; `version` and `incarnation` are those
    of the instance. `error` is a problem: `{name, detail, status, …}`. `duplicate`: this is a repeat of an earlier answer.
    """

    id: str
    status: Literal["accepted", "unchanged", "refused"]
    partition: int
    position: int
    version: int | None = None
    incarnation: int | None = None
    error: dict[str, Any] | None = None
    duplicate: bool = False
