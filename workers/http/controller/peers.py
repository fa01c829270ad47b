"""What controllers ask of each other: to execute a command, or to prove a reign, where the partition is written.

Only peers may ask it: they have the cluster's key, and prove it with each request. Each answer is proven, too.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Final

import orjson

from domain.catalogue import Answer
from muster.wire.command import Envelope
from muster.wire.error import InvalidCommand, MusterError, NotReady
from muster.wire.problem import facts_of
from muster.wire.route import partition_of
from muster.wire.stream import service_stream
from muster.wire.telemetry.heartbeats import judged
from muster.wire.telemetry.observations import Observations, observations_of
from workers.http.exchange import JSON_OPTIONS, Reply, Request, problem, problem_of
from workers.http.routing import Handler, Route
from workers.peers.credentials import PROOF_HEADER, Credentials
from workers.peers.forwarding import EXECUTE, EXECUTE_ALL, HEAR, OBSERVE
from workers.writer.published import envelope_from, json_from
from workers.writer.request import AnswerOrError
from workers.writer.writer import Writer

command_bytes_max: Final = 16_777_216
_HEADER: Final = PROOF_HEADER.encode()


def routes(
    writers: Mapping[int, Writer], credentials: Credentials, take: Callable[[Sequence[Observations]], int]
) -> tuple[Route, ...]:
    """The routes between controllers; they go to this controller's own writers and nowhere else, but for what clients saw, which
    `take` brings into its memory.
    """

    async def execute(_: Request, body: bytes) -> Reply:
        # Between controllers also those commands travel that only a controller gives itself.
        envelope = envelope_from(json_from(body), inside=True)
        answer = await writers[partition_of(envelope.stream, len(writers))].execute(envelope)
        return Reply(orjson.dumps(asdict(answer), option=JSON_OPTIONS))

    async def execute_all(_: Request, body: bytes) -> Reply:
        entries = json_from(body)
        if not isinstance(entries, list):
            raise InvalidCommand("the body must be a list of commands", field="body")
        found = [_envelope(entry) for entry in entries]
        envelopes = [one for one in found if isinstance(one, Envelope)]
        partitions = {partition_of(envelope.stream, len(writers)) for envelope in envelopes}
        # The sender knows the partition, since it asks who writes it; two in one list would have two orders.
        if len(partitions) > 1:
            raise InvalidCommand("the commands must be of one partition", field="body")
        replies = iter([reply for number in partitions for reply in await writers[number].submit_all(envelopes)])
        told = [_told(next(replies) if isinstance(one, Envelope) else one) for one in found]
        return Reply(orjson.dumps(told, option=JSON_OPTIONS))

    async def prove(request: Request, _: bytes) -> Reply:
        partition = request.number("partition")
        if partition not in writers:
            raise NotReady(f"partition {partition} is unknown here")
        return Reply(orjson.dumps({"position": await writers[partition].prove()}))

    return (
        Route("POST", EXECUTE, _of_peers(credentials, execute), documented=False),
        Route("POST", EXECUTE_ALL, _of_peers(credentials, execute_all), documented=False),
        Route("POST", HEAR, _of_peers(credentials, _hearing(writers)), documented=False),
        Route("POST", OBSERVE, _of_peers(credentials, _observing(take)), documented=False),
        Route("POST", "/v1/peer/prove/{partition}", _of_peers(credentials, prove), documented=False),
    )


def _hearing(writers: Mapping[int, Writer]) -> Callable[[Request, bytes], Awaitable[Reply]]:
    async def hear(_: Request, body: bytes) -> Reply:
        messages = [judged(message["agent"], message["service"], message["items"]) for message in json_from(body)]
        partitions = {partition_of(service_stream(message.service), len(writers)) for message in messages}
        # As of commands: the sender has asked who writes this one.
        if len(partitions) != 1:
            raise InvalidCommand("the heartbeats must be of one partition", field="body")
        heard = await writers[partitions.pop()].hear(messages)
        told = [[(instance, facts_of(refusal)) for instance, refusal in unheard] for unheard in heard]
        return Reply(orjson.dumps(told))

    return hear


def _observing(take: Callable[[Sequence[Observations]], int]) -> Callable[[Request, bytes], Awaitable[Reply]]:
    async def observe(_: Request, body: bytes) -> Reply:
        # Here the host is told: the peer has seen the address that the client came from.
        taken = take([observations_of(message) for message in json_from(body)])
        return Reply(orjson.dumps({"taken": taken}))

    return observe


def _envelope(entry: object) -> Envelope | MusterError:
    try:
        return envelope_from(entry, inside=True)
    except MusterError as error:
        # A command that only a newer controller knows: those beside it are decided all the same.
        return error


def _told(reply: AnswerOrError) -> dict[str, object]:
    return {"answer": asdict(reply)} if isinstance(reply, Answer) else {"error": facts_of(reply)}


def _of_peers(credentials: Credentials, handler: Callable[[Request, bytes], Awaitable[Reply]]) -> Handler:
    """Answers peers alone, with a proof."""

    async def proven(request: Request) -> Reply:
        said, method, path = request.header(_HEADER), request.scope["method"], request.scope["path"]
        # Before the body is read: nobody else may send one here.
        is_body = credentials.admitted(said, method, path)
        if is_body is None:
            return _not_a_peer("the request is not by a controller with this cluster's key, for this process, of now")
        body = await request.body(command_bytes_max)
        if not is_body(body):
            return _not_a_peer("the body is not the one that the controller has sent")
        try:
            reply = await handler(request, body)
        except MusterError as error:
            reply = problem_of(error)
        proof = credentials.answer(said or "", reply.status, reply.body)
        reply.headers.append((_HEADER, proof.encode()))
        return reply

    return proven


def _not_a_peer(detail: str) -> Reply:
    return problem({"name": "NotAPeer", "status": 403, "detail": detail})
