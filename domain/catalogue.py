"""All aggregates, commands and events, as literal tables."""

from typing import Any, Final, Literal

from pydantic import ValidationError

from domain import saga
from domain.decider import Decider
from domain.groups import group
from domain.message import Event
from domain.registry import service, traffic
from domain.shards import cluster, keyspace
from muster.wire.command import Command
from muster.wire.error import InvalidCommand, InvalidInstance
from muster.wire.problem import field_chars_max, first_fault
from muster.wire.value import value

DECIDERS: Final[tuple[Decider[Any, Any, Any], ...]] = (
    service.DECIDER,
    keyspace.DECIDER,
    cluster.DECIDER,
    group.DECIDER,
    traffic.DECIDER,
    saga.DECIDER,
)
"""All aggregates."""

COMMANDS: Final[dict[str, type[Command]]] = {
    command.type: command for decider in DECIDERS for command in decider.commands
}
"""The commands that anyone may publish, by type."""

INTERNAL_COMMANDS: Final[dict[str, type[Command]]] = {
    command.type: command for decider in DECIDERS for command in decider.internal
}
"""The commands that a controller may give to another one, by type."""

# A writer's own commands are missing: nobody routes them, because it gives them to itself.
KIND_OF: Final[dict[str, str]] = {
    command.type: decider.stream for decider in DECIDERS for command in (*decider.commands, *decider.internal)
}
"""The kind of stream that a command is for, by type."""

EVENTS: Final[dict[str, type[Event]]] = {event.type: event for decider in DECIDERS for event in decider.events}
"""All events, by type."""


def command_from(type_name: str, data: object, *, inside: bool = False) -> Command:
    """The command of this type with this data; `inside`: also one that only controllers give.

    Raises InvalidCommand or InvalidInstance, with the field.
    """
    # A writer's own commands stand in neither table, so nobody can give one from outside.
    command_type = COMMANDS.get(type_name) or (INTERNAL_COMMANDS.get(type_name) if inside else None)
    if command_type is None:
        raise InvalidCommand(f"unknown command type {type_name[:field_chars_max]!r}", field="type")
    try:
        command: Command = command_type.__pydantic_validator__.validate_python(data)
        return command
    except ValidationError as error:
        raise refusal(error, command_type) from None


def command_from_json(type_name: str, data: bytes) -> Command:
    """As `command_from`, from JSON text."""
    command_type = COMMANDS.get(type_name)
    if command_type is None:
        raise InvalidCommand(f"unknown command type {type_name[:field_chars_max]!r}", field="type")
    try:
        return command_type.model_validate_json(data)
    except ValidationError as error:
        raise refusal(error, command_type) from None


def refusal(error: ValidationError, command_type: type[Command]) -> InvalidCommand | InvalidInstance:
    """A pydantic error as a refusal that names the first field and the reason."""
    field, reason = first_fault(error)
    # Callers write the spec and not the command around it, so fields are named from the spec on.
    if command_type is service.RegisterInstance and field.split(".")[0] == "spec":
        field = field.removeprefix("spec").removeprefix(".") or "spec"
        return InvalidInstance(f"{field}: {reason}", field=field)
    field = field or "data"
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
