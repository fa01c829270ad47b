"""Data nodes that hold their shards in dicts, and are honest about epochs, fences and write ids. Real gRPC servers."""

# ruff: noqa: N802 (the methods are named in the service's definition)
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import orjson

from muster.wire.error import DataUnavailable, MusterError, NotOwner, ShardNotFound, StaleEpoch
from muster.wire.problem import facts_of, status_of
from muster.wire.rpc import node_pb2
from muster.wire.rpc.node_pb2_grpc import ShardNodeServicer, add_ShardNodeServicer_to_server

STATUS = {
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    503: grpc.StatusCode.UNAVAILABLE,
}


@dataclass
class Copy:
    """A shard as a node has it: hidden, serving, fenced or retired."""

    state: str
    epoch: int
    owner: str
    address: str
    pairs: dict[str, bytes] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    position: int = 0


class Node(ShardNodeServicer):
    """`asked` lists what came, as (method, key, epoch, write id); `broken` errors answer the next requests
    instead; while `speaks` is cleared, none is answered, and `waiting` of them wait.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.address = ""
        self.copies: dict[int, Copy] = {}
        self.asked: list[tuple[str, str, int, str]] = []
        self.replies_to_lose = 0
        self.broken: list[MusterError] = []
        self.speaks = asyncio.Event()
        self.speaks.set()
        self.waiting = 0
        self.leased = True
        self.streams = 0
        self.scan_breaks_after: int | None = None
        self._server: Any = None

    async def start(self, address: str = "127.0.0.1:0") -> None:
        self._server = grpc.aio.server()
        add_ShardNodeServicer_to_server(self, self._server)
        port = self._server.add_insecure_port(address)
        self.address = f"127.0.0.1:{port}"
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(None)

    def open(self, shard: int, epoch: int = 1) -> None:
        self.copies[shard] = Copy("serving", epoch, self.name, self.address)

    def fence(self, shard: int) -> None:
        self.copies[shard].state = "fenced"

    def reclaim(self, shard: int) -> None:
        copy = self.copies[shard]
        copy.state, copy.epoch = "serving", copy.epoch + 1

    def hand_over(self, shard: int, target: "Node") -> None:
        """Commit, activate and retire: fenced here, served there."""
        copy = self.copies[shard]
        assert copy.state == "fenced", "a handover without a fence"
        target.copies[shard] = Copy(
            "serving", copy.epoch + 1, target.name, target.address, dict(copy.pairs), dict(copy.written), copy.position
        )
        self.copies[shard] = Copy("retired", copy.epoch + 1, target.name, target.address)

    async def Put(self, request: Any, context: Any) -> Any:
        return await self._answer("put", request, context, request.value)

    async def Delete(self, request: Any, context: Any) -> Any:
        return await self._answer("delete", request, context, None)

    async def Get(self, request: Any, context: Any) -> Any:
        return await self._answer("get", request, context, None)

    async def Scan(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.asked.append(("scan", request.after, request.epoch, ""))
        try:
            copy = self._serving(request)
        except MusterError as error:
            await refuse(context, error)
            raise
        for told, key in enumerate(sorted(key for key in copy.pairs if key > request.after)):
            if told == self.scan_breaks_after:
                self.scan_breaks_after = None
                await context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
            yield node_pb2.Pairs(pairs=[node_pb2.Pair(key=key, value=copy.pairs[key])])

    async def Batch(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        self.streams += 1
        async for message in requests:
            await self.speaks.wait()
            results = [self._result(operation) for operation in message.operations]
            if self.replies_to_lose:
                self.replies_to_lose -= 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
            yield node_pb2.Results(results=results)

    def _result(self, operation: Any) -> Any:
        kind = operation.WhichOneof("kind")
        request = getattr(operation, kind)
        try:
            answer = self._apply(kind, request, request.value if kind == "put" else None)
        except MusterError as error:
            return node_pb2.Result(problem=orjson.dumps(facts_of(error)).decode())
        return node_pb2.Result(found=answer) if kind == "get" else node_pb2.Result(written=answer)

    async def _answer(self, kind: str, request: Any, context: Any, value: bytes | None) -> Any:
        self.waiting += 1
        await self.speaks.wait()
        self.waiting -= 1
        try:
            answer = self._apply(kind, request, value)
        except MusterError as error:
            await refuse(context, error)
            raise
        if self.replies_to_lose and kind != "get":
            self.replies_to_lose -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        return answer

    def _apply(self, kind: str, request: Any, value: bytes | None) -> Any:
        write_id = "" if kind == "get" else request.write_id
        self.asked.append((kind, request.key, request.epoch, write_id))
        if self.broken:
            raise self.broken.pop(0)
        copy = self._serving(request)
        if kind == "get":
            found = copy.pairs.get(request.key)
            return node_pb2.Found(found=found is not None, value=found or b"", epoch=copy.epoch)
        if write_id in copy.written:
            return node_pb2.Written(position=copy.written[write_id], epoch=copy.epoch, duplicate=True)
        copy.position += 1
        if value is None:
            copy.pairs.pop(request.key, None)
        else:
            copy.pairs[request.key] = value
        copy.written[write_id] = copy.position
        return node_pb2.Written(position=copy.position, epoch=copy.epoch)

    def _serving(self, request: Any) -> Copy:
        number = request.shard.number
        if not self.leased:
            raise DataUnavailable(f"the lease of {self.name} is over")
        copy = self.copies.get(number)
        if copy is None:
            raise ShardNotFound(f"{self.name} has no shard {number}")
        facts = {"epoch": copy.epoch, "owner": copy.owner, "address": copy.address}
        if copy.state == "retired":
            raise NotOwner(f"{copy.owner} serves shard {number}", **facts)
        if request.epoch and request.epoch < copy.epoch:
            raise StaleEpoch(f"shard {number} is at epoch {copy.epoch}", **facts)
        if copy.state != "serving" or request.epoch > copy.epoch:
            raise DataUnavailable(f"shard {number} is {copy.state} at epoch {copy.epoch}", epoch=copy.epoch)
        return copy


async def refuse(context: Any, error: MusterError) -> None:
    facts = orjson.dumps(facts_of(error)).decode()
    await context.abort(
        STATUS.get(status_of(type(error)), grpc.StatusCode.UNKNOWN),
        error.name,
        trailing_metadata=(("muster-problem", facts),),
    )


@asynccontextmanager
async def nodes(count: int, shards: int = 0) -> AsyncIterator[list[Node]]:
    """Nodes n1, n2, …; the first serves all the shards."""
    told = [Node(f"n{number}") for number in range(1, count + 1)]
    for node in told:
        await node.start()
    for shard in range(shards):
        told[0].open(shard)
    try:
        yield told
    finally:
        for node in told:
            node.speaks.set()
            await node.stop()
