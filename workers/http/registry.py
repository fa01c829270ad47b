"""Writes: one instance's commands, and batches of published commands. All of these routes are hot.

A write answers once it is durable, with what became of it; a refusal is a problem.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from os import urandom
from typing import Any, Final

import orjson

from domain.catalogue import Answer, command_from
from domain.error import InvalidCommand, MusterError, Timeout, TooLarge
from domain.message import Command, Envelope
from domain.service import (
    ClearMaintenance,
    DeregisterInstance,
    DrainInstance,
    Heartbeat,
    RegisterInstance,
    ReportHealth,
    SetMaintenance,
    UndrainInstance,
)
from workers.control import Control
from workers.http.exchange import Headers, Reply, Request, problem
from workers.token import Token, format_token, parse_token
from workers.wire import (
    actor_from,
    check_name,
    claimed_id,
    command_id,
    envelope_from,
    json_from,
    outcome,
    outcome_of_error,
    reason_from,
)

batch_commands_max: Final = 1_000
batch_bytes_max: Final = 16_777_216
DUPLICATE: Final = (b"muster-duplicate", b"true")


@dataclass(frozen=True, slots=True)
class Registry:
    """The writes of a controller."""

    control: Control

    async def register(self, request: Request) -> Reply:
        """`PUT` an instance: the body is its spec."""
        check_names(request)
        spec = await request.fields()
        return await self._execute(request, RegisterInstance.type, {"instance": request.instance, "spec": spec}, None)

    def write(self, command: type[Command], *, reasoned: bool = False) -> Callable[[Request], Awaitable[Reply]]:
        """The route of a command whose body is its own fields; `reasoned`: or `{reason}`."""

        async def run(request: Request) -> Reply:
            check_names(request)
            fields = await request.fields()
            if "instance" in fields:
                raise InvalidCommand("instance: it stands in the path", field="instance")
            reason = reason_from(fields.pop("reason", None)) if reasoned else None
            fields["instance"] = request.instance
            return await self._execute(request, command.type, fields, reason)

        return run

    async def _execute(self, request: Request, type_name: str, data: dict[str, Any], reason: str | None) -> Reply:
        command = command_from(type_name, data)
        key, actor, version = map(request.header, (b"idempotency-key", b"muster-actor", b"if-match"))
        envelope = Envelope(
            urandom(16).hex() if key is None else _key(key),
            f"service/{request.service}",
            command,
            "anonymous" if actor is None else actor_from(actor),
            reason_from(request.header(b"muster-reason")) if reason is None else reason,
            None if version is None else _version(version),
        )
        # Whatever is wrong with the request is found before the command is given, not after.
        carried = request.header(b"muster-token")
        known = parse_token(carried) if carried else {}
        if request.scope["query_string"]:
            return told(await self._bounded(envelope, request.reading().timeout_seconds), known)
        return told(await self.control.execute(envelope), known)

    async def _bounded(self, envelope: Envelope, seconds: float) -> Answer:
        try:
            async with asyncio.timeout(seconds):
                return await self.control.execute(envelope)
        except TimeoutError:
            raise Timeout(
                f"no answer within {seconds} s: the outcome is unknown; retry with the same Idempotency-Key",
                command_id=envelope.id,
            ) from None

    async def batch(self, request: Request) -> Reply:
        """`POST` commands: `{commands: […]}` or a bare list; all run at once, in order per partition."""
        entries = _commands(json_from(await request.body(batch_bytes_max)))
        parsed = [_parsed(entry) for entry in entries]
        # All are queued at their writers, in order, before the first one is waited for.
        asked = [self._submitted(found) if isinstance(found, Envelope) else found for found in parsed]
        outcomes = [
            await self._outcome(found, answer) if isinstance(found, Envelope) else found
            for found, answer in zip(parsed, asked, strict=True)
        ]
        token: dict[int, int] = {}
        for item in outcomes:
            if item["position"] is not None:
                token[item["partition"]] = max(item["position"], token.get(item["partition"], -1))
        return Reply(orjson.dumps({"items": outcomes}), 200, [(b"muster-token", format_token(token).encode())])

    def _submitted(self, envelope: Envelope) -> Awaitable[Answer] | MusterError:
        try:
            return self.control.submit(envelope)
        except MusterError as error:
            return error

    async def _outcome(self, envelope: Envelope, asked: Any) -> dict[str, Any]:
        try:
            if isinstance(asked, MusterError):
                raise asked
            return outcome(await asked)
        except MusterError as error:
            return outcome_of_error(error, envelope.id, self.control.partition_of(envelope.stream))


def _parsed(entry: object) -> Envelope | dict[str, Any]:
    """The command, or the outcome of a malformed one."""
    try:
        return envelope_from(entry)
    except MusterError as error:
        return outcome_of_error(error, claimed_id(entry), None)


def routes(control: Control) -> dict[tuple[str, str], Callable[[Request], Awaitable[Reply]]]:
    """The handlers of all writes, by resource and method."""
    registry = Registry(control)
    write = registry.write
    return {
        ("instance", "PUT"): registry.register,
        ("instance", "DELETE"): write(DeregisterInstance),
        ("health", "PUT"): write(ReportHealth),
        ("heartbeat", "POST"): write(Heartbeat),
        ("maintenance", "PUT"): write(SetMaintenance, reasoned=True),
        ("maintenance", "DELETE"): write(ClearMaintenance, reasoned=True),
        ("drain", "PUT"): write(DrainInstance, reasoned=True),
        ("drain", "DELETE"): write(UndrainInstance, reasoned=True),
        ("commands", "POST"): registry.batch,
    }


def told(answer: Answer, known: Token) -> Reply:
    """The writer's answer as a reply. `known` is the token that the request brought: who only hands tokens on must not
    lose what it knew of other partitions.
    """
    if known:
        known = known | {answer.partition: max(answer.position, known.get(answer.partition, -1))}
    token = format_token(known).encode() if known else b"%d:%d" % (answer.partition, answer.position)
    headers: Headers = [(b"muster-token", token)]
    if answer.version is not None:
        headers.append((b"etag", b'"%d"' % answer.version))
    if answer.duplicate:
        headers.append(DUPLICATE)
    if answer.error is not None:
        return problem(answer.error, headers)
    body = {
        "status": answer.status,
        "partition": answer.partition,
        "position": answer.position,
        "version": answer.version,
        "incarnation": answer.incarnation,
    }
    return Reply(orjson.dumps(body), 200, headers)


def check_names(request: Request) -> None:
    """Raises InvalidCommand when a name in the path is none."""
    check_name("service", request.service)
    check_name("instance", request.instance)


def _key(text: str) -> str:
    try:
        return command_id(text)
    except InvalidCommand:
        raise InvalidCommand(
            "Idempotency-Key: must be 1 to 200 visible ASCII characters", field="Idempotency-Key"
        ) from None


def _version(text: str) -> int:
    digits = text.strip().removeprefix("W/").strip('"')
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise InvalidCommand('If-Match: must be an instance\'s version, like "17"', field="If-Match")
    return int(digits)


def _commands(body: Any) -> list[object]:
    if isinstance(body, dict):
        if unknown := body.keys() - {"commands"}:
            raise InvalidCommand(f"{min(unknown)}: there is no such field here", field=min(unknown))
        body = body.get("commands")
    if not isinstance(body, list):
        raise InvalidCommand("commands: must be a list of commands", field="commands")
    if len(body) > batch_commands_max:
        raise TooLarge(
            f"a batch may have {batch_commands_max} commands, not {len(body)}", commands_max=batch_commands_max
        )
    return body
