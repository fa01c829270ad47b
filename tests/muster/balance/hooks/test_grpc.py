"""What `muster.BalancedChannel` has besides what all hooks have: stubs, the caller's time, streams, and its connections."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from muster import BalancedChannel, Balancer, Client, InvalidCommand, NoAvailableInstances
from muster.wire.rpc.node_pb2 import GetRequest
from muster.wire.rpc.node_pb2_grpc import ShardNodeStub
from tests.muster.balance.hooks.grpc_copies import COUNT, GET, SUM, GrpcCopy, grpc_copies
from tests.muster.balance.service import until


@pytest.fixture
async def three(url: str) -> AsyncIterator[list[GrpcCopy]]:
    async with grpc_copies(url, 3) as made:
        yield made


@pytest.fixture
async def channel(users: Balancer) -> AsyncIterator[BalancedChannel]:
    async with BalancedChannel(users, repeatable=[GET]) as channel:
        yield channel


async def test_a_stub_that_was_generated_takes_the_channel(three: list[GrpcCopy], channel: BalancedChannel) -> None:
    stub = ShardNodeStub(channel)  # type: ignore[no-untyped-call]  # generated
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Get(GetRequest())
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_what_a_call_tells_of_its_end_is_that_of_its_last_attempt(
    three: list[GrpcCopy], channel: BalancedChannel, users: Balancer
) -> None:
    for copy in three:
        copy.behaviour = "breaks off"
    call = channel.unary_unary(GET)(b"1")
    with pytest.raises(grpc.aio.AioRpcError) as last:
        await call
    assert await call.code() is grpc.StatusCode.UNAVAILABLE
    assert await call.details() == last.value.details() in {copy.name for copy in three if copy.asked}
    assert users.statistics.retries == 1


async def test_the_second_copy_has_what_is_left_of_the_caller_s_time(
    three: list[GrpcCopy], channel: BalancedChannel
) -> None:
    for server in three:
        server.held.clear()
        server.behaviour = "fails"
    call = channel.unary_unary(GET)(b"1", timeout=5)
    await until(lambda: any(server.left for server in three))
    [first] = [server for server in three if server.left]
    # Of this time the second one has nothing left.
    await asyncio.sleep(0.1)
    first.held.set()
    await until(lambda: sum(server.asked for server in three) == 2)
    [second] = [server for server in three if server.left and server is not first]
    assert second.left[0] < first.left[0] - 0.05
    call.cancel()


async def test_when_the_caller_s_time_is_up_the_call_ends(
    three: list[GrpcCopy], channel: BalancedChannel, users: Balancer
) -> None:
    for server in three:
        server.held.clear()
    call = channel.unary_unary(GET)(b"1", timeout=0.2)
    with pytest.raises(grpc.aio.AioRpcError) as late:
        await call
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: users.statistics.in_flight == 0)
    # No other one was asked for what it had no time for, nor looks as if it had failed.
    told = users.statistics
    assert (told.picks, told.failures, told.retries) == (1, 1, 0)


async def test_a_call_that_no_copy_answers_in_time_ends_as_grpc_has_it(url: str, three: list[GrpcCopy]) -> None:
    for server in three:
        server.held.clear()
    async with Balancer("users", url, timeout_seconds=0.1) as users, BalancedChannel(users) as channel:
        call = channel.unary_unary(GET)(b"1", timeout=60)
        with pytest.raises(grpc.aio.AioRpcError, match=r"users: no answer in 0\.1 s") as late:
            await call
        assert late.value.code() is await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await call.details() == late.value.details()


async def test_a_call_that_is_given_up_is_not_under_way_any_more(
    three: list[GrpcCopy], channel: BalancedChannel, users: Balancer
) -> None:
    for server in three:
        server.held.clear()
    call = channel.unary_unary(GET)(b"1")
    await until(lambda: any(server.asked for server in three))
    assert users.statistics.in_flight == 1
    assert call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert call.cancelled()
    await until(lambda: users.statistics.in_flight == 0)


async def test_a_call_that_is_cancelled_at_once_says_so(channel: BalancedChannel, users: Balancer) -> None:
    call = channel.unary_unary(GET)(b"1")
    assert call.cancel()
    assert await call.code() is grpc.StatusCode.CANCELLED
    assert "cancelled" in await call.details()
    assert len(await call.initial_metadata()) == len(await call.trailing_metadata()) == 0  # type: ignore[arg-type]
    await until(lambda: users.statistics.in_flight == 0)
    assert users.statistics.failures == 0


async def test_a_call_for_which_nobody_waits_is_made_and_repeated_like_any_other(
    three: list[GrpcCopy], channel: BalancedChannel, users: Balancer
) -> None:
    for copy in three:
        copy.behaviour = "breaks off"
    call, ended = channel.unary_unary(GET)(b"1"), list[object]()
    call.add_done_callback(ended.append)
    await until(call.done)
    assert sum(copy.asked for copy in three) == 2
    told = users.statistics
    assert (told.failures, told.in_flight) == (2, 0)
    with pytest.raises(grpc.aio.AioRpcError):
        await call
    assert ended == [call]


async def test_all_who_wait_for_a_call_are_given_its_answer(three: list[GrpcCopy], channel: BalancedChannel) -> None:
    call = channel.unary_unary(GET)(b"1")
    first, second = await asyncio.gather(call, call)
    assert first == second == await call
    assert await call.code() is grpc.StatusCode.OK
    assert [copy.name.encode() for copy in three if copy.asked] == [first]


async def test_who_gives_up_waiting_gives_up_the_call_for_all(
    three: list[GrpcCopy], channel: BalancedChannel, users: Balancer
) -> None:
    for server in three:
        server.held.clear()
    call = channel.unary_unary(GET)(b"1")
    waiting = [asyncio.ensure_future(call) for _ in range(2)]
    await until(lambda: any(server.asked for server in three))
    waiting[1].cancel()
    for each in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(each, asyncio.CancelledError)
    assert call.cancelled()
    await until(lambda: users.statistics.in_flight == 0)


async def test_a_copy_is_told_of_the_balancer_s_time(url: str, three: list[GrpcCopy]) -> None:
    async with Balancer("users", url, timeout_seconds=3.0) as users, BalancedChannel(users) as channel:
        await channel.unary_unary(GET)(b"1")
        await channel.unary_unary(GET)(b"2", timeout=60)
        await channel.unary_unary(GET)(b"3", timeout=1)
    in_time = sorted(left for copy in three for left in copy.left)
    # gRPC rounds them.
    assert in_time[0] < 1.5 < in_time[1] <= in_time[2] < 3.5


async def test_what_the_caller_has_got_wrong_is_no_failure_of_a_copy(channel: BalancedChannel, users: Balancer) -> None:
    with pytest.raises(TypeError, match="urgently"):
        await channel.unary_unary(GET)(b"1", urgently=True)
    with pytest.raises(TypeError, match="urgently"):
        channel.unary_stream(COUNT)(b"1", urgently=True)
    with pytest.raises(grpc.aio.BaseError):
        await channel.unary_unary(GET)(b"1", metadata=(("Upper", "v"),))
    told = users.statistics
    assert (told.failures, told.retries, told.in_flight) == (0, 0, 0)


async def test_metadata_that_can_be_read_once_reaches_all_copies_that_are_asked(
    three: list[GrpcCopy], channel: BalancedChannel
) -> None:
    for copy in three:
        copy.behaviour = "breaks off"
    with pytest.raises(grpc.aio.AioRpcError):
        await channel.unary_unary(GET)(b"1", metadata=(pair for pair in [("trace", "7"), ("muster-priority", "high")]))
    assert [told["trace"] for copy in three for told in copy.metadata] == ["7", "7"]


async def test_a_channel_that_is_closed_takes_no_call_and_connects_to_nobody(
    three: list[GrpcCopy], channel: BalancedChannel, users: Balancer
) -> None:
    await channel.unary_unary(GET)(b"1")
    await channel.close()
    with pytest.raises(grpc.aio.UsageError, match="closed"):
        await channel.unary_unary(GET)(b"2")
    with pytest.raises(grpc.aio.UsageError, match="closed"):
        channel.unary_stream(COUNT)(b"3")
    assert (channel.addresses, users.statistics.in_flight, users.statistics.failures) == (frozenset(), 0, 0)


async def test_methods_are_named_whole(users: Balancer) -> None:
    with pytest.raises(InvalidCommand, match="repeatable: "):
        BalancedChannel(users, repeatable=GET)


async def test_streams_are_under_way_until_they_end(
    three: list[GrpcCopy], channel: BalancedChannel, users: Balancer
) -> None:
    counted = [int(number) async for number in channel.unary_stream(COUNT)(b"3")]
    assert counted == [0, 1, 2]

    async def numbers() -> AsyncIterator[bytes]:
        for number in (1, 2, 3):
            yield str(number).encode()
            assert users.statistics.in_flight == 1

    await until(lambda: users.statistics.in_flight == 0)
    assert await channel.stream_unary(SUM)(numbers()) == b"6"
    await until(lambda: users.statistics.in_flight == 0)
    assert users.statistics.failures == 0


async def test_the_channel_to_a_copy_that_has_left_is_closed(
    three: list[GrpcCopy], channel: BalancedChannel, users: Balancer, url: str
) -> None:
    get = channel.unary_unary(GET)
    for _ in range(3):
        await get(b"1")
    assert len(channel.addresses) == 3
    newcomer = GrpcCopy("users-4")
    port = await newcomer.start()
    async with Client(url) as client:
        await client.deregister("users", "users-1")
        await client.register("users", "users-4", "127.0.0.1", port)
    async with asyncio.timeout(10):
        while await get(b"1") != b"users-4":  # noqa: ASYNC110 as above
            await asyncio.sleep(0.01)
    assert len(channel.addresses) == 3
    await newcomer.stop()


async def test_without_an_instance_it_is_an_error_of_muster_s(url: str) -> None:
    async with Balancer("nobody", url) as nobody, BalancedChannel(nobody) as channel:
        call = channel.unary_unary(GET)(b"1")
        with pytest.raises(NoAvailableInstances):
            await call
        with pytest.raises(NoAvailableInstances):
            await call.code()
        with pytest.raises(NoAvailableInstances):
            channel.unary_stream(COUNT)(b"1")
