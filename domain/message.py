"""What has happened: events, and their place in history. What is asked for: `muster.wire.command`."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Generic, NamedTuple, dataclass_transform

from pydantic import ConfigDict, StringConstraints, TypeAdapter
from typing_extensions import TypeVar

Text = Annotated[str, StringConstraints(max_length=1024)]

T = TypeVar("T")
E = TypeVar("E", bound="Event")
E_co = TypeVar("E_co", bound="Event", covariant=True, default="Event")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def event(cls: type[T]) -> type[T]:
    """An event's class: frozen, with slots, made by the names of its fields. Making one validates nothing."""
    return dataclass(frozen=True, slots=True, kw_only=True)(cls)


class Event:
    """A fact, in the past tense. `type` is its stable name on the wire, never a Python path; it ends in its revision
    (`.v1`). Old revisions are upcast by the class: `upcast_v1_v2(data)`, a static method.
    """

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid",
        ser_json_inf_nan="constants",
        # `from` is a word of Python: such a field has another name in the class, and this one on the wire.
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )
    type: ClassVar[str]


_SCHEMAS: Final[dict[type, TypeAdapter[Any]]] = {}


def schema_of(event_type: type[E]) -> TypeAdapter[E]:
    """Validates and serialises events of this type. Made when it is first needed: an import would make dozens."""
    schema = _SCHEMAS.get(event_type)
    if schema is None:
        schema = _SCHEMAS[event_type] = TypeAdapter(event_type)
    return schema


def from_plain(event_type: type[E], data: object) -> E:
    """The event of this type whose data these plain JSON values are. Raises pydantic's ValidationError."""
    # By the validator itself, as `to_json` goes to the serializer: the adapter around it costs a quarter more.
    event: E = schema_of(event_type).validator.validate_python(data)
    return event


def to_json(event: Event) -> bytes:
    """The event's data as JSON, as it stands in the log."""
    return schema_of(type(event)).serializer.to_json(event)


def to_plain(event: Event) -> dict[str, Any]:
    """The event's data as plain JSON values."""
    plain: dict[str, Any] = schema_of(type(event)).dump_python(event, mode="json")
    return plain


class Recorded(NamedTuple, Generic[E_co]):
    """An event with its place in history: where, when, who and why. A tuple: every event passes through one.

    `position` is the record's place in its partition, `version` that in its stream (both from 0 on);
    `at` is UTC; `command_id` names the command that caused it.
    """

    partition: int
    position: int
    stream: str
    version: int
    at: datetime
    event: E_co
    id: str
    command_id: str
    correlation_id: str | None
    actor: str
    reason: str | None


def foreseen(stream: str, version: int, event: E) -> Recorded[E]:
    """The event as if it were recorded, to look ahead within one decision. Its place, instant and actor are not known yet."""
    # No record can have these values. States that are kept never see them: they fold the event once more, as recorded.
    return Recorded(-1, -1, stream, version, datetime.max.replace(tzinfo=UTC), event, "", "", None, "", None)
