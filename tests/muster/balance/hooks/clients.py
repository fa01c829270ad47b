"""The clients with a hook, asked by the same words: who has answered a call, or that it has failed."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import aiohttp
import grpc
import httpx

from muster import BalancedChannel, BalancedTransport, Balancer, balanced
from tests.muster.balance.hooks.grpc_copies import GET, PUT


class CallFailed(Exception):
    """What the client has said of a call that has failed, or was answered with an error."""


Body = bytes | AsyncIterator[bytes]


class Call(Protocol):
    """One call through a client. Returns the name of the copy that has answered. `body` is put, over HTTP."""

    def __call__(
        self, id_: str = "1", *, repeatable: bool = True, priority: str = "", body: Body | None = None
    ) -> Awaitable[str]: ...


Opened = Callable[[Balancer], AbstractAsyncContextManager[Call]]


def _method(repeatable: bool, body: Body | None) -> str:
    return "PUT" if body is not None else "GET" if repeatable else "POST"


def _headers(id_: str, priority: str) -> dict[str, str]:
    return {"X-Id": id_, **({"Muster-Priority": priority} if priority else {})}


@asynccontextmanager
async def of_aiohttp(users: Balancer) -> AsyncIterator[Call]:
    async def call(id_: str = "1", *, repeatable: bool = True, priority: str = "", body: Body | None = None) -> str:
        method, headers = _method(repeatable, body), _headers(id_, priority)
        try:
            async with session.request(method, "/users/1", headers=headers, data=body) as answer:
                answer.raise_for_status()
                return await answer.text()
        except aiohttp.ClientError as error:
            raise CallFailed from error

    async with aiohttp.ClientSession(f"http://{users.service}", middlewares=(balanced(users),)) as session:
        yield call


@asynccontextmanager
async def of_httpx(users: Balancer) -> AsyncIterator[Call]:
    async def call(id_: str = "1", *, repeatable: bool = True, priority: str = "", body: Body | None = None) -> str:
        method, url = _method(repeatable, body), f"muster://{users.service}/users/1"
        try:
            answer = await client.request(method, url, headers=_headers(id_, priority), content=body)
            return answer.raise_for_status().text
        except httpx.HTTPError as error:
            raise CallFailed from error

    async with httpx.AsyncClient(mounts={"muster://": BalancedTransport(users)}) as client:
        yield call


@asynccontextmanager
async def of_grpc(users: Balancer) -> AsyncIterator[Call]:
    async def call(id_: str = "1", *, repeatable: bool = True, priority: str = "", body: Body | None = None) -> str:
        assert body is None, "it is for HTTP"
        metadata = [("muster-priority", priority)] if priority else None
        method = channel.unary_unary(GET if repeatable else PUT)
        try:
            answer = await method(id_.encode(), metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise CallFailed from error
        assert isinstance(answer, bytes)
        return answer.decode()

    async with BalancedChannel(users, repeatable=[GET]) as channel:
        yield call


CLIENTS: dict[str, Opened] = {"aiohttp": of_aiohttp, "httpx": of_httpx, "grpc": of_grpc}
