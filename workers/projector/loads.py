"""Writes the loads of services and shards, as this controller has heard of them, into PostgreSQL: once a second what is newer.

Each controller writes what it knows; of two words about a service or a shard the newer one stays. A database that is away
is tried again, and misses what would be old by then anyway.
"""

import asyncio
import logging
from datetime import datetime
from typing import Final, Protocol

from infra.postgres.connections import UNAVAILABLE
from muster.wire.telemetry.loads import ServiceLoad
from muster.wire.telemetry.shard_loads import ShardLoad
from workers.views.loads import Loads

write_seconds: Final = 1.0
again_seconds: Final = 5.0
_LOG: Final = logging.getLogger("muster.projector")


class LoadStore(Protocol):
    """Where the rows are written; see `infra.postgres.load_tables.LoadTables`."""

    async def put(self, services: list[ServiceLoad], shards: list[ShardLoad]) -> None:
        """Write these rows, and delete those of which nobody has told for a minute."""


class LoadWriter:
    """Writes what is told, for ever; a row at most once in `write_seconds`."""

    def __init__(self, store: LoadStore, loads: Loads) -> None:
        self._store, self._loads = store, loads
        self._written: dict[object, datetime] = {}

    async def run(self) -> None:
        """Write, for ever."""
        failures = 0
        while True:
            await asyncio.sleep(again_seconds if failures else write_seconds)
            try:
                await self._write()
                failures = 0
            except UNAVAILABLE as error:
                failures += 1
                # Once, and not the first time: at a start the projector beside us may have yet to make the tables.
                if failures == 2:
                    _LOG.warning("loads are not written now: %s: %s", type(error).__name__, error)

    async def _write(self) -> None:
        services, shards = self._loads.services(), list(self._loads.shards.loads().shards)
        told: dict[object, datetime] = {load.service: load.at for load in services}
        told |= {(load.keyspace, load.shard): load.at for load in shards}
        await self._store.put(
            [load for load in services if self._is_news(load.service, load.at)],
            [load for load in shards if self._is_news((load.keyspace, load.shard), load.at)],
        )
        # Behind the write: what could not be written is news the next time. What is told no more is forgotten.
        self._written = told

    def _is_news(self, key: object, at: datetime) -> bool:
        known = self._written.get(key)
        return known is None or known < at
