"""grpc.aio: `UsersStub(muster.BalancedChannel(users))`. A channel that sends each call to one of the balancer's instances.

    a stub's method ──▶ pick ──▶ the channel to that instance, one per address ──▶ its method

Generated stubs take it as they take any channel. A call of one message each way goes to another instance if it was surely not
sent, or if its method is named as `repeatable`; a stream stays where it began, and its length says nothing about the instance.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from types import TracebackType
from typing import Any, Final, Literal, Self, cast

import grpc

from muster.balance.attempt import Attempt
from muster.balance.balancer import Balancer
from muster.balance.hooks.grpc_call import BalancedCall, GrpcCall, finish
from muster.balance.hooks.priority import PRIORITY_KEY, priority_named, usual
from muster.balance.limit import Priority
from muster.client.channels import OPTIONS, Channels
from muster.wire.error import InvalidCommand

GRACE_SECONDS: Final = 10.0
"""So long the calls to an instance that has left may take to end."""

Shape = Literal["unary_unary", "unary_stream", "stream_unary", "stream_stream"]
GrpcMethod = Callable[..., Any]
"""A method on a channel, as a stub calls it: its messages are whatever its serializers take and give."""
Connect = Callable[[str], "grpc.aio.Channel"]


def insecure(address: str) -> "grpc.aio.Channel":
    """A channel to an address without TLS, which finds a server that was restarted soon."""
    return grpc.aio.insecure_channel(address, options=OPTIONS)


class BalancedChannel(grpc.aio.Channel):  # type: ignore[misc]  # grpc has no types
    """A channel of grpc.aio whose calls are spread over the balancer's instances.

    `connect` makes the channel to an address ("host:port"), for instance with credentials. `priority` is that of calls without
    the metadata `muster-priority`. `repeatable` names methods ("/shop.Users/Get") that may be done twice. Calls raise
    NoAvailableInstances and ResourceExhausted, else what gRPC raises. Closing it closes its connections, not the balancer.
    """

    def __init__(
        self,
        balancer: Balancer,
        *,
        connect: Connect = insecure,
        priority: Priority = "normal",
        repeatable: Collection[str] = (),
    ) -> None:
        self.balancer = balancer
        self.priority: Priority = usual(priority)
        # One name is a collection of letters too, and no method has these for a name.
        if isinstance(repeatable, str):
            raise InvalidCommand(f"repeatable: must be names of methods, like [{repeatable!r}]", field="repeatable")
        self.repeatable = frozenset(repeatable)
        self._connect = connect
        self._finishing: set[asyncio.Future[None]] = set()
        self._is_closed = False
        self._places = Channels(self._opened, GRACE_SECONDS)

    def unary_unary(self, method: str, *serializers: object, **more: object) -> Callable[..., BalancedCall]:
        """A method of one message each way."""
        return _Unary(self, _Method("unary_unary", method, serializers, more))

    def unary_stream(self, method: str, *serializers: object, **more: object) -> GrpcMethod:
        """A method that answers with a stream."""
        return _Streaming(self, _Method("unary_stream", method, serializers, more))

    def stream_unary(self, method: str, *serializers: object, **more: object) -> GrpcMethod:
        """A method that is sent a stream."""
        return _Streaming(self, _Method("stream_unary", method, serializers, more))

    def stream_stream(self, method: str, *serializers: object, **more: object) -> GrpcMethod:
        """A method with a stream each way."""
        return _Streaming(self, _Method("stream_stream", method, serializers, more))

    def at(self, attempt: Attempt, method: "_Method") -> GrpcMethod:
        """The method at the attempt's instance."""
        # Else it would open connections again, which nobody closes any more.
        if self._is_closed:
            raise grpc.aio.UsageError("Channel is closed.")
        return self._places.at(attempt.instance.endpoint).method(method)

    @property
    def addresses(self) -> frozenset[str]:
        """The addresses to which there is a connection."""
        return self._places.addresses

    def finish(self, call: GrpcCall, attempt: Attempt) -> None:
        """A call with a stream is done."""
        # Held, since the event loop itself keeps no hold of its tasks.
        finishing = asyncio.ensure_future(finish(call, attempt))
        self._finishing.add(finishing)
        finishing.add_done_callback(self._finishing.discard)

    def _opened(self, address: str) -> "_Place":
        # A new address is the moment to see which ones are there no more.
        self._places.keep(self.balancer.endpoints)
        return _Place(self._connect(address))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Close the connections, behind their calls if these end within `grace` seconds. No call begins on it any more."""
        self._is_closed = True
        await self._places.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """READY while an instance can be called: connections are made when they are needed."""
        able = any(each.able for each in self.balancer.statistics.instances)
        return grpc.ChannelConnectivity.READY if able else grpc.ChannelConnectivity.TRANSIENT_FAILURE

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Not offered: the balancer knows of many connections, which come and go."""
        raise NotImplementedError("a balanced channel has no one state; see Balancer.statistics")

    async def channel_ready(self) -> None:
        """Nothing to wait for: the balancer was opened, so it knows the instances."""


class _Method:
    """A method of a service, as a stub asks for it. Compared by identity: a stub makes each of them once."""

    __slots__ = ("_more", "_serializers", "name", "shape")

    def __init__(self, shape: Shape, name: str, serializers: tuple[object, ...], more: dict[str, object]) -> None:
        self.shape, self.name, self._serializers, self._more = shape, name, serializers, more

    def on(self, channel: "grpc.aio.Channel") -> GrpcMethod:
        """The method on a channel to one instance."""
        made: GrpcMethod = getattr(channel, self.shape)(self.name, *self._serializers, **self._more)
        return made


class _Place:
    """The channel to one instance, and its methods, each of them made once."""

    def __init__(self, channel: "grpc.aio.Channel") -> None:
        self._channel = channel
        self._methods: dict[_Method, GrpcMethod] = {}

    def method(self, method: _Method) -> GrpcMethod:
        made = self._methods.get(method)
        if made is None:
            made = self._methods[method] = method.on(self._channel)
        return made

    async def close(self, grace: float | None = None) -> None:
        await self._channel.close(grace)


class _Unary:
    """A method of one message each way, called at an instance, and at another one if that is allowed."""

    def __init__(self, channel: BalancedChannel, method: _Method) -> None:
        self._channel, self._method = channel, method
        self._repeatable = method.name in channel.repeatable

    def __call__(self, request: object, **options: object) -> BalancedCall:
        channel, method = self._channel, self._method
        return BalancedCall(
            channel.balancer,
            _priority(options, channel.priority),
            lambda attempt, left: channel.at(attempt, method)(request, **{**options, "timeout": left}),
            timeout_seconds=cast("float | None", options.get("timeout")),
            repeatable=self._repeatable,
        )


class _Streaming:
    """A method with a stream, called at one instance."""

    def __init__(self, channel: BalancedChannel, method: _Method) -> None:
        self._channel, self._method = channel, method

    def __call__(self, request: object = None, **options: object) -> GrpcCall:
        channel = self._channel
        attempt = channel.balancer.attempt(_priority(options, channel.priority), timed=False)
        try:
            call: GrpcCall = channel.at(attempt, self._method)(request, **options)
        except BaseException:
            attempt.record("cancelled")
            attempt.end()
            raise
        # It is under way until its stream has ended.
        call.add_done_callback(lambda done: channel.finish(done, attempt))
        return call


def _priority(options: dict[str, object], usual: Priority) -> Priority:
    metadata = options.get("metadata")
    if metadata is None:
        return usual
    # Read here, and by gRPC with each attempt, and some can be read but once.
    options["metadata"] = pairs = tuple(cast("Iterable[tuple[str, object]]", metadata))
    for key, value in pairs:
        if key == PRIORITY_KEY:
            return priority_named(value, PRIORITY_KEY)
    return usual
