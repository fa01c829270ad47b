"""A partition seen from a controller that does not write it: commands and proofs go to the controller that does, over HTTP."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final

import aiohttp
import orjson

from domain.catalogue import Answer
from muster.wire.command import Envelope
from muster.wire.error import MusterError, NotReady, Timeout
from muster.wire.problem import error_from
from workers.peers.members import Members
from workers.writer.request import AnswerOrError
from workers.writer.writer import Writer

_JSON: Final = {"Content-Type": "application/json"}


class Forwarding:
    """An `Executor` for one partition: this controller's writer while it owns the partition, else the owner's."""

    def __init__(self, writer: Writer, members: Members, session: "Peers") -> None:
        self._writer = writer
        self._members = members
        self._peers = session

    def submit(self, envelope: Envelope) -> Awaitable[Answer]:
        """See `workers.gateway.Executor.submit`. Commands to a peer keep their order only if the network keeps it."""
        url = self._elsewhere()
        return (
            self._writer.submit(envelope) if url is None else asyncio.ensure_future(self._peers.execute(url, envelope))
        )

    def submit_all(self, envelopes: Sequence[Envelope]) -> Awaitable[list[AnswerOrError]]:
        """See `workers.gateway.Executor.submit_all`; about their order see `submit`."""
        url = self._elsewhere()
        if url is None:
            return self._writer.submit_all(envelopes)
        return asyncio.gather(*(self._peers.reply(url, envelope) for envelope in envelopes))

    async def prove(self) -> int:
        """See `workers.gateway.Executor.prove`."""
        url = self._elsewhere()
        return await (self._writer.prove() if url is None else self._peers.prove(url, self._writer.number))

    def knows(self, id_: str) -> bool:
        """See `workers.gateway.Executor.knows`. Every controller reads the ids in the log, also one that does not write it."""
        return self._writer.knows(id_)

    def _elsewhere(self) -> str | None:
        owner = self._members.owner(self._writer.number)
        return None if owner is None or owner == self._members.self_ else owner.url


class Peers:
    """HTTP to other controllers. Use as an async context manager."""

    def __init__(self, timeout_seconds: float = 12.0) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, connect=1.0)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "Peers":
        self._session = aiohttp.ClientSession(timeout=self._timeout, trust_env=False)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def execute(self, url: str, envelope: Envelope) -> Answer:
        """The peer's answer. Raises what the peer raised, NotReady when it is away, Timeout when the outcome is unknown."""
        command = {
            "id": envelope.id,
            "type": envelope.command.type,
            "stream": envelope.stream,
            "data": envelope.command.model_dump(mode="json", by_alias=True),
            "actor": envelope.actor,
            "reason": envelope.reason,
            "expected_version": envelope.expected_version,
        }
        answer = await self._post(f"{url}/v1/peer/execute", orjson.dumps(command))
        return Answer(**answer)

    async def reply(self, url: str, envelope: Envelope) -> AnswerOrError:
        """The peer's answer, or the error that `execute` raises."""
        try:
            return await self.execute(url, envelope)
        except MusterError as error:
            return error

    async def prove(self, url: str, partition: int) -> int:
        """The peer's proven head of the partition."""
        answer = await self._post(f"{url}/v1/peer/prove/{partition}", b"")
        return int(answer["position"])

    async def _post(self, url: str, body: bytes) -> dict:  # type: ignore[type-arg]
        assert self._session is not None, "enter Peers before it is used"
        try:
            # A peer sends nobody elsewhere: a redirect is another server's, and is not followed with a command in hand.
            async with self._session.post(url, data=body, headers=_JSON, allow_redirects=False) as response:
                answer = orjson.loads(await response.read())
        # Without a connection nothing was sent, so it may safely go elsewhere; after that, the outcome is unknown.
        except aiohttp.ClientConnectorError as error:
            raise NotReady(f"the controller at {url} is away: {error}; retry") from None
        except (TimeoutError, aiohttp.ClientError, orjson.JSONDecodeError) as error:
            raise Timeout(f"no answer from the controller at {url}: {error}; retry with the same id") from None
        if response.status != 200:
            # What the peer says with a name unknown here may be over when both have the same version.
            raise error_from(answer, unknown=NotReady)
        return answer  # type: ignore[no-any-return]
