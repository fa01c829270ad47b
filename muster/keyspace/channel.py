"""The channel to a data node, and gRPC's errors as ours."""

import asyncio
from collections.abc import Mapping
from typing import Final

import grpc
import orjson
from grpc.aio import AioRpcError

from muster.client.channels import OPTIONS, never_sent
from muster.wire.error import MusterError, Timeout, Unreachable
from muster.wire.problem import error_from
from muster.wire.rpc.node_pb2_grpc import ShardNodeStub
from muster.wire.rpc.problem import METADATA

_OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),  # the keyspace's limits are the limits
    ("grpc.max_receive_message_length", -1),
    *OPTIONS,
)
# With these codes the connection may have broken after a write had been sent.
_BROKEN: Final = frozenset(
    (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED)
)


class NodeChannel:
    """The methods of the data node at an address, made once per channel: `await channel.put(request, timeout=…)`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        stub = ShardNodeStub(self._channel)  # type: ignore[no-untyped-call]  # generated
        self.put, self.get, self.delete = stub.Put, stub.Get, stub.Delete
        self.scan, self.batch = stub.Scan, stub.Batch

    async def close(self, grace: float | None = None) -> None:
        """Close the connection when its calls have ended, at most after `grace` seconds; calls that are left are cut off."""
        await self._channel.close(grace)


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
        return (Unreachable if never_sent(error) else Timeout)(detail, address=address)
    return MusterError(detail, address=address)


def problem_of(text: str | bytes) -> MusterError:
    """The error that `muster-problem`, or a result's problem, holds as JSON."""
    try:
        problem = orjson.loads(text)
    except orjson.JSONDecodeError:
        problem = None
    return error_from(problem) if isinstance(problem, Mapping) else MusterError(f"a problem that is none: {text!r}")
