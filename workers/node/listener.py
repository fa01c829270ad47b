"""Where a data node listens, with a bound on messages that grows with the values that its keyspaces allow.

gRPC fixes the bound when a server starts. So a larger one is a second server at the same port: it listens before the first one
ceases to, no call finds the port closed, and what was under way on the first one has time to end.
"""

import asyncio
import errno
import socket
from typing import Final

import grpc

from muster.wire.error import NotReady
from muster.wire.rpc import node_pb2_grpc

pending_requests_max: Final = 20_000
beside_value_bytes_max: Final = 1 << 20
least_value_bytes: Final = 1 << 20
"""Of a node whose keyspaces all allow less, or that has none: what one that is created without a limit allows."""
SERVER_OPTIONS: Final = (
    ("grpc.server.max_pending_requests", pending_requests_max),  # left alone, a burst of 1,000 calls is cut by chance
    ("grpc.server.max_pending_requests_hard_limit", 2 * pending_requests_max),
    ("grpc.max_connection_idle_ms", 600_000),  # clients that went without a word; others connect anew by themselves
    ("grpc.keepalive_time_ms", 60_000),  # and those whose host is gone
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.so_reuseport", 1),  # for the second server of this process; see `_check_free` for other processes
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),  # readers ping us to see that we live
)
stop_seconds_max: Final = 1.0


class Listener:
    """Serves `service` at `listen` (`host:port`, port 0: a free one) between `start` and `close`. Messages may have the bytes of
    the largest value that was admitted, and 1 MiB beside it. Belongs to the event loop in which it starts.
    """

    def __init__(self, service: node_pb2_grpc.ShardNodeServicer, listen: str) -> None:
        self._service = service
        self._listen = listen
        self._host, _, port = listen.rpartition(":")
        self._port = int(port) if port.isdecimal() else 0
        self._value_bytes = least_value_bytes
        self._changing = asyncio.Lock()
        self._server: grpc.aio.Server | None = None
        self._replaced: dict[grpc.aio.Server, asyncio.Task[None]] = {}

    async def start(self, value_bytes: int) -> int:
        """Listen, and take values of so many bytes, or of 1 MiB; the port. Raises NotReady when it is taken."""
        if self._port:
            await asyncio.to_thread(_check_free, self._listen, self._host, self._port)
        self._value_bytes = max(value_bytes, least_value_bytes)
        self._server, self._port = await self._serve(self._listen)
        return self._port

    async def admit(self, value_bytes: int) -> None:
        """Take values of so many bytes from every client that connects from now on; those that are connected are told to do so
        anew. Raises NotReady.
        """
        async with self._changing:
            before, value_bytes_before = self._server, self._value_bytes
            if before is None or value_bytes <= value_bytes_before:
                return
            self._value_bytes = value_bytes
            try:
                self._server, _ = await self._serve(f"{self._host}:{self._port}")
            except BaseException:
                self._value_bytes = value_bytes_before
                raise
            # Not longer: a call that arrives while a server stops may get no answer before it is cut off. Streams are cut off,
            # too. Clients and copies try again, writes under the same write id.
            self._replaced[before] = stopping = asyncio.create_task(before.stop(stop_seconds_max))
            stopping.add_done_callback(lambda _: self._replaced.pop(before, None))

    async def close(self) -> None:
        """Take no more calls; those that are under way are cut off after `stop_seconds_max`."""
        async with self._changing:
            servers = [server for server in (self._server, *self._replaced) if server is not None]
            self._server = None
            await asyncio.gather(*(server.stop(stop_seconds_max) for server in servers), *self._replaced.values())

    async def _serve(self, address: str) -> tuple[grpc.aio.Server, int]:
        bound = ("grpc.max_receive_message_length", self._value_bytes + beside_value_bytes_max)
        server = grpc.aio.server(options=(*SERVER_OPTIONS, bound))
        node_pb2_grpc.add_ShardNodeServicer_to_server(self._service, server)  # type: ignore[no-untyped-call]
        try:
            port = int(server.add_insecure_port(address))
        except RuntimeError as error:
            raise NotReady(f"cannot listen at {address}: {error}") from error
        await server.start()
        return server, port


def _check_free(listen: str, host: str, port: int) -> None:
    """Raises NotReady when somebody listens there already: two nodes at one port would share its calls."""
    try:
        found = socket.getaddrinfo(host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return  # Of a name that leads nowhere gRPC says more.
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            # Without SO_REUSEPORT, which both sides need to share. Of two that look in the same moment both may listen; each
            # still refuses the shards of the other.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise NotReady(f"cannot listen at {listen}: {error.strerror}") from error
