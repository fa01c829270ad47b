"""The LMDB store of a data node: shards with their pairs, change logs and write ids, durable before anything is answered.

                    prepare ──▶ hidden ──activate──▶ serving ◀──activate (newer epoch)── fenced
    nothing ──open──────────────────────────────────▶   └────────────fence────────────────▲ │
                     any, by retire (another node serves with a newer epoch) ──▶ retired ◀──┘
                     any, by drop: its copy goes, a tombstone with the highest epoch stays

Each verb and each batch of writes is one durable transaction. Everything here blocks: call it in a thread, writes
through `infra.shard_commits`. All methods may be called in any thread; LMDB writes one transaction at a time, and
readers wait for nobody.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from domain.driver import Extent, Location, ShardId, ShardLimits
from domain.error import MusterError
from infra.shard_record import Change, Changes, Found, ShardRecord, Write, Written

map_bytes_initial: Final = 64 << 30
log_records_max: Final = 100_000
log_bytes_max: Final = 256 << 20
ids_max: Final = 100_000
part_bytes_max: Final = 1 << 20


class LogTrimmed(MusterError):
    """The log of the shard no longer has the change that follows `after`; its first is `first`. Copy the shard again."""

    status = 410


class Pin:
    """Keeps the changes behind `after` in the shard's log, until it is unpinned. A reader moves `after` as it goes on."""

    def __init__(self, shard: ShardId, after: int) -> None:
        self.shard = shard
        self.after = after


class Snapshot:
    """A shard as of one moment: one read transaction. To be read in one thread at a time, each iterator once.

    When the store must enlarge its map, open snapshots end: their iterators raise ReadFailed. Copies resume from
    their checkpoint with a newer snapshot.
    """

    epoch: int
    extent: Extent

    def write_ids(self, ids_max: int = 1_000) -> Iterator[list[tuple[str, int]]]:
        """The known write ids with their positions, oldest first, in lists of up to `ids_max`."""
        raise NotImplementedError

    def pairs(self, after: str = "", bytes_max: int = part_bytes_max) -> Iterator[list[tuple[str, bytes]]]:
        """The pairs behind the key `after` in key order, in lists of about `bytes_max`, never empty."""
        raise NotImplementedError


class ShardStore:
    """One LMDB environment in the folder `path`, made if missing, held by one process at a time (NotReady names it).

    `here`: this node's location, told by StaleEpoch; may be set later. The map starts with `map_bytes` (of addresses,
    not of disk) and grows by itself. Of each shard the newest `log_records_max` changes are kept, at most `log_bytes_max`
    of them, and the newest `ids_max` write ids. Deletions that a crash interrupted are finished here.
    """

    def __init__(
        self,
        path: Path,
        *,
        here: Location | None = None,
        map_bytes: int = map_bytes_initial,
        log_records_max: int = log_records_max,
        log_bytes_max: int = log_bytes_max,
        ids_max: int = ids_max,
    ) -> None:
        self.here = here
        raise NotImplementedError

    def close(self) -> None:
        """Let the folder go. A deletion under way is interrupted; the next start finishes it."""

    # What is here

    def record(self, shard: ShardId) -> ShardRecord | None:
        """The shard as this node knows it; a fresh object."""
        raise NotImplementedError

    def records(self) -> list[tuple[ShardId, ShardRecord]]:
        """All shards that this node knows, tombstones too, by keyspace and number."""
        raise NotImplementedError

    # Ownership: see `domain.driver.ShardOwner` and `ShardTarget.prepare`

    def open(self, shard: ShardId, epoch: int, limits: ShardLimits) -> None:
        """Serve a fresh and empty shard; one with this epoch is left as it is, any other copy is refused (StaleEpoch)."""
        raise NotImplementedError

    def prepare(self, shard: ShardId, epoch: int) -> ShardRecord:
        """A hidden copy for this coming epoch; one that is there for it is kept, an older hidden or retired one wiped.
        One that serves or is fenced, or an epoch that another node is known to serve with: StaleEpoch.
        """
        raise NotImplementedError

    def fence(self, shard: ShardId, epoch: int) -> Extent:
        """Take no write at or below the epoch any more; the final extent. Raises ShardNotFound, NotOwner, StaleEpoch."""
        raise NotImplementedError

    def activate(self, shard: ShardId, epoch: int, limits: ShardLimits) -> None:
        """Serve with this epoch. Raises ShardNotFound (no copy), NotOwner (retired), StaleEpoch (also: fenced at this epoch, or
        hidden for another one), ChecksumMismatch (hidden and not complete).
        """
        raise NotImplementedError

    def retire(self, shard: ShardId, epoch: int, owner: Location) -> None:
        """Another node serves with this epoch. Raises StaleEpoch when a newer one is known, or this one serves here."""
        raise NotImplementedError

    def drop(self, shard: ShardId, epoch: int) -> None:
        """Delete the copy, unless it serves, is fenced or hidden with a newer epoch (StaleEpoch); a tombstone stays.

        Works in slices, other writes go on between them; a crash or `close` in the middle is made good at the next start.
        """
        raise NotImplementedError

    # Serving

    def write(self, batch: Sequence[Write]) -> list[Written | MusterError]:
        """Write all, of any shards, in one durable transaction; per write what it got, or why it was refused:

        ShardNotFound · NotOwner (hidden or retired) · StaleEpoch (its epoch is below ours) · DataUnavailable (its epoch is
        above ours, or the shard is fenced) · ShardOverflow · InvalidShardKey · InvalidCommand (its write id).
        A known write id gets the first position again, `duplicate`. Raises WriteFailed: nothing was written.
        """
        raise NotImplementedError

    def get(self, shard: ShardId, epoch: int, key: str) -> Found:
        """What the key holds. Refuses as `write` does; raises ReadFailed."""
        raise NotImplementedError

    def scan(
        self, shard: ShardId, epoch: int, after: str, limit: int, bytes_max: int = part_bytes_max
    ) -> list[tuple[str, bytes]]:
        """Up to `limit` pairs behind the key `after`, in key order; fewer when they are over `bytes_max`, at least one."""
        raise NotImplementedError

    # Giving a shard away

    @contextmanager
    def snapshot(self, shard: ShardId, *, epoch: int = 0, fenced: bool = True) -> Iterator[Snapshot]:
        """The shard, serving or (unless not `fenced`) fenced, as of now. Refuses as `write` does; raises ReadFailed."""
        raise NotImplementedError

    def changes(self, shard: ShardId, after: int, *, epoch: int = 0, bytes_max: int = part_bytes_max) -> Changes:
        """The changes behind number `after`, about `bytes_max` of them, of a serving or fenced shard.

        Raises LogTrimmed; ChecksumMismatch when `after` is ahead of this shard.
        """
        raise NotImplementedError

    def pin(self, shard: ShardId, after: int | None = None) -> Pin:
        """Keep the changes behind `after` (None: behind the newest) for a reader, in this process."""
        raise NotImplementedError

    def unpin(self, pin: Pin) -> None:
        """Let the log be trimmed again; a second time does nothing."""
        raise NotImplementedError

    # Taking a shard over

    def install(
        self,
        shard: ShardId,
        copy: int,
        *,
        position: int,
        write_ids: Sequence[tuple[str, int]] = (),
        pairs: Sequence[tuple[str, bytes]] = (),
        done: bool = False,
    ) -> ShardRecord:
        """A part of a snapshot of `position` into the hidden copy number `copy`, with the checkpoint moved behind it: durable.

        Pairs come in key order, behind the checkpoint's last key. `done`: it was the last part; `replay` goes on behind the
        first snapshot's position. Raises StaleEpoch when the copy is no longer this one.
        """
        raise NotImplementedError

    def replay(self, shard: ShardId, copy: int, changes: Sequence[Change]) -> ShardRecord:
        """The source's changes into the hidden copy number `copy`: durable. Those that it has are skipped.

        Raises Corrupt on a gap, ChecksumMismatch when from the newest snapshot on a change's digest is not ours, StaleEpoch
        when the copy is no longer this one. Nothing is applied then.
        """
        raise NotImplementedError

    def restart(self, shard: ShardId, copy: int) -> ShardRecord:
        """Empty the hidden copy number `copy` to begin again (LogTrimmed); it gets a new number."""
        raise NotImplementedError

    def recompute(self, shard: ShardId) -> Extent:
        """Read every pair of the copy again, in any state, as of one moment, and compute the extent from them."""
        raise NotImplementedError
