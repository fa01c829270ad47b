"""What all writes share."""

from dataclasses import replace
from typing import TypeVar

from pydantic import TypeAdapter

from muster.client.transport import HttpReply, Transport
from muster.wire.command import new_id
from muster.wire.registry.answers import Written

W = TypeVar("W", bound=Written)


async def write(
    transport: Transport,
    answer: TypeAdapter[W],
    method: str,
    path: str,
    body: object | None,
    *,
    reason: str | None = None,
    expected_version: int | None = None,
    command_id: str | None = None,
) -> W:
    """Make the write and return its outcome; later reads through this transport see it."""
    reply = await transport.write(
        method, path, body, command_id=command_id or new_id(), reason=reason, expected_version=expected_version
    )
    return written_of(transport, answer, reply)


def written_of(transport: Transport, answer: TypeAdapter[W], reply: HttpReply) -> W:
    """The outcome of a write that was answered so; later reads through this transport see it."""
    written = answer.validate_json(reply.body)
    transport.observe(f"{written.partition}:{written.position}")
    duplicate = reply.headers.get("Muster-Duplicate") == "true"
    return replace(written, duplicate=True) if duplicate else written
