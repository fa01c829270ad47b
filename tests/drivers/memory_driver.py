"""A store in memory that can be driven through moves: the smallest honest driver, for the suite and for simulations.

A `Disk` is what outlives a crash; a `MemoryNode` is one run of a process on it; a `Network` is how nodes find each other.
There are no clocks, threads or tasks inside: whoever follows a shard is called with each change, in the source's own write.
What `Network.pause` awaits (by default one turn of the event loop) is the only place where a copy can be interrupted.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Literal, NamedTuple

from muster.wire.error import (
    ChecksumMismatch,
    DataUnavailable,
    NotOwner,
    ReadFailed,
    ShardNotFound,
    ShardOverflow,
    StaleEpoch,
)
from muster.wire.shards.driver import CopyLimits, Extent, Location, OnProgress, Progress, ShardId, ShardLimits

Pause = Callable[[float], Awaitable[None]]


class Change(NamedTuple):
    """Change number `position`; `digest` is the shard's behind it."""

    position: int
    key: str
    value: bytes | None
    write_id: str
    digest: int


def pair_digest(key: str, value: bytes) -> int:
    """One pair's part of the digest, as a data node's store makes it: digests of different stores can be compared."""
    name = key.encode()
    return int.from_bytes(blake2b(len(name).to_bytes(4, "big") + name + value, digest_size=16).digest(), "big")


@dataclass
class Shard:
    """A shard as it is on a disk. `pairs` None: a tombstone. `mark`: how far a hidden copy's snapshot has come."""

    state: Literal["serving", "fenced", "hidden", "retired"]
    epoch: int
    owner: Location | None = None
    pairs: dict[str, bytes] | None = None
    limits: ShardLimits = field(default_factory=ShardLimits)
    position: int = 0
    digest: int = 0
    log: list[Change] = field(default_factory=list)
    write_ids: dict[str, int] = field(default_factory=dict)
    mark: "Mark | None" = None

    @property
    def extent(self) -> Extent:
        """What its books say."""
        pairs = self.pairs or {}
        size = sum(len(key.encode()) + len(value) for key, value in pairs.items())
        return Extent(self.position, f"{self.digest:032x}", len(pairs), size)

    def set(self, key: str, value: bytes | None) -> None:
        """Put or delete a pair, and keep the digest."""
        assert self.pairs is not None
        old = self.pairs.pop(key, None)
        self.digest += (pair_digest(key, value) if value is not None else 0) - (
            pair_digest(key, old) if old is not None else 0
        )
        self.digest %= 1 << 128
        if value is not None:
            self.pairs[key] = value

    def apply(self, change: Change) -> None:
        """The source's next change."""
        self.set(change.key, change.value)
        self.position = change.position
        if change.write_id:
            self.write_ids[change.write_id] = change.position


@dataclass
class Mark:
    """The copy began with a snapshot of `first`; the newest that it took parts of is `newest`."""

    first: int
    newest: int
    last_key: str = ""
    done: bool = False


Disk = dict[ShardId, Shard]


class Network:
    """The nodes that run, by address. `pause(seconds)` is awaited between the parts of a copy."""

    def __init__(self, pause: Pause = asyncio.sleep) -> None:
        self.nodes: dict[str, MemoryNode] = {}
        self.pause = pause

    def reach(self, location: Location) -> "MemoryNode":
        """The node there. Raises ReadFailed."""
        node = self.nodes.get(location.address)
        if node is None:
            raise ReadFailed(f"{location.address} does not answer")
        return node


class MemoryNode:
    """One run of a node on a disk, and its `ShardDriver`. `sent_bytes`: pairs given to others."""

    def __init__(self, location: Location, disk: Disk, network: Network) -> None:
        self.location = location
        self.sent_bytes = 0
        self._disk = disk
        self._network = network
        self._running = True
        self._followers: dict[ShardId, dict[str, Callable[[Change], None]]] = {}
        network.nodes[location.address] = self

    def kill(self) -> None:
        """The process is gone, and with it who follows whom."""
        self._running = False
        if self._network.nodes.get(self.location.address) is self:
            del self._network.nodes[self.location.address]

    # Clients

    def put(self, shard: ShardId, key: str, value: bytes, write_id: str = "") -> int:
        """Set a key; the change's number."""
        return self._write(shard, key, value, write_id)

    def delete(self, shard: ShardId, key: str, write_id: str = "") -> int:
        """Delete a key; the change's number."""
        return self._write(shard, key, None, write_id)

    def get(self, shard: ShardId, key: str) -> bytes | None:
        """What the key holds."""
        return self._pairs(self._serving(shard)).get(key)

    def extent(self, shard: ShardId) -> Extent:
        """What the copy here holds, hidden or not."""
        return self._copy(shard).extent

    def _write(self, shard: ShardId, key: str, value: bytes | None, write_id: str) -> int:
        here = self._serving(shard)
        if write_id in here.write_ids:
            return here.write_ids[write_id]
        if value is not None and len(value) > here.limits.value_bytes_max:
            raise ShardOverflow(f"a value may have {here.limits.value_bytes_max} bytes")
        here.set(key, value)
        here.position += 1
        if write_id:
            here.write_ids[write_id] = here.position
        change = Change(here.position, key, value, write_id, here.digest)
        here.log.append(change)
        for follower in list(self._followers.get(shard, {}).values()):
            follower(change)
        return here.position

    def _serving(self, shard: ShardId) -> Shard:
        here = self._source(shard)
        if here.state == "fenced":
            raise DataUnavailable(f"{shard} is being handed over")
        return here

    # Owner

    async def open(self, shard: ShardId, epoch: int, limits: ShardLimits) -> None:
        """See `ShardOwner.open`."""
        here = self._known(shard)
        if here is None or (here.pairs is None and epoch > here.epoch):
            self._disk[shard] = Shard("serving", epoch, pairs={}, limits=limits)
        elif here.state not in ("serving", "fenced") or epoch != here.epoch:
            raise self._stale(shard, here)

    async def fence(self, shard: ShardId, epoch: int) -> Extent:
        """See `ShardOwner.fence`."""
        here = self._known(shard)
        if here is not None and epoch < here.epoch:
            raise self._stale(shard, here)
        here = self._source(shard)
        here.state, here.epoch = "fenced", epoch
        return here.extent

    async def activate(self, shard: ShardId, epoch: int, limits: ShardLimits) -> None:
        """See `ShardOwner.activate`."""
        here = self._copy(shard)
        if epoch < here.epoch or (here.state == "fenced" and epoch == here.epoch):
            raise self._stale(shard, here)
        if here.state == "retired":
            raise self._not_owner(shard, here)
        if here.state == "hidden" and (epoch != here.epoch or not _consistent(here)):
            raise ChecksumMismatch(f"the copy of {shard} is not complete")
        here.state, here.epoch, here.owner, here.limits, here.mark = "serving", epoch, None, limits, None

    async def retire(self, shard: ShardId, epoch: int, owner: Location) -> None:
        """See `ShardOwner.retire`."""
        here = self._known(shard)
        if here is None:
            self._disk[shard] = Shard("retired", epoch, owner)
        elif epoch < here.epoch or (epoch == here.epoch and here.state in ("serving", "fenced")):
            raise self._stale(shard, here)
        else:
            here.state, here.epoch, here.owner, here.mark = "retired", epoch, owner, None

    async def drop(self, shard: ShardId, epoch: int) -> None:
        """See `ShardOwner.drop`."""
        here = self._known(shard)
        if here is None or here.pairs is None:
            return
        if here.state != "retired" and epoch < here.epoch:
            raise self._stale(shard, here)
        self._disk[shard] = Shard("retired", max(epoch, here.epoch), here.owner if epoch <= here.epoch else None)

    # Target

    async def prepare(self, shard: ShardId, epoch: int) -> None:
        """See `ShardTarget.prepare`."""
        here = self._known(shard)
        if here is not None:
            if here.state in ("serving", "fenced") or epoch < here.epoch or (epoch == here.epoch and here.owner):
                raise self._stale(shard, here)
            if here.state == "hidden" and epoch == here.epoch:
                return
        self._disk[shard] = Shard("hidden", epoch, pairs={})

    async def copy(self, shard: ShardId, source: Location, limits: CopyLimits, on_progress: OnProgress) -> Extent:
        """See `ShardTarget.copy`."""
        here = self._hidden(shard)
        if here.mark is None or not here.mark.done:
            giver = self._network.reach(source)
            there = giver._source(shard)
            pairs, total = sorted(self._pairs(there).items()), there.extent.bytes
            mark = here.mark = here.mark or Mark(there.position, there.position)
            mark.newest = there.position
            here.write_ids |= there.write_ids
            for key, value in pairs:
                if key > mark.last_key:
                    await self._install(shard, here, giver, key, value, limits)
                    on_progress(Progress(here.extent.bytes, total, len(self._pairs(here))))
            mark.done, here.position = True, mark.first
        return here.extent

    async def _install(
        self, shard: ShardId, here: Shard, giver: "MemoryNode", key: str, value: bytes, limits: CopyLimits
    ) -> None:
        size = len(key) + len(value)
        await self._network.pause(size / limits.bytes_per_second if limits.bytes_per_second else 0)
        self._network.reach(giver.location)
        if self._disk.get(shard) is not here or here.state != "hidden" or here.mark is None:
            raise StaleEpoch(f"the copy of {shard} is no longer the same")
        giver.sent_bytes += size
        here.set(key, value)
        here.mark.last_key = key

    async def catch_up(self, shard: ShardId, source: Location, limits: CopyLimits, on_progress: OnProgress) -> Extent:
        """See `ShardTarget.catch_up`."""
        await self.copy(shard, source, limits, on_progress)
        here, giver = self._hidden(shard), self._network.reach(source)
        self._pull(shard, here, giver)
        giver._followers.setdefault(shard, {})[self.location.address] = lambda change: self._heard(shard, here, change)
        on_progress(
            Progress(here.extent.bytes, None, len(self._pairs(here)), giver._source(shard).position - here.position)
        )
        return here.extent

    async def verify(self, shard: ShardId, source: Location) -> Extent:
        """See `ShardTarget.verify`."""
        here, there = self._hidden(shard), self._network.reach(source)._source(shard)
        self._pull(shard, here, self._network.reach(source))
        digest = sum(pair_digest(key, value) for key, value in self._pairs(here).items()) % (1 << 128)
        if digest != there.digest:
            raise ChecksumMismatch(f"the copy of {shard} is not what its source is")
        return here.extent

    async def drain(self, shard: ShardId, source: Location, final: Extent | None) -> Extent:
        """See `ShardTarget.drain`."""
        here = self._hidden(shard)
        if final is None or here.position != final.position or not _consistent(here):
            giver = self._network.reach(source)
            if giver._source(shard).state != "fenced":
                raise DataUnavailable(f"{shard} is not fenced at {source.address}: it has no end yet")
            await self.copy(shard, source, CopyLimits(), lambda _: None)
            self._pull(shard, here, giver)
            giver._followers.get(shard, {}).pop(self.location.address, None)
        if final is not None and (here.position, here.extent.digest) != (final.position, final.digest):
            raise ChecksumMismatch(f"the copy of {shard} does not end where its source was fenced")
        return here.extent

    def _pull(self, shard: ShardId, here: Shard, giver: "MemoryNode") -> None:
        there = giver._source(shard)
        first = there.log[0].position if there.log else there.position + 1
        if here.position + 1 < first and here.position != there.position:
            raise ReadFailed(f"the log of {shard} begins at {first}")
        for change in there.log[max(0, here.position + 1 - first) :]:
            giver.sent_bytes += len(change.key) + len(change.value or b"")
            here.apply(change)

    def _heard(self, shard: ShardId, here: Shard, change: Change) -> None:
        """The source has written: what is next is taken, what a gap is before is pulled later."""
        mine = self._running and self._disk.get(shard) is here and here.state == "hidden"
        if mine and change.position == here.position + 1:
            here.apply(change)

    # What is here

    def _known(self, shard: ShardId) -> Shard | None:
        if not self._running:
            raise DataUnavailable(f"{self.location.node} is not running")
        return self._disk.get(shard)

    def _copy(self, shard: ShardId) -> Shard:
        here = self._known(shard)
        if here is None or here.pairs is None:
            raise ShardNotFound(f"no copy of {shard} is here")
        return here

    def _hidden(self, shard: ShardId) -> Shard:
        here = self._copy(shard)
        if here.state != "hidden":
            raise self._stale(shard, here)
        return here

    def _source(self, shard: ShardId) -> Shard:
        here = self._known(shard)
        if here is None:
            raise ShardNotFound(f"{shard} is not known here")
        if here.state in ("hidden", "retired"):
            raise self._not_owner(shard, here)
        return here

    @staticmethod
    def _pairs(here: Shard) -> dict[str, bytes]:
        assert here.pairs is not None
        return here.pairs

    @staticmethod
    def _stale(shard: ShardId, here: Shard) -> StaleEpoch:
        return StaleEpoch(f"{shard} is {here.state} here with epoch {here.epoch}", epoch=here.epoch)

    @staticmethod
    def _not_owner(shard: ShardId, here: Shard) -> NotOwner:
        owner = here.owner
        if owner is None:
            return NotOwner(f"{shard} is not served here")
        return NotOwner(f"{owner.node} owns {shard}", epoch=here.epoch, owner=owner.node, address=owner.address)


def _consistent(here: Shard) -> bool:
    return here.mark is not None and here.mark.done and here.position >= here.mark.newest
