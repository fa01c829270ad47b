"""The HTTP server of a controller: takes its address, serves an application, and drains it at the end.

uvicorn serves; the process keeps its own signal handlers and its own logs.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_address
from typing import Final

import uvicorn

from infra.limits import ClientLimits
from infra.settings import Settings
from muster.wire.error import NotReady
from workers.http.application import Application
from workers.http.connection.connection import Connection
from workers.http.connection.keeper import Keeper

drain_seconds_max: Final = 1
connections_waiting_max: Final = 4096


@contextlib.contextmanager
def listening_socket(settings: Settings) -> Iterator[socket.socket]:
    """A socket that listens at `settings.http` for the length of the block. Raises NotReady when it cannot."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol named as TCP, event loops turn Nagle's algorithm off; with it on, small answers wait 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    with listening:
        # Connections of the process before may linger on the port; they must not keep a restart from taking it.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((settings.host, settings.port))
        except OSError as error:
            raise NotReady(f"cannot listen on {settings.http}: {error.strerror}; choose another --http") from None
        yield listening


def url_of(listening: socket.socket) -> str:
    """The URL at which others reach the socket; a wildcard address becomes the name of this host."""
    host, port = listening.getsockname()[:2]
    if ip_address(host).is_unspecified:
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def serving(app: Application, listening: socket.socket, limits: ClientLimits) -> AsyncIterator[None]:
    """Serve the application for the length of the block, under these limits; then answer the requests under way and end all
    watches.
    """
    app.metrics.keeper = keeper = Keeper(limits)
    server = _Server(
        uvicorn.Config(
            app,
            loop="none",
            # uvicorn calls what it is given as a class.
            http=partial(Connection, keeper=keeper),  # type: ignore[arg-type]
            ws="none",
            lifespan="on",
            proxy_headers=False,
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=connections_waiting_max,
            timeout_graceful_shutdown=drain_seconds_max,
        )
    )
    serving = asyncio.create_task(server.serve([listening]), name="http")
    # Either it listens, or it has failed at its start: then the last line raises what it failed with.
    await asyncio.wait([serving, asyncio.create_task(server.listens.wait())], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield
    finally:
        # Watches never end by themselves: without this, uvicorn would wait for them until its timeout.
        app.drain()
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    """uvicorn's server, which sets `listens` once it does, and leaves signals to the process."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        self.listens.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
