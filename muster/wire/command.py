"""Commands as they stand on the wire."""

from typing import Any
from uuid import uuid4

import orjson

from domain.message import Command, Envelope
from domain.registry.service import KIND


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
    return Envelope(id or new_id(), f"{KIND}/{service}", command, actor, reason, expected_version)


def new_id() -> str:
    """An id for a command."""
    return uuid4().hex


def document_of(envelope: Envelope) -> dict[str, Any]:
    """`{id, type, stream, data, actor[, reason, expected_version]}`, for orjson; `data` is JSON already."""
    command = envelope.command
    document: dict[str, Any] = {
        "id": envelope.id,
        "type": command.type,
        "stream": envelope.stream,
        "data": orjson.Fragment(command.model_dump_json(warnings=False).encode()),
        "actor": envelope.actor,
    }
    if envelope.reason is not None:
        document["reason"] = envelope.reason
    if envelope.expected_version is not None:
        document["expected_version"] = envelope.expected_version
    return document
