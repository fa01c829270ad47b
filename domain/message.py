"""Messages: what is asked (commands), what has happened (events), and the envelopes around them."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, StringConstraints

from muster.wire.value import value

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
"""A name in a stream or a path: 1 to 128 letters, digits, dots, dashes and underscores."""


class Message(BaseModel):
    """A frozen fact or wish. `type` is its stable name on the wire, never a Python path."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
    type: ClassVar[str]


class Command(Message):
    """A wish: `decide` answers it with events, with nothing (already so), or with a refusal."""


class Event(Message):
    """A fact, in the past tense. Its type ends in its revision (`.v1`); old revisions are upcast."""


E = TypeVar("E", bound=Event)
_FIELDS: Final[dict[type[Event], set[str]]] = {}
_set_dict, _set_names, _set_extra, _set_private = (
    BaseModel.__dict__[name].__set__
    for name in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)


def fact(event_type: type[E], fields: dict[str, Any]) -> E:
    """The event of all its fields, which are known to be valid and become its own; never for what comes from elsewhere.

    As `model_construct` builds it. Validating takes 3 to 4 µs, `model_construct` 8, this 0.5: a third of deciding a flip.
    """
    names = _FIELDS.get(event_type)
    if names is None:
        names = _FIELDS[event_type] = set(event_type.__pydantic_fields__)
    event = object.__new__(event_type)
    _set_dict(event, fields)
    _set_names(event, names)
    _set_extra(event, None)
    _set_private(event, None)
    return event


@value
class Envelope:
    """A command on its way: who asks for what, and why.

    `id` makes it idempotent; `stream` is the root stream that it is for (`service/orders`); `expected_version`
    is compared with the version of what the command is about (an instance's version).
    """

    id: str
    stream: str
    command: Command
    actor: str = "anonymous"
    reason: str | None = None
    expected_version: int | None = None
    correlation_id: str | None = None


class Recorded(NamedTuple):
    """An event with its place in history: where, when, who and why. A tuple: every event passes through one.

    `position` is the record's place in its partition, `version` that in its stream (both from 0 on);
    `at` is UTC; `command_id` names the command that caused it.
    """

    partition: int
    position: int
    stream: str
    version: int
    at: datetime
    event: Event
    id: str
    command_id: str
    correlation_id: str | None
    actor: str
    reason: str | None


def root(stream: str) -> str:
    """The root of a stream: `keyspace/users` of `keyspace/users/migration/17`; the unit of routing."""
    first, _, rest = stream.partition("/")
    return f"{first}/{rest.partition('/')[0]}" if rest else first
