"""A partition seen from a controller that does not write it: commands and proofs go to the controller that does, over HTTP.

What a peer has answered is told only when it is proven, by the cluster's key, and when our own view of the log has come to
where the answer says that it stands. Until then its outcome is unknown.
"""

import asyncio
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import aiohttp
import orjson

from domain.catalogue import Answer
from domain.registry.service import Heartbeat
from muster.wire.command import Envelope, new_id
from muster.wire.error import MusterError, NotReady, Timeout
from muster.wire.problem import error_from
from muster.wire.stream import service_stream
from muster.wire.telemetry import observations
from muster.wire.telemetry.heartbeats import Heartbeats, document_of
from muster.wire.telemetry.observations import Observations
from workers.machine.group import Unheard
from workers.peers.credentials import PROOF_HEADER, Credentials
from workers.peers.members import Member, Members
from workers.peers.strangers import Strangers
from workers.views.views import Views
from workers.writer.beat_queue import Heard
from workers.writer.request import AnswerOrError, answer_of
from workers.writer.writer import Writer

confirm_seconds_max: Final = 5.0
forward_bytes_max: Final = 1_048_576
"""So much of a list of commands is in one request to a peer; a command that is larger goes alone."""
EXECUTE: Final = "/v1/peer/execute"
EXECUTE_ALL: Final = "/v1/peer/execute-all"
HEAR: Final = "/v1/peer/hear"
OBSERVE: Final = "/v1/peer/observe"
_JSON: Final = {"Content-Type": "application/json"}


class Forwarding:
    """An `Executor` for one partition: this controller's writer while it owns the partition, else the owner's."""

    def __init__(self, writer: Writer, members: Members, strangers: Strangers, peers: "Peers", views: Views) -> None:
        self._writer = writer
        self._members, self._strangers = members, strangers
        self._peers = peers
        self._views = views

    def submit(self, envelope: Envelope) -> Awaitable[Answer]:
        """See `workers.gateway.Executor.submit`. Commands to a peer keep their order only if the network keeps it."""
        peer = self._elsewhere()
        return self._writer.submit(envelope) if peer is None else asyncio.ensure_future(self._ask(peer, envelope))

    def submit_all(self, envelopes: Sequence[Envelope]) -> Awaitable[list[AnswerOrError]]:
        """See `workers.gateway.Executor.submit_all`; about their order see `submit`."""
        peer = self._elsewhere()
        if peer is None:
            return self._writer.submit_all(envelopes)
        return asyncio.ensure_future(self._ask_all(peer, envelopes))

    def hear(self, messages: Sequence[Heartbeats]) -> Awaitable[Heard]:
        """See `workers.gateway.Executor.hear`."""
        peer = self._elsewhere()
        return self._writer.hear(messages) if peer is None else self._peers.hear(peer, messages)

    async def prove(self) -> int:
        """See `workers.gateway.Executor.prove`."""
        peer = self._elsewhere()
        return await (self._writer.prove() if peer is None else self._peers.prove(peer, self._writer.number))

    def knows(self, id_: str) -> bool:
        """See `workers.gateway.Executor.knows`. Every controller reads the ids in the log, also one that does not write it."""
        return self._writer.knows(id_)

    def _elsewhere(self) -> Member | None:
        owner = self._members.owner(self._writer.number)
        if owner == self._members.self_:
            held = self._strangers.hold(self._writer.number, self._writer.partition.cursor.writer)
            if held is not None:
                raise NotReady(f"partition {self._writer.number} is not written here: {held}")
            return None
        return owner

    async def _ask(self, peer: Member, envelope: Envelope) -> Answer:
        answer = await self._peers.execute(peer, envelope)
        await self._confirm(peer, answer)
        return answer

    async def _ask_all(self, peer: Member, envelopes: Sequence[Envelope]) -> list[AnswerOrError]:
        replies = await self._peers.execute_all(peer, envelopes)
        # One wait for all: those that our view has come to are told, although others may never be.
        positions = [reply.position for reply in replies if isinstance(reply, Answer)]
        with suppress(Timeout):
            await self._views.reach({self._writer.number: max(positions, default=0)}, confirm_seconds_max)
        return [self._judged(peer, reply) if isinstance(reply, Answer) else reply for reply in replies]

    async def _confirm(self, peer: Member, answer: Answer) -> None:
        """Return once our own view has come to what the peer says. Raises Timeout when it does not, or holds something else."""
        with suppress(Timeout):
            await self._views.reach({self._writer.number: answer.position}, confirm_seconds_max)
        answer_of(self._judged(peer, answer))

    def _judged(self, peer: Member, answer: Answer) -> AnswerOrError:
        """The peer's answer as our own view of the log, as it is now, allows it to be told."""
        number = self._writer.number
        if not self._views.has_reached({number: answer.position}):
            seen = f"this controller has not read position {answer.position} of partition {number} yet"
            return _unconfirmed(peer, answer, seen)
        # An old id may have left our memory and not the peer's; what was accepted just now has to be in it.
        if answer.status == "accepted" and not answer.duplicate and not self._writer.knows(answer.id):
            return _unconfirmed(peer, answer, f"the log of partition {number} does not have it")
        return answer


def _unconfirmed(peer: Member, answer: Answer, seen: str) -> Timeout:
    said = f"{peer.name} says that the command is {answer.status}, and {seen}"
    return Timeout(f"{said}: its outcome is not known; retry with the same id")


class Peers:
    """HTTP to other controllers. Use as an async context manager."""

    def __init__(self, credentials: Credentials, timeout_seconds: float = 12.0) -> None:
        self._credentials = credentials
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, connect=1.0)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Peers":
        self._session = aiohttp.ClientSession(timeout=self._timeout, trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def execute(self, peer: Member, envelope: Envelope) -> Answer:
        """The peer's answer. Raises what the peer raised, NotReady when it is away, Timeout when the outcome is unknown."""
        answer = await self._post(peer, EXECUTE, _document(envelope))
        return Answer(**orjson.loads(answer))

    async def execute_all(self, peer: Member, envelopes: Sequence[Envelope]) -> list[AnswerOrError]:
        """The peer's replies to commands to one partition, in their order. Raises nothing that `execute` would."""
        lists = list(_lists([_document(envelope) for envelope in envelopes]))
        return [reply for some in await asyncio.gather(*(self._replies(peer, one) for one in lists)) for reply in some]

    async def _replies(self, peer: Member, documents: Sequence[bytes]) -> list[AnswerOrError]:
        try:
            said = await self._said(peer, EXECUTE_ALL, b"[%b]" % b",".join(documents))
            if said.status == 404 and not said.proven:
                # A peer of before there was this route: it takes the same commands one by one.
                return await asyncio.gather(*(self._reply(peer, document) for document in documents))
            replies = orjson.loads(_proven(peer, said))
        except MusterError as error:
            return [error] * len(documents)
        return [
            error_from(reply["error"], unknown=NotReady) if "error" in reply else Answer(**reply["answer"])
            for reply in replies
        ]

    async def _reply(self, peer: Member, document: bytes) -> AnswerOrError:
        try:
            return Answer(**orjson.loads(await self._post(peer, EXECUTE, document)))
        except MusterError as error:
            return error

    async def hear(self, peer: Member, messages: Sequence[Heartbeats]) -> Heard:
        """Who of each message was refused by the peer. Raises what the peer raised, NotReady and Timeout."""
        body = orjson.dumps([document_of(message) for message in messages])
        said = await self._said(peer, HEAR, body)
        if said.status == 404 and not said.proven:
            # A peer of before there was this route: no lease may run out while controllers are replaced one by one.
            return [await self._heard_singly(peer, message) for message in messages]
        told = orjson.loads(_proven(peer, said))
        return [[(instance, error_from(facts, unknown=NotReady)) for instance, facts in unheard] for unheard in told]

    async def _heard_singly(self, peer: Member, message: Heartbeats) -> list[Unheard]:
        stream = service_stream(message.service)
        given = [
            Envelope(new_id(), stream, Heartbeat(instance=name, incarnation=incarnation), message.agent)
            for name, incarnation, *_ in message.beats
        ]
        found = []
        for beat, reply in zip(message.beats, await self.execute_all(peer, given), strict=True):
            error = error_from(reply.error) if isinstance(reply, Answer) and reply.error is not None else reply
            if isinstance(error, MusterError):
                found.append((beat.instance, error))
        return found

    async def observe(self, peer: Member, messages: Sequence[Observations]) -> None:
        """Give the peer what clients saw. Raises what the peer raised, NotReady and Timeout."""
        body = orjson.dumps([observations.document_of(message) for message in messages])
        await self._post(peer, OBSERVE, body)

    async def prove(self, peer: Member, partition: int) -> int:
        """The peer's proven head of the partition."""
        answer = await self._post(peer, f"/v1/peer/prove/{partition}", b"")
        return int(orjson.loads(answer)["position"])

    async def _post(self, peer: Member, path: str, body: bytes) -> bytes:
        return _proven(peer, await self._said(peer, path, body))

    async def _said(self, peer: Member, path: str, body: bytes) -> "_Said":
        assert self._session is not None, "enter Peers before it is used"
        asked = self._credentials.request(peer.name, "POST", path, body)
        url, headers = f"{peer.url}{path}", {**_JSON, PROOF_HEADER: asked}
        try:
            # A peer sends nobody elsewhere: a redirect is another server's, and is not followed with a command in hand.
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                content = await response.read()
        # Without a connection nothing was sent, so it may safely go elsewhere; after that, the outcome is unknown.
        except aiohttp.ClientConnectorError as error:
            raise NotReady(f"the controller at {peer.url} is away: {error}; retry") from None
        except (TimeoutError, aiohttp.ClientError) as error:
            raise Timeout(f"no answer from the controller at {peer.url}: {error}; retry with the same id") from None
        proof = response.headers.get(PROOF_HEADER)
        proven = self._credentials.is_answer(proof, asked, response.status, content)
        return _Said(response.status, content, proven)


class _Said(NamedTuple):
    """What came back from a peer's address; `proven`: the peer has answered."""

    status: int
    content: bytes
    proven: bool


def _proven(peer: Member, said: _Said) -> bytes:
    """What the peer has answered. Raises what it raised, and Timeout if it may have been somebody else."""
    if not said.proven:
        detail = f"{said.status} from {peer.url} is not proven to be the answer of {peer.name}"
        raise Timeout(f"{detail}: the outcome is not known; retry with the same id")
    if said.status != 200:
        # What the peer says with a name unknown here may be over when both have the same version.
        raise error_from(orjson.loads(said.content), unknown=NotReady)
    return said.content


def _document(envelope: Envelope) -> bytes:
    command = {
        "id": envelope.id,
        "type": envelope.command.type,
        "stream": envelope.stream,
        "data": envelope.command.model_dump(mode="json", by_alias=True),
        "actor": envelope.actor,
        "reason": envelope.reason,
        "expected_version": envelope.expected_version,
    }
    return orjson.dumps(command)


def _lists(documents: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The documents in their order, in lists of at most `forward_bytes_max`."""
    some: list[bytes] = []
    size = 0
    for document in documents:
        if some and size + len(document) > forward_bytes_max:
            yield some
            some, size = [], 0
        some.append(document)
        size += len(document) + 1
    if some:
        yield some
