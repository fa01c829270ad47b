"""Connections to one database: a pool that is opened at first use."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

UNAVAILABLE: Final = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresError)
"""What a database raises that is away, busy, full or forbids something: try again from the stored cursor, and report it."""


class Connections:
    """At most `connections_max` connections. A statement that takes longer than `statement_timeout_seconds` is given up."""

    def __init__(self, dsn: str, connections_max: int, statement_timeout_seconds: float) -> None:
        self._dsn = dsn
        self._connections_max = connections_max
        self._statement_timeout_seconds = statement_timeout_seconds
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()

    def close(self) -> None:
        """Close them at once, whatever they are doing."""
        if self._pool is not None:
            self._pool.terminate()

    async def fetch(self, query: str, *args: object) -> list[Any]:
        """The rows of one query."""
        async with self._connection() as connection:
            return list(await connection.fetch(query, *args))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """A connection in a transaction of its own."""
        async with self._connection() as connection, connection.transaction():
            yield connection

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        async with self._opening:
            if self._pool is None:
                # Without a least number of connections the pool can be made while the database is away. Compiling (jit)
                # is off, because it pays for long queries only.
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=0,
                    max_size=self._connections_max,
                    command_timeout=self._statement_timeout_seconds,
                    timeout=10,
                    server_settings={"application_name": "muster", "jit": "off"},
                )
        async with self._pool.acquire(timeout=30) as connection:
            yield connection
