"""What all writes share: a request becomes a command in its envelope, and the writer's answer a reply.

A write answers once it is durable, with what became of it; a refusal is a problem.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import urandom
from typing import Any, Final

import orjson

from domain.catalogue import Answer, command_from
from muster.wire.command import Command, Envelope
from muster.wire.error import InvalidCommand, Timeout
from muster.wire.token import Positions, Token, format_token, merged, parse_token, without
from muster.wire.value import value
from workers.gateway import Gateway
from workers.http.exchange import Headers, Reply, Request, problem
from workers.rules import Check, refusal
from workers.views.views import Views
from workers.writer.published import actor_from, command_id, outcome, outcome_of_error, reason_from
from workers.writer.request import AnswerOrError

DUPLICATE: Final = (b"muster-duplicate", b"true")


@value
class Write:
    """A request to write, as its headers and its query have it: everything is judged before a command is given."""

    key: str
    actor: str | None
    reason: str | None
    expected_version: int | None
    known: Token
    seconds: float | None

    def envelope(self, stream: str, command: Command, reason: str | None = None) -> Envelope:
        """The command in its envelope; `reason` is what the body says, which counts before the header."""
        given = self.reason if reason is None else reason
        return Envelope(self.key, stream, command, self.actor or "anonymous", given, self.expected_version)


def write_of(request: Request, seconds: float | None = None) -> Write:
    """What the request's headers say, and its query (unless the caller has read it: `seconds`). Raises InvalidCommand."""
    key, actor, version = map(request.header, (b"idempotency-key", b"muster-actor", b"if-match"))
    carried = request.header(b"muster-token")
    # A caller with parameters of its own has read the query already; `reading` would refuse those.
    if seconds is None and request.scope["query_string"]:
        seconds = request.reading().timeout_seconds
    return Write(
        # Without a key the caller cannot repeat this command: the same request again is another one.
        urandom(16).hex() if key is None else _key(key),
        None if actor is None else actor_from(actor),
        reason_from(request.header(b"muster-reason")),
        None if version is None else _version(version),
        parse_token(carried) if carried else {},
        seconds,
    )


async def begun(
    request: Request, *, reasoned: bool = False, seconds: float | None = None, unjudged: str | None = None
) -> tuple[Write, dict[str, Any]]:
    """What the request says, and its body's fields; `reasoned`: a `reason` among them counts before the header's.
    `unjudged`: see `Request.fields`.
    """
    fields = await request.fields(unjudged=unjudged)
    write = write_of(request, seconds)
    if reasoned and "reason" in fields:
        write = replace(write, reason=reason_from(fields.pop("reason")))
    return write, fields


async def give(
    gateway: Gateway,
    request: Request,
    stream: str,
    command: type[Command],
    in_path: Mapping[str, Any],
    *,
    reasoned: bool = False,
    seconds: float | None = None,
    check: Check = refusal,
) -> Reply:
    """Give the command whose fields are the body's, and those that the path names; reply with its answer. `seconds`: how
    long to wait, when the caller has read the query.
    """
    write, fields = await begun(request, reasoned=reasoned, seconds=seconds)
    for name in in_path:
        if name in fields:
            raise InvalidCommand(f"{name}: it stands in the path", field=name)
    found = command_from(command.type, {**fields, **in_path})
    answer = await execute(gateway, write.envelope(stream, found), write.seconds, check)
    return answered(answer, write.known, gateway.views)


async def execute(gateway: Gateway, envelope: Envelope, seconds: float | None, check: Check = refusal) -> Answer:
    """The writer's answer, waited for at most so long (None: as long as the writer lets it). Raises what the check refuses,
    and Timeout.
    """
    if seconds is None:
        return await gateway.execute(envelope, check)
    try:
        async with asyncio.timeout(seconds):
            return await gateway.execute(envelope, check)
    except TimeoutError:
        # Only the waiting is over: the writer may still record the command.
        raise Timeout(
            f"no answer within {seconds} s: the outcome is unknown; retry with the same Idempotency-Key",
            command_id=envelope.id,
        ) from None


def answered(answer: Answer, known: Token, views: Views, **more: Any) -> Reply:
    """The writer's answer as a reply. `known` is the token that the request brought: a client that only hands tokens on
    must not lose what it knew of other partitions, unless it is of another log. `more` stands beside the answer.
    """
    place = views.place(answer.partition, answer.position)
    token = f"{answer.partition}:{place}"
    if known:
        token = format_token(merged(without(known, views.strange(known)), {answer.partition: place}))
    headers: Headers = [(b"muster-token", token.encode())]
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
    return Reply(orjson.dumps({**body, **more} if more else body), 200, headers)


async def run_all(gateway: Gateway, found: Sequence[Envelope | dict[str, Any]]) -> list[dict[str, Any]]:
    """What became of the commands, in their order; what is an outcome already stays one."""
    envelopes = [one for one in found if isinstance(one, Envelope)]
    answers = iter(await gateway.execute_all(envelopes))
    return [one if isinstance(one, dict) else _outcome(gateway, one, next(answers)) for one in found]


def _outcome(gateway: Gateway, envelope: Envelope, answer: AnswerOrError) -> dict[str, Any]:
    if isinstance(answer, Answer):
        return outcome(answer)
    return outcome_of_error(answer, envelope.id, gateway.partition_of(envelope.stream))


def outcomes(items: list[dict[str, Any]], views: Views) -> Reply:
    """Outcomes in order, with a token that covers all of them."""
    heads: Positions = {}
    for item in items:
        # What no writer has answered has no position, and the token says nothing of it.
        if item["position"] is not None:
            heads[item["partition"]] = max(heads.get(item["partition"], 0), item["position"])
    token = {partition: views.place(partition, position) for partition, position in heads.items()}
    return Reply(orjson.dumps({"items": items}), 200, [(b"muster-token", format_token(token).encode())])


def _key(text: str) -> str:
    try:
        return command_id(text)
    except InvalidCommand as error:
        detail = error.detail.replace("id:", "Idempotency-Key:", 1)
        raise InvalidCommand(detail, field="Idempotency-Key") from None


def _version(text: str) -> int:
    # Proxies that compress answers make weak etags (W/) of ours, and callers send them back.
    digits = text.strip().removeprefix("W/").strip('"')
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 18):
        raise InvalidCommand('If-Match: must be a version, like "17"', field="If-Match")
    return int(digits)
