"""gRPC channels by their addresses, closed when nothing is there any more; and the errors which say that nothing was sent."""

import asyncio
from collections.abc import Callable, Container
from typing import Final, Generic, Protocol, TypeVar

import grpc
from grpc.aio import AioRpcError

OPTIONS: Final = (
    # A server that was restarted is found again soon: the default waits up to two minutes between tries to connect.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # which is how long one try to connect may take
    ("grpc.use_local_subchannel_pool", 1),  # so that closing a channel closes its connection
    ("grpc.enable_retries", 0),  # we try again ourselves
    ("grpc.enable_http_proxy", 0),  # what is asked are neighbours
)
# How gRPC's details begin when there never was a connection.
_NEVER_SENT: Final = ("failed to connect", "connections to all backends failing", "dns resolution failed")


class Closable(Protocol):
    """A channel, or what holds one."""

    async def close(self, grace: float | None = None) -> None:
        """Close the connection when its calls have ended, at most after `grace` seconds; calls that are left are cut off."""


C = TypeVar("C", bound=Closable)


class Channels(Generic[C]):
    """All open channels, by address; `open_at` makes one, which connects when it is first used."""

    def __init__(self, open_at: Callable[[str], C], grace_seconds: float) -> None:
        self._open_at = open_at
        self._grace_seconds = grace_seconds
        self._open: dict[str, C] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def addresses(self) -> frozenset[str]:
        """The addresses of the open channels."""
        return frozenset(self._open)

    def at(self, address: str) -> C:
        """The channel to the address."""
        channel = self._open.get(address)
        if channel is None:
            channel = self._open[address] = self._open_at(address)
        return channel

    def keep(self, addresses: Container[str]) -> None:
        """Close the channels to all others, once the calls on them have ended."""
        for address in [address for address in self._open if address not in addresses]:
            # Taken out of the open ones first: a call that begins now gets a new channel, not one that is closing.
            closing = asyncio.ensure_future(self._open.pop(address).close(self._grace_seconds))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def close(self, grace: float | None = None) -> None:
        """Close all of them, those that are closing already at once, the others after `grace` seconds at most."""
        for closing in self._closing:
            closing.cancel()
        channels, self._open = list(self._open.values()), {}
        await asyncio.gather(*(channel.close(grace) for channel in channels), *self._closing, return_exceptions=True)


def never_sent(error: AioRpcError) -> bool:
    """Whether there never was a connection, so that the call has certainly not arrived."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and (error.details() or "").lower().startswith(_NEVER_SENT)
