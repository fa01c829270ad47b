"""What a store must promise so that its shards can be moved: as the owner of a shard, and as the target of a move.

Any store that keeps these promises can be a data node; `tests/drivers/driver_contract.py` checks them, and LMDB's driver is
the reference. Every method is idempotent: it may be called again, by the same task or a later attempt, with the same result.
A node durably keeps the highest epoch that it has seen of each shard, and refuses lower ones with StaleEpoch.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from muster.wire.value import value


class ShardId(NamedTuple):
    """A shard of a keyspace; `shard` is its number, from 0."""

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
    """What a copy holds: the number of its last change, a digest of all live pairs (hex), their count and their bytes.

    Two copies with the same digest hold the same pairs.
    """

    position: int
    digest: str
    records: int
    bytes: int


@value
class ShardLimits:
    """The limits of a shard: the largest value, and the most bytes of keys and values together."""

    # 1 MiB, and 4 GiB.
    value_bytes_max: int = 1_048_576
    shard_bytes_max: int = 4 << 30


@value
class CopyLimits:
    """How fast a copy may go (None: as fast as it can), and how few changes may be missing when it has caught up."""

    bytes_per_second: float | None = None
    lag_records_max: int = 1_000


@value
class Progress:
    """How far a step has come. Reported often, and never recorded."""

    bytes: int
    bytes_total: int | None = None
    records: int = 0
    lag_records: int | None = None


OnProgress = Callable[[Progress], None]
"""Called with the progress of a step, as often as the driver likes."""


class ShardOwner(Protocol):
    """What the owner of a shard does."""

    async def open(self, shard: ShardId, epoch: int, limits: ShardLimits) -> None:
        """Serve the shard, new and empty. One that is here with this epoch already is left as it is. Raises StaleEpoch."""

    async def fence(self, shard: ShardId, epoch: int) -> Extent:
        """Never acknowledge a write at or below the epoch again, not even after a restart. Returns the final extent."""

    async def activate(self, shard: ShardId, epoch: int, limits: ShardLimits) -> None:
        """Serve the shard with this epoch: after the commit, or again after an abort. Raises StaleEpoch, ShardNotFound."""

    async def retire(self, shard: ShardId, epoch: int, owner: Location) -> None:
        """Another node serves the shard with this epoch: refuse with NotOwner from now on, whether or not a copy is here."""

    async def drop(self, shard: ShardId, epoch: int) -> None:
        """Delete the copy, if there is one. Raises StaleEpoch when it serves with a higher epoch."""


class ShardTarget(Protocol):
    """What the target of a move does. `source` is the node that serves the shard."""

    async def prepare(self, shard: ShardId, epoch: int) -> None:
        """Make a hidden, empty copy, which may later serve with this epoch. One that was made for this epoch before is kept
        as it is, an older hidden or retired one is wiped. Raises StaleEpoch when a copy serves here.
        """

    async def copy(self, shard: ShardId, source: Location, limits: CopyLimits, on_progress: OnProgress) -> Extent:
        """Copy the source's snapshot, from the copy's own durable checkpoint on. Raises ReadFailed, NotOwner."""

    async def catch_up(self, shard: ShardId, source: Location, limits: CopyLimits, on_progress: OnProgress) -> Extent:
        """Return when the source's changes are here but for a small lag; go on following them until drained or dropped."""

    async def verify(self, shard: ShardId, source: Location) -> Extent:
        """Read the whole copy again and compare its digest with the source's at the same position. Raises ChecksumMismatch."""

    async def drain(self, shard: ShardId, source: Location, final: Extent | None) -> Extent:
        """Follow a fenced source to its end; `final`, when known, is the extent at its fence. Raises ChecksumMismatch."""


class ShardDriver(ShardOwner, ShardTarget, Protocol):
    """A store that can hold shards, give them away and receive them."""
