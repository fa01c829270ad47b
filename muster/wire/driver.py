"""How a store is driven through a move of a shard: what its owner does, and what its receiver does.

Any store that keeps these promises can be a data node; `tests/drivers/driver_contract.py` holds drivers against them, and LMDB's
is the reference. Every method is idempotent: it may be asked again, by the same task or a later attempt, and answers alike.
A node keeps the highest epoch that it has seen of each shard durably and refuses lower ones with StaleEpoch.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from muster.wire.value import value


class ShardId(NamedTuple):
    """Which shard: `shard` counts from 0."""

    keyspace: str
    shard: int

    def __str__(self) -> str:
        return f"{self.keyspace}/{self.shard}"


@value
class Location:
    """A data node, and where it listens (`host:port`)."""

    node: str
    address: str


@value
class Extent:
    """What a copy holds: the number of its last change, a digest of all live pairs (hex), how many they are, their bytes.

    Two copies with the same digest hold the same pairs.
    """

    position: int
    digest: str
    records: int
    bytes: int


@value
class ShardLimits:
    """What a shard takes: the largest value, and the most of keys and values in all."""

    value_bytes_max: int = 1_048_576
    shard_bytes_max: int = 4 << 30


@value
class CopyLimits:
    """How fast a copy may go (None: as fast as it can), and within how many changes of the source it has caught up."""

    bytes_per_second: float | None = None
    lag_records_max: int = 1_000


@value
class Progress:
    """How far a step has come. Told often, recorded never."""

    bytes: int
    bytes_total: int | None = None
    records: int = 0
    lag_records: int | None = None


Told = Callable[[Progress], None]


class ShardOwner(Protocol):
    """What the holder of a shard does."""

    async def open(self, shard: ShardId, epoch: int, limits: ShardLimits) -> None:
        """Serve the shard as a fresh and empty one; one that is there with this epoch is left as it is. Raises StaleEpoch."""

    async def fence(self, shard: ShardId, epoch: int) -> Extent:
        """Acknowledge no write at or below the epoch any more, whatever happens; the final extent. Raises StaleEpoch."""

    async def activate(self, shard: ShardId, epoch: int, limits: ShardLimits) -> None:
        """Serve the shard with this epoch: after the commit, or again after an abort. Raises StaleEpoch, ShardNotFound."""

    async def retire(self, shard: ShardId, epoch: int, owner: Location) -> None:
        """Another node serves the shard with this epoch: answer NotOwner with it, whether or not a copy is here."""

    async def drop(self, shard: ShardId, epoch: int) -> None:
        """Delete the copy, unless it serves with an epoch above this one (StaleEpoch). No copy: nothing to do."""


class ShardTarget(Protocol):
    """What the receiver of a shard does. `source` is the node that serves it."""

    async def prepare(self, shard: ShardId, epoch: int) -> None:
        """A hidden, empty copy that may come to serve with this epoch. One that was prepared for it already is kept with
        all that it holds, an older hidden or retired one is wiped, one that serves is refused (StaleEpoch).
        """

    async def copy(self, shard: ShardId, source: Location, limits: CopyLimits, told: Told) -> Extent:
        """Pull the source's snapshot, from the copy's own durable checkpoint on. Raises ReadFailed, NotOwner."""

    async def catch_up(self, shard: ShardId, source: Location, limits: CopyLimits, told: Told) -> Extent:
        """Follow the source's changes until the lag is small; go on following until drained or dropped."""

    async def verify(self, shard: ShardId, source: Location) -> Extent:
        """Read the whole copy again and compare its digest with the source's at the same position. Raises ChecksumMismatch."""

    async def drain(self, shard: ShardId, source: Location, final: Extent | None) -> Extent:
        """Follow a fenced source to its end; `final`, when known, is what its fence said. Raises ChecksumMismatch."""


class ShardDriver(ShardOwner, ShardTarget, Protocol):
    """A store that can hold shards, give them away and take them over."""
