"""Shards and data nodes beside what they have to do now: `muster shards KEYSPACE --load`, `muster nodes --load`."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from muster.cli.listing import show_page
from muster.cli.remote import Remote
from muster.cli.shards.story import size
from muster.cli.table import TableColumn, cell, columns
from muster.wire.read_model import Page
from muster.wire.shards.answers import Node, Shard
from muster.wire.telemetry.shard_loads import NodeLoad, ShardLoad

if TYPE_CHECKING:
    from muster.client.client import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedShard(Shard):
    """A shard, and what it has to do now; None: nobody says so."""

    load: ShardLoad | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedNode(Node):
    """A data node, and what its shards have to do now; None: it does not say so."""

    load: NodeLoad | None


def _rate(title: str, name: str) -> TableColumn[LoadedShard | LoadedNode]:
    return TableColumn(title, lambda row: "" if row.load is None else cell(getattr(row.load, name)))


def _held(row: LoadedShard | LoadedNode) -> str:
    return "" if row.load is None or row.load.bytes is None else size(row.load.bytes)


_LOAD: Final[list[TableColumn[LoadedShard | LoadedNode]]] = [
    _rate("READS PER SECOND", "reads_per_second"),
    _rate("WRITES PER SECOND", "writes_per_second"),
    TableColumn("HOLDS", _held),
]
_SHARDS: Final[list[TableColumn[LoadedShard]]] = [
    *columns("shard", TableColumn[LoadedShard]("OWNER", lambda row: row.owner or "-"), "status"),
    *_LOAD,
    # Not always the owner: just after a move the last word is still that of the one before.
    TableColumn("TOLD BY", lambda row: "" if row.load is None else row.load.node),
]
_NODES: Final[list[TableColumn[LoadedNode]]] = columns("node", "zone", "capacity", "shards", *_LOAD)


def show_loaded(remote: Remote, listed: "Callable[[Client], Awaitable[Page[Shard]]]", keyspace: str) -> None:
    """The shards of the keyspace, each with its load."""

    async def both(client: "Client") -> Page[LoadedShard]:
        page, told = await asyncio.gather(listed(client), client.shard_loads(keyspace))
        # Asked at the same time, so that a shard which has just come may have no load yet.
        found = {load.shard: load for load in told.shards}
        rows = tuple(LoadedShard(**asdict(row), load=found.get(row.shard)) for row in page.items)
        return Page(token=page.token, age_seconds=page.age_seconds, parked=page.parked, items=rows)

    show_page(remote, remote.call(both), _SHARDS)


def show_loaded_nodes(remote: Remote, listed: "Callable[[Client], Awaitable[Page[Node]]]") -> None:
    """The data nodes, each with the load of all of its shards."""

    async def both(client: "Client") -> Page[LoadedNode]:
        page, told = await asyncio.gather(listed(client), client.shard_loads())
        found = {load.node: load for load in told.nodes}
        rows = tuple(LoadedNode(**asdict(row), load=found.get(row.node)) for row in page.items)
        return Page(token=page.token, age_seconds=page.age_seconds, parked=page.parked, items=rows)

    show_page(remote, remote.call(both), _NODES)
