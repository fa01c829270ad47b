"""Copies of a service that answer over gRPC, registered at a real controller; how each of them behaves can be set."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc

from muster import Client
from tests.muster.balance.hooks.copies import Behaviour

GET, PUT, COUNT, SUM = (f"/shop.Users/{name}" for name in ("Get", "Put", "Count", "Sum"))
STATUSES: dict[Behaviour, grpc.StatusCode] = {
    "fails": grpc.StatusCode.INTERNAL,
    "breaks off": grpc.StatusCode.UNAVAILABLE,
    "overloaded": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "not found": grpc.StatusCode.NOT_FOUND,
}


class GrpcCopy:
    """One copy. `ids` counts the requests that it was sent, which are ids; `left` the seconds that each caller had left,
    `metadata` what it said beside its request.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.behaviour: Behaviour = "well"
        self.ids: Counter[str] = Counter()
        self.left: list[float] = []
        self.metadata: list[dict[str, str]] = []
        self.held = asyncio.Event()
        self.held.set()

    @property
    def asked(self) -> int:
        """How often it was asked."""
        return self.ids.total()

    async def start(self) -> int:
        methods = {
            "Get": grpc.unary_unary_rpc_method_handler(self._get),
            "Put": grpc.unary_unary_rpc_method_handler(self._get),
            "Count": grpc.unary_stream_rpc_method_handler(self._count),
            "Sum": grpc.stream_unary_rpc_method_handler(self._sum),
        }
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Users", methods),))
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return int(port)

    async def stop(self) -> None:
        await self._server.stop(None)

    async def _get(self, request: bytes, context: Any) -> bytes:
        self.ids[request.decode()] += 1
        self.left.append(context.time_remaining())
        self.metadata.append(dict(context.invocation_metadata()))
        await self.held.wait()
        if self.behaviour == "hangs":
            await asyncio.Event().wait()
        if self.behaviour in STATUSES:
            await context.abort(STATUSES[self.behaviour], self.name)
        return self.name.encode()

    async def _count(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield str(number).encode()

    async def _sum(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return str(sum([int(request) async for request in requests])).encode()


@asynccontextmanager
async def grpc_copies(url: str, count: int, service: str = "users") -> AsyncIterator[list[GrpcCopy]]:
    """So many copies, listening and registered."""
    made = [GrpcCopy(f"{service}-{number}") for number in range(1, count + 1)]
    async with AsyncExitStack() as stack, Client(url, actor="test") as client:
        for copy in made:
            port = await copy.start()
            stack.push_async_callback(copy.stop)
            await client.register(service, copy.name, "127.0.0.1", port)
        yield made
