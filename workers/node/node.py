"""A data node's server, without contact to a controller: the store, its gRPC service, and the driver that moves shards."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from infra.shards.commits import Commits
from infra.shards.store import ShardStore
from muster.wire.shards.driver import Location
from workers.node.listener import Listener
from workers.node.lmdb_driver import LmdbDriver, patience_seconds
from workers.node.outgoing import Giving
from workers.node.service import NodeService
from workers.node.threads import Threads
from workers.node.traffic import ShardTraffic


class NodeServer:
    """`async with NodeServer(path, name) as node` serves the shards in the folder `path` at `listen` (port 0: a free port).

    `advertise` is the host at which others reach it, when that is not the one it listens at. Reads and writes are
    answered only until the instant given to `serve_until`; before its first call, not at all. `bytes_per_second` limits
    all snapshots that it sends, together; `store_options` go to `ShardStore`. Raises NotReady when the folder or the port
    is taken.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        *,
        listen: str = "127.0.0.1:0",
        advertise: str | None = None,
        bytes_per_second: float | None = None,
        patience_seconds: float = patience_seconds,
        **store_options: Any,
    ) -> None:
        self.name = name
        self._path = path
        self._listen = listen
        self._advertise = advertise
        self._bytes_per_second = bytes_per_second
        self._patience_seconds = patience_seconds
        self._store_options = store_options
        self._served_until = float("-inf")
        self.traffic = ShardTraffic()
        self._stack = AsyncExitStack()

    store: ShardStore
    driver: LmdbDriver
    giving: Giving
    address: str

    @property
    def location(self) -> Location:
        """The node and its address."""
        return Location(self.name, self.address)

    def serve_until(self, instant: float) -> None:
        """Answer reads and writes until this instant, in muster.clock.elapsed_seconds(). A later call may move it either way."""
        self._served_until = instant

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _start(self, stack: AsyncExitStack) -> None:
        until: Callable[[], float] = lambda: self._served_until  # noqa: E731
        threads = Threads()
        stack.push_async_callback(threads.close)
        self.store = await threads.run(ShardStore, self._path, **self._store_options)
        # Closed before the threads are: a deletion under way is interrupted instead of waited for.
        stack.push_async_callback(asyncio.to_thread, self.store.close)
        commits = await stack.enter_async_context(Commits(self.store, acknowledge_until=until))
        self.giving = Giving(self.store, threads, self._bytes_per_second)
        listener = Listener(NodeService(self.store, commits, threads, self.giving, until, self.traffic), self._listen)
        self.driver = LmdbDriver(
            self.store, threads, self.giving, admit=listener.admit, patience_seconds=self._patience_seconds
        )
        stack.push_async_callback(self.driver.close)
        records = await threads.run(self.store.records)
        port = await listener.start(
            max((record.limits.value_bytes_max for _, record in records if record.copy), default=0)
        )
        self.address = f"{self._advertise or self._listen.rpartition(':')[0]}:{port}"
        self.store.here = self.location
        # The stack unwinds backwards: snapshots and tails end first, or the server would wait for them in vain; then the
        # server, the driver, the commits, and at last the store and its threads.
        stack.push_async_callback(listener.close)
        stack.callback(self.giving.close)
