"""The loads of shards, as the data nodes that serve them tell them, every five seconds.

    {"node": "n1", "keyspaces": {"orders": [[0, 310.5, 12.0, 1048576], [7, null, null, 4096]]}, "at": "2026-01-05T03:12:00Z"}

An item is `[shard, reads_per_second, writes_per_second, bytes]`. Any of the last three may be null: unknown. A node sends it
without `node` and `at` to a controller, which knows both; on Kafka the controller puts the whole into `<prefix>.loads` for the
others, under the key `shards/<node>`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final, NamedTuple

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from muster.wire.error import InvalidCommand
from muster.wire.problem import first_fault
from muster.wire.shards.driver import ShardId
from muster.wire.shards.key import shards_max
from muster.wire.stream import Name
from muster.wire.telemetry.heartbeats import number_max

SHARDS: Final = "shards"
"""What the keys of these rows begin with, before the first slash."""

told_bytes_max: Final = 1 << 46
"""What one shard can hold, 64 TiB. A controller adds up all that it is told, and JSON has no whole number over 64 bits."""

node_shards_max: Final = 10_000
"""Shards of which one node tells: of those beyond nothing is known, and shards are placed by their number."""

Rate = Annotated[float, Field(strict=True, ge=0, le=number_max, allow_inf_nan=False)]
Size = Annotated[int, Field(strict=True, ge=0, le=told_bytes_max)]


class ShardLoadReport(NamedTuple):
    """What is asked of a shard, and what it holds, as its store says; None: unknown."""

    reads_per_second: Rate | None = None
    writes_per_second: Rate | None = None
    bytes: Size | None = None


class ToldShard(NamedTuple):
    """One item: the shard's number in its keyspace, and its `ShardLoadReport`."""

    shard: Annotated[int, Field(strict=True, ge=0, lt=shards_max)]
    reads_per_second: Rate | None = None
    writes_per_second: Rate | None = None
    bytes: Size | None = None


Told = dict[Name, list[ToldShard]]
"""Items by keyspace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLoads:
    """What a data node said of all shards that it serves, and when a controller heard it."""

    node: Name
    keyspaces: Told
    at: datetime

    def __iter__(self) -> Iterator["ShardLoad"]:
        for keyspace, items in self.keyspaces.items():
            # Kept as items until somebody asks: a row of 10,000 shards comes every five seconds.
            for item in items:
                yield ShardLoad(
                    keyspace=keyspace,
                    shard=item.shard,
                    node=self.node,
                    reads_per_second=item.reads_per_second,
                    writes_per_second=item.writes_per_second,
                    bytes=item.bytes,
                    at=self.at,
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardLoad:
    """What the shard has to do on the node that serves it, and how many bytes of keys and values it holds; None: unknown.

    The rates are means over the last 30 s. `at` is when the node was heard.
    """

    keyspace: str
    shard: int
    node: str
    reads_per_second: float | None = None
    writes_per_second: float | None = None
    bytes: int | None = None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLoad:
    """What a node's shards have to do together; None: it says that of none. `at` is when the node was heard."""

    node: str
    shards: int
    reads_per_second: float | None = None
    writes_per_second: float | None = None
    bytes: int | None = None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardLoads:
    """The loads of shards, by keyspace and number, and what each node has of these shards, by its name."""

    nodes: tuple[NodeLoad, ...] = ()
    shards: tuple[ShardLoad, ...] = ()


SHARD_LOADS: Final = TypeAdapter(ShardLoads)
_TOLD: Final = TypeAdapter(Told)
_ROW: Final = TypeAdapter(NodeLoads)


def told_of(reports: dict[ShardId, ShardLoadReport]) -> Told:
    """The reports by keyspace, of the first `node_shards_max` shards: what a node sends."""
    told: Told = {}
    # Always the first ones: were it others each time, each would be told too seldom to count.
    for shard in sorted(reports)[:node_shards_max]:
        told.setdefault(shard.keyspace, []).append(ToldShard(shard.shard, *reports[shard]))
    return told


def judged(told: object) -> Told:
    """What a node tells, from plain JSON values. Raises InvalidCommand with the first field that is wrong."""
    try:
        found = _TOLD.validate_python(told)
    except ValidationError as error:
        raise _refusal(error, "keyspaces.") from None
    # Counted here, since a message is bounded by its bytes alone before it is read.
    if (size := sum(map(len, found.values()))) > node_shards_max:
        raise InvalidCommand(f"keyspaces: at most {node_shards_max:,} shards, not {size:,}", field="keyspaces")
    return found


def judged_report(told: object) -> ShardLoadReport:
    """What a store says of a shard, if it is a load. Raises InvalidCommand."""
    try:
        return _REPORT.validate_python(told)
    except ValidationError as error:
        raise _refusal(error, "") from None


_REPORT: Final = TypeAdapter(ShardLoadReport)


def key_of(row: NodeLoads) -> str:
    """The key of the row's record."""
    return f"{SHARDS}/{row.node}"


def encode(row: NodeLoads) -> bytes:
    """The row as it stands in the topic."""
    return orjson.dumps(document_of(row.keyspaces) | {"node": row.node, "at": row.at})


def document_of(told: Told) -> dict[str, object]:
    """What a node tells, as it stands in a request beside its incarnation."""
    # orjson takes no tuples that are more than tuples.
    return {"keyspaces": {keyspace: [list(item) for item in items] for keyspace, items in told.items()}}


def decode(value: bytes) -> NodeLoads:
    """The row of these bytes. Raises InvalidCommand."""
    try:
        return _ROW.validate_json(value)
    except ValidationError as error:
        raise _refusal(error, "") from None


def _refusal(error: ValidationError, path: str) -> InvalidCommand:
    field, reason = first_fault(error)
    # Where the whole is wrong pydantic names no field.
    field = f"{path}{field}" if field else path.rstrip(".") or SHARDS
    return InvalidCommand(f"{field}: {reason}", field=field)
