"""A keyspace of four shards on two nodes, its map, and its client."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from muster import Keyspace
from muster.wire.shards.key import shard_of
from tests.muster.keyspace.map_server import MapServer, map_server, shard_item
from tests.muster.keyspace.shard_node import Node, nodes

SHARDS = 4
KEYS = [f"user-{number}" for number in range(40)]
KEY = next(key for key in KEYS if shard_of(key, SHARDS) == 0)


@asynccontextmanager
async def users(**options: Any) -> AsyncIterator[tuple[Keyspace, Node, Node, MapServer]]:
    """The client, two nodes of which the first serves all four shards, and the controller's map of them."""
    async with nodes(2, SHARDS) as (one, other):
        items = [shard_item(shard, one) for shard in range(SHARDS)]
        async with (
            map_server(*items, value_bytes_max=1_000) as server,
            Keyspace("users", server.url, **options) as client,
        ):
            yield client, one, other, server


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def move(shard: int, source: Node, target: Node) -> None:
    """The whole of a move, of which the map is not told."""
    source.fence(shard)
    source.hand_over(shard, target)
