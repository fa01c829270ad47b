"""`muster.BalancedChannel`: stubs of grpc.aio whose calls go to the copies of a service, at a real controller."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from muster import BalancedChannel, Balancer, Client, NoAvailableInstances
from muster.wire.rpc.node_pb2 import GetRequest
from muster.wire.rpc.node_pb2_grpc import ShardNodeStub

GET, COUNT, SUM = "/shop.Users/Get", "/shop.Users/Count", "/shop.Users/Sum"


class Server:
    """A copy of the service; `fails_with` is what it answers all calls with, None: it answers them well."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.fails_with: grpc.StatusCode | None = None
        self.asked: list[bytes] = []
        self.left: list[float] = []
        self.held = asyncio.Event()
        self.held.set()

    async def start(self) -> int:
        methods = {
            "Get": grpc.unary_unary_rpc_method_handler(self._get),
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
        self.asked.append(request)
        self.left.append(context.time_remaining())
        await self.held.wait()
        if self.fails_with is not None:
            await context.abort(self.fails_with, self.name)
        return self.name.encode()

    async def _count(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            yield str(number).encode()

    async def _sum(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return str(sum([int(request) async for request in requests])).encode()


@pytest.fixture
async def three(url: str) -> AsyncIterator[list[Server]]:
    made = [Server(f"users-{number}") for number in (1, 2, 3)]
    async with AsyncExitStack() as stack, Client(url) as client:
        for server in made:
            port = await server.start()
            stack.push_async_callback(server.stop)
            await client.register("users", server.name, "127.0.0.1", port)
        yield made


@pytest.fixture
async def users(url: str, three: list[Server]) -> AsyncIterator[Balancer]:
    async with Balancer("users", url, policy="round_robin", eject_after=0, timeout_seconds=5) as users:
        yield users


@pytest.fixture
async def channel(users: Balancer) -> AsyncIterator[BalancedChannel]:
    async with BalancedChannel(users, repeatable=[GET]) as channel:
        yield channel


async def until_idle(users: Balancer) -> None:
    async with asyncio.timeout(10):
        while users.statistics.in_flight:  # noqa: ASYNC110 statistics set no event
            await asyncio.sleep(0.01)


async def test_calls_are_spread_over_the_copies(three: list[Server], channel: BalancedChannel, users: Balancer) -> None:
    get = channel.unary_unary(GET)
    assert Counter([await get(b"1") for _ in range(9)]) == {b"users-1": 3, b"users-2": 3, b"users-3": 3}
    assert users.statistics.in_flight == 0


async def test_a_stub_that_was_generated_takes_the_channel(three: list[Server], channel: BalancedChannel) -> None:
    stub = ShardNodeStub(channel)  # type: ignore[no-untyped-call]  # generated
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Get(GetRequest())
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_what_was_surely_not_sent_goes_to_another_copy(three: list[Server], users: Balancer) -> None:
    await three[0].stop()
    async with BalancedChannel(users) as channel:
        get = channel.unary_unary(GET)
        assert {await get(b"1", timeout=5) for _ in range(6)} == {b"users-2", b"users-3"}
    assert users.statistics.retries >= 1


async def test_what_may_be_repeated_is_when_a_copy_fails(
    three: list[Server], channel: BalancedChannel, users: Balancer
) -> None:
    three[0].fails_with = grpc.StatusCode.INTERNAL
    get = channel.unary_unary(GET)
    assert {await get(b"1") for _ in range(6)} == {b"users-2", b"users-3"}
    assert users.statistics.retries == len(three[0].asked) > 0


async def test_what_may_have_arrived_is_not_sent_twice(three: list[Server], users: Balancer) -> None:
    async with BalancedChannel(users) as channel:
        for server in three:
            server.fails_with = grpc.StatusCode.UNAVAILABLE
        call = channel.unary_unary(GET)(b"1")
        with pytest.raises(grpc.aio.AioRpcError):
            await call
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        assert await call.details() in {server.name for server in three}
    assert sum(len(server.asked) for server in three) == 1


async def test_not_found_says_nothing_against_the_copy(
    three: list[Server], channel: BalancedChannel, users: Balancer
) -> None:
    for server in three:
        server.fails_with = grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.aio.AioRpcError):
        await channel.unary_unary(GET)(b"1")
    assert users.statistics.failures == users.statistics.retries == 0


async def test_the_second_copy_has_what_is_left_of_the_caller_s_time(
    three: list[Server], channel: BalancedChannel
) -> None:
    for server in three:
        server.held.clear()
        server.fails_with = grpc.StatusCode.INTERNAL
    call = channel.unary_unary(GET)(b"1", timeout=5)
    async with asyncio.timeout(10):
        while not (first := [server for server in three if server.left]):  # noqa: ASYNC110 a server sets no event
            await asyncio.sleep(0.1)
    first[0].held.set()
    async with asyncio.timeout(10):
        while not (second := [server for server in three if server.left and server not in first]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    # The first one has taken at least the tenth of a second in which it was waited for.
    assert second[0].left[0] < first[0].left[0] - 0.05
    call.cancel()


async def test_when_the_caller_s_time_is_up_the_call_ends(
    three: list[Server], channel: BalancedChannel, users: Balancer
) -> None:
    for server in three:
        server.held.clear()
    call = channel.unary_unary(GET)(b"1", timeout=0.3)
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await call
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until_idle(users)


async def test_a_call_that_is_given_up_is_not_under_way_any_more(
    three: list[Server], channel: BalancedChannel, users: Balancer
) -> None:
    for server in three:
        server.held.clear()
    call = channel.unary_unary(GET)(b"1")
    async with asyncio.timeout(10):
        while not any(server.asked for server in three):  # noqa: ASYNC110 a server sets no event
            await asyncio.sleep(0.01)
    assert users.statistics.in_flight == 1
    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert call.cancelled()
    await until_idle(users)


async def test_streams_are_under_way_until_they_end(
    three: list[Server], channel: BalancedChannel, users: Balancer
) -> None:
    counted = [int(number) async for number in channel.unary_stream(COUNT)(b"3")]
    assert counted == [0, 1, 2]

    async def numbers() -> AsyncIterator[bytes]:
        for number in (1, 2, 3):
            yield str(number).encode()
            assert users.statistics.in_flight == 1

    await until_idle(users)
    assert await channel.stream_unary(SUM)(numbers()) == b"6"
    await until_idle(users)
    assert users.statistics.failures == 0


async def test_the_channel_to_a_copy_that_has_left_is_closed(
    three: list[Server], channel: BalancedChannel, users: Balancer, url: str
) -> None:
    get = channel.unary_unary(GET)
    for _ in range(3):
        await get(b"1")
    assert len(channel.addresses) == 3
    newcomer = Server("users-4")
    port = await newcomer.start()
    async with Client(url) as client:
        await client.deregister("users", "users-1")
        await client.register("users", "users-4", "127.0.0.1", port)
    async with asyncio.timeout(10):
        while await get(b"1") != b"users-4":  # noqa: ASYNC110 as above
            await asyncio.sleep(0.01)
    assert len(channel.addresses) == 3
    await newcomer.stop()


async def test_the_priority_of_one_call_is_in_its_metadata(channel: BalancedChannel) -> None:
    get = channel.unary_unary(GET)
    assert await get(b"1", metadata=[("muster-priority", "critical")])
    with pytest.raises(ValueError, match="muster-priority: 'urgent' is none of low, normal, high, critical"):
        get(b"1", metadata=[("muster-priority", "urgent")])


async def test_without_an_instance_it_is_an_error_of_muster_s(url: str) -> None:
    async with Balancer("nobody", url) as nobody, BalancedChannel(nobody) as channel:
        call = channel.unary_unary(GET)(b"1")
        with pytest.raises(NoAvailableInstances):
            await call
        with pytest.raises(NoAvailableInstances):
            await call.code()
        with pytest.raises(NoAvailableInstances):
            channel.unary_stream(COUNT)(b"1")
