"""Commands as they travel: what is asked, by whom and why, and the same as JSON.

A command is known by its `type`, a stable name on every wire; see docs/asyncapi.yaml for all types and their data.
"""

import math
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Annotated, Any, ClassVar
from uuid import uuid4

import orjson
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from muster.wire.error import InvalidCommand
from muster.wire.stream import service_stream
from muster.wire.value import value

Whole = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
"""Numbers and truth values of commands are what JSON calls so: `true` is no 1, `"5"` is no 5, and `0` is not false."""


def _no_number(found: object) -> object:
    # Left to itself pydantic takes numbers, also as text, for seconds since 1970, and a day for its midnight.
    if isinstance(found, datetime) or (isinstance(found, str) and "T" in found.upper()):
        return found
    raise ValueError("an instant is text like 2026-01-31T03:05:00Z")


Instant = Annotated[AwareDatetime, BeforeValidator(_no_number)]
"""An instant of a command: text with a date, a time and an offset."""


class Command(BaseModel):
    """A wish: it is answered with events, with nothing (already so), or with a refusal. `type` is its stable name."""

    # pydantic would write an infinity as null, and so make another command of it.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
    type: ClassVar[str]


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


def new_id() -> str:
    """An id for a command."""
    return uuid4().hex


@value(kw_only=True)
class PublishedCommand:
    """A command by its type's name and its data, for callers without a class for it: what `/v1/commands` and the topic take.

    The controller judges both; a client that is older than the command can still publish it.
    """

    type: str
    stream: str
    data: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=new_id)
    actor: str = "anonymous"
    reason: str | None = None
    expected_version: int | None = None


def to_service(
    service: str,
    command: Command,
    *,
    id: str | None = None,
    actor: str = "anonymous",
    reason: str | None = None,
    expected_version: int | None = None,
) -> Envelope:
    """The command in its envelope, with an id of its own unless one is given."""
    return Envelope(id or new_id(), service_stream(service), command, actor, reason, expected_version)


def document_of(command: Envelope | PublishedCommand) -> dict[str, Any]:
    """`{id, type, stream, data, actor[, reason, expected_version]}`, for orjson; an envelope's `data` is JSON already."""
    if isinstance(command, Envelope):
        type_name = command.command.type
        data: object = orjson.Fragment(command.command.model_dump_json(warnings=False).encode())
    else:
        type_name, data = command.type, command.data
    document: dict[str, Any] = {
        "id": command.id,
        "type": type_name,
        "stream": command.stream,
        "data": data,
        "actor": command.actor,
    }
    if command.reason is not None:
        document["reason"] = command.reason
    if command.expected_version is not None:
        document["expected_version"] = command.expected_version
    return document


def encoded(body: object) -> bytes:
    """What is asked as JSON. Raises InvalidCommand for what JSON cannot say."""
    try:
        data = orjson.dumps(body)
    except TypeError as error:
        # A number beyond 64 bits, or a text that is no Unicode: the caller's own words, which nobody has judged yet.
        raise InvalidCommand(f"this cannot be said in JSON: {error}") from error
    # JSON has no word for NaN and infinity. As null they would mean "not given", and a lease of NaN seconds no lease.
    if b"null" in data and (field := _not_finite(body)):
        raise InvalidCommand(f"{field}: must be a finite number", field=field)
    return data


def _not_finite(body: object, path: str = "") -> str:
    """Where in the body the first number is that JSON has no word for; empty: there is none."""
    if isinstance(body, float):
        return "" if math.isfinite(body) else path or "body"
    parts = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list | tuple) else ()
    return next((found for name, part in parts if (found := _not_finite(part, f"{path}.{name}".strip(".")))), "")
