"""Channels to nodes: opened when needed, closed when no shard is there; and what gRPC's errors become."""

import asyncio
import socket

import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from muster.client.channels import Channels
from muster.client.transport import Transport
from muster.keyspace.channel import NodeChannel, error_of
from muster.keyspace.gate import Held
from muster.keyspace.router import ShardRouter
from muster.wire.error import MusterError, StaleEpoch, Timeout, Unreachable
from muster.wire.rpc import node_pb2
from tests.muster.keyspace.map_server import map_server, shard_item
from tests.muster.keyspace.shard_node import nodes
from tests.muster.keyspace.sharded import KEY, SHARDS, move, until, users


async def test_a_channel_is_closed_when_no_shard_is_at_its_address_any_more():
    router = ShardRouter("users", hold_seconds=5, attempt_seconds=1, held=Held(10, 1_000))
    async with nodes(2, 1) as (one, other), map_server(shard_item(0, one)) as server:
        transport = Transport(server.url, actor=None, timeout_seconds=5)
        await transport.open()
        await router.open(transport)
        one_, other_ = router.channels.at(one.address), router.channels.at(other.address)
        assert router.channels.at(one.address) is one_
        server.tell(shard_item(0, other, epoch=2))
        await until(lambda: router.channels.addresses == {other.address})
        assert router.channels.at(other.address) is other_
        await router.close()
        await transport.close()
    assert router.channels.addresses == frozenset()


async def test_a_call_on_a_channel_that_is_closed_meanwhile_is_answered():
    async with users() as (client, one, other, server):
        one.speaks.clear()
        reading = asyncio.create_task(client.get(KEY))
        await asyncio.sleep(0.05)
        for shard in range(SHARDS):
            move(shard, one, other)
        server.tell(*(shard_item(shard, other, epoch=2) for shard in range(SHARDS)))
        await until(lambda: client.route(KEY).owner == "n2")
        await client.put(KEY, b"1")
        one.speaks.set()
        assert await reading == b"1"


async def test_a_call_that_outlives_its_channel_is_cut_off_and_tried_elsewhere():
    channels = Channels(NodeChannel, grace_seconds=0.01)
    async with nodes(1, 1) as (one,):
        one.speaks.clear()
        shard = node_pb2.Shard(keyspace="users", number=0)
        call = channels.at(one.address).get(node_pb2.GetRequest(shard=shard, key=KEY), timeout=5)
        channels.keep(())
        with pytest.raises(asyncio.CancelledError) as caught:
            await call
        assert isinstance(error_of(caught.value, one.address), Timeout)
        await channels.close()


async def test_where_nobody_listens_it_is_unreachable_and_nothing_was_sent():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    channels = Channels(NodeChannel, grace_seconds=1)
    with pytest.raises(AioRpcError) as caught:
        await channels.at(address).get(node_pb2.GetRequest(), timeout=5)
    assert isinstance(error_of(caught.value, address), Unreachable)
    await channels.close()


def test_errors_are_those_that_the_node_names():
    problem = '{"name":"StaleEpoch","detail":"at 7","status":409,"epoch":7,"owner":"n2","address":"h:1"}'
    told = error(grpc.StatusCode.FAILED_PRECONDITION, "", problem)
    assert isinstance(told, StaleEpoch)
    assert told.context == {"epoch": 7, "owner": "n2", "address": "h:1"}
    assert type(error(grpc.StatusCode.UNKNOWN, "", "no json")) is MusterError


@pytest.mark.parametrize(
    ("code", "details", "family"),
    [
        (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: refused", Unreachable),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", Timeout),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", Timeout),
        (grpc.StatusCode.UNKNOWN, "Stream removed", Timeout),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (5 vs. 4)", Timeout),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!", Timeout),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", MusterError),
    ],
)
def test_errors_of_grpc_itself_say_whether_a_write_may_have_been_done(
    code: grpc.StatusCode, details: str, family: type
):
    assert type(error(code, details)) is family


def error(code: grpc.StatusCode, details: str, problem: str | None = None) -> MusterError:
    trailing = Metadata(("muster-problem", problem)) if problem is not None else Metadata()
    return error_of(AioRpcError(code, Metadata(), trailing, details), "h:1")
