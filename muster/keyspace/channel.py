"""Channels to data nodes, one for each address, closed when no shard is there any more; and gRPC's errors as ours."""

import asyncio
from collections.abc import Container, Mapping
from typing import Final

import grpc
import orjson
from grpc.aio import AioRpcError

from muster.wire.error import MusterError, Timeout, Unreachable
from muster.wire.problem import error_from
from muster.wire.rpc.node_pb2_grpc import ShardNodeStub
from muster.wire.rpc.problem import METADATA

_OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),  # the keyspace's limits are the limits
    ("grpc.max_receive_message_length", -1),
    # A node that was restarted is found again soon: the default waits up to two minutes between tries to connect.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # which is how long one try to connect may take
    ("grpc.use_local_subchannel_pool", 1),  # so that closing a channel closes its connection
    ("grpc.enable_retries", 0),  # we try again ourselves
    ("grpc.enable_http_proxy", 0),  # nodes are neighbours
)
# With these codes the connection may have broken after a write had been sent.
_BROKEN: Final = frozenset(
    (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED)
)
# How gRPC's details begin when there never was a connection.
_NEVER_SENT: Final = ("failed to connect", "connections to all backends failing", "dns resolution failed")


class NodeChannel:
    """The methods of the data node at an address, made once per channel: `await channel.put(request, timeout=…)`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        stub = ShardNodeStub(self._channel)  # type: ignore[no-untyped-call]  # generated
        self.put, self.get, self.delete = stub.Put, stub.Get, stub.Delete
        self.scan, self.batch = stub.Scan, stub.Batch

    async def close(self, grace_seconds: float | None = None) -> None:
        """Close the connection when its calls have ended, at most after `grace_seconds`; calls that are left are cut off."""
        await self._channel.close(grace_seconds)


class NodeChannels:
    """All open channels, by address."""

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._open: dict[str, NodeChannel] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def addresses(self) -> frozenset[str]:
        """The addresses of the open channels."""
        return frozenset(self._open)

    def at(self, address: str) -> NodeChannel:
        """The channel to the address; it connects when it is first used."""
        channel = self._open.get(address)
        if channel is None:
            channel = self._open[address] = NodeChannel(address)
        return channel

    def keep(self, addresses: Container[str]) -> None:
        """Close the channels to all others, once the calls on them have ended."""
        for address in [address for address in self._open if address not in addresses]:
            # Taken out of the open ones first: a call that begins now gets a new channel, not one that is closing.
            closing = asyncio.ensure_future(self._open.pop(address).close(self._grace_seconds))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all of them now."""
        for closing in self._closing:
            closing.cancel()
        channels, self._open = list(self._open.values()), {}
        await asyncio.gather(*(channel.close() for channel in channels), *self._closing, return_exceptions=True)


def error_of(error: AioRpcError | asyncio.CancelledError, address: str) -> MusterError:
    """Our error for gRPC's: the problem that the node sent; else Unreachable when nothing was sent, Timeout when a request
    may have arrived. A cancellation of the caller itself is raised again.
    """
    if isinstance(error, asyncio.CancelledError):
        # gRPC cancels the calls on a channel that is closed. Only the task itself knows whether it was cancelled as
        # well.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise error
        return Timeout(f"{address}: the channel was closed before the answer came", address=address)
    for name, value in error.trailing_metadata() or ():
        if name == METADATA:
            return problem_of(value)
    code, details = error.code(), error.details() or ""
    detail = f"{address}: {code.name}: {details}"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Timeout(f"{address} gave no answer in time", address=address)
    # Also a message that is too large for a node which has not heard yet of the shard that allows it: we have compared each
    # value with the keyspace's limit. What went before it on the stream may be written.
    if code in _BROKEN or code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # Unreachable promises that a write was not applied, so it is said only when there never was a connection.
        never_sent = code is grpc.StatusCode.UNAVAILABLE and details.lower().startswith(_NEVER_SENT)
        return (Unreachable if never_sent else Timeout)(detail, address=address)
    return MusterError(detail, address=address)


def problem_of(text: str | bytes) -> MusterError:
    """The error that `muster-problem`, or a result's problem, holds as JSON."""
    try:
        problem = orjson.loads(text)
    except orjson.JSONDecodeError:
        problem = None
    return error_from(problem) if isinstance(problem, Mapping) else MusterError(f"a problem that is none: {text!r}")
