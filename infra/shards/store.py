"""The LMDB store of a data node: shards with their pairs, change logs and write ids, durable before anything is answered.

Each verb and each batch of writes is one durable transaction; what the verbs allow: `infra.shards.ownership`. Everything
here blocks: call it in a thread, writes through `infra.shards.commits`. All methods may be called in any thread; LMDB
writes one transaction at a time, and readers wait for nobody.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

from infra.shards import ownership
from infra.shards.copy import Copy, check_value, delete_slice, prefix, read_changes, read_pairs
from infra.shards.environment import Environment
from infra.shards.record import (
    Checkpoint,
    Found,
    LoggedChange,
    LoggedChanges,
    ShardRecord,
    ShardWrite,
    StoredWrite,
    decode_record,
    encode_record,
    key_bytes,
    shard_key,
    shard_of_key,
    write_id_bytes,
)
from infra.shards.snapshot import ShardReading, part_bytes_max
from muster.wire.error import ChecksumMismatch, Corrupt, LogTrimmed, MusterError, ShardNotFound
from muster.wire.shards.driver import Extent, Location, ShardId, ShardLimits

map_bytes_initial: Final = 64 << 30
log_records_max: Final = 100_000
log_bytes_max: Final = 256 << 20
ids_max: Final = 100_000
wipe_records_max: Final = 1_000

Verb = Callable[[ShardRecord | None], ShardRecord | None]


class Pin:
    """Keeps the changes after number `after` in the shard's log, until it is unpinned. A reader moves `after` as it goes on."""

    def __init__(self, shard: ShardId, after: int) -> None:
        self.shard = shard
        self.after = after


class ShardStore:
    """One LMDB environment in the folder `path`, made if missing, held by one process at a time (NotReady names it).

    `here`: this node's location, which StaleEpoch names; may be set later. The map starts with `map_bytes` (of addresses,
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
        self._env = Environment(path, map_bytes)
        self._log_records_max = log_records_max
        self._log_bytes_max = log_bytes_max
        self._ids_max = ids_max
        self._pins: set[Pin] = set()
        self._closed = False
        with self._env.reading() as txn:
            wipes = [int.from_bytes(key, "big") for key, _ in txn.cursor(self._env.wipes)]
        # Above every number in use, also by what is still being deleted: a new copy must not find keys of an old one.
        self._numbers = count(max([0, *wipes, *(record.copy for _, record in self.records())]) + 1)
        for copy in wipes:
            self._wipe(copy)

    def close(self) -> None:
        """Let the folder go. A deletion under way is interrupted; the next start finishes it."""
        if not self._closed:
            self._closed = True
            self._env.close()

    # What is here

    def record(self, shard: ShardId) -> ShardRecord | None:
        """The shard as this node knows it; a fresh object."""
        with self._env.reading() as txn:
            return self._load(txn, shard)

    def records(self) -> list[tuple[ShardId, ShardRecord]]:
        """All shards that this node knows, tombstones too, by keyspace and number."""
        with self._env.reading() as txn:
            return [(shard_of_key(key), decode_record(data)) for key, data in txn.cursor(self._env.shards)]

    # Ownership: see `muster.wire.shards.driver.ShardOwner` and `ShardTarget.prepare`

    def open(self, shard: ShardId, epoch: int, limits: ShardLimits) -> None:
        """Serve a fresh and empty shard; one with this epoch is left as it is, any other copy is refused (StaleEpoch)."""
        fresh = next(self._numbers)
        self._decide(shard, lambda record: ownership.opened(record, shard, epoch, limits, fresh))

    def prepare(self, shard: ShardId, epoch: int) -> ShardRecord:
        """A hidden copy for this coming epoch; one that is there for it is kept, an older hidden or retired one wiped.

        StaleEpoch: a shard that serves or is fenced here, or an epoch that another node is known to serve with.
        """
        fresh = next(self._numbers)
        return _there(self._decide(shard, lambda record: ownership.prepared(record, shard, epoch, fresh)))

    def fence(self, shard: ShardId, epoch: int) -> Extent:
        """Take no write at or below the epoch any more; the final extent. Raises ShardNotFound, NotOwner, StaleEpoch."""
        return _there(self._decide(shard, lambda record: ownership.fenced(record, shard, epoch))).extent

    def activate(self, shard: ShardId, epoch: int, limits: ShardLimits) -> None:
        """Serve with this epoch.

        Raises ShardNotFound (no copy), NotOwner (retired), StaleEpoch (also: fenced at this epoch, or hidden for another
        one), ChecksumMismatch (hidden and not complete).
        """
        self._decide(shard, lambda record: ownership.activated(record, shard, epoch, limits))

    def retire(self, shard: ShardId, epoch: int, owner: Location) -> None:
        """Another node serves with this epoch. Raises StaleEpoch when a newer one is known, or this one serves here."""
        self._decide(shard, lambda record: ownership.retired(record, shard, epoch, owner))

    def drop(self, shard: ShardId, epoch: int) -> None:
        """Delete the copy, unless it serves, is fenced or hidden with a newer epoch (StaleEpoch); a tombstone stays.

        Works in slices, other writes go on between them; a crash or `close` in the middle is made good at the next start.
        """
        self._decide(shard, lambda record: ownership.dropped(record, shard, epoch))

    # Serving

    def write(self, batch: Sequence[ShardWrite]) -> list[StoredWrite | MusterError]:
        """Write all, of any shards, in one durable transaction; per write what it got, or why it was refused:

        ShardNotFound · NotOwner (hidden or retired) · StaleEpoch (its epoch is below ours) · DataUnavailable (its epoch is
        above ours, or the shard is fenced) · ShardOverflow · InvalidShardKey · InvalidCommand (its write id).
        A known write id gets the first position again, `duplicate`. Raises WriteFailed: nothing was written.
        """
        return self._env.write(lambda txn: self._write(txn, batch))

    def refusals(self, batch: Sequence[ShardWrite]) -> list[MusterError | None]:
        """Why `write` would refuse each for its shard's record alone, or for the length of its value; None: it may be written."""
        with self._env.reading() as txn:
            records = {shard: self._load(txn, shard) for shard in {write.shard for write in batch}}
        return [self._refusal(records[write.shard], write) for write in batch]

    def get(self, shard: ShardId, epoch: int, key: str) -> Found:
        """What the key holds. Refuses as `write` does; raises ReadFailed."""
        stored = key_bytes(key)
        with self._env.reading() as txn:
            record = ownership.check_serves(self._load(txn, shard), shard, epoch, self.here)
            return Found(txn.get(prefix(record.copy) + stored, db=self._env.pairs), record.epoch)

    def scan(
        self, shard: ShardId, epoch: int, after: str, limit: int, bytes_max: int = part_bytes_max
    ) -> list[tuple[str, bytes]]:
        """Up to `limit` pairs after the key `after`, in key order; fewer when they are over `bytes_max`, at least one."""
        with self._env.reading() as txn:
            record = ownership.check_serves(self._load(txn, shard), shard, epoch, self.here)
            found = read_pairs(txn, self._env, record.copy, after.encode(), limit, bytes_max)
        return [(key.decode(), value) for key, value in found]

    # Giving a shard away

    @contextmanager
    def snapshot(self, shard: ShardId, *, epoch: int = 0, fenced: bool = True) -> Iterator[ShardReading]:
        """The shard, serving or (unless not `fenced`) fenced, as of now. Refuses as `write` does; raises ReadFailed."""
        with closing(self._env.read_long()) as read:
            with read.reading() as txn:
                # Read in the same transaction as the pairs will be, so that position and pairs are of one moment.
                record = ownership.check_serves(self._load(txn, shard), shard, epoch, self.here, fenced=fenced)
            yield ShardReading(self._env, read, record)

    def changes(self, shard: ShardId, after: int, *, epoch: int = 0, bytes_max: int = part_bytes_max) -> LoggedChanges:
        """The changes after number `after`, about `bytes_max` of them, of a serving or fenced shard.

        Raises LogTrimmed; ChecksumMismatch when `after` is ahead of this shard.
        """
        with self._env.reading() as txn:
            record = ownership.check_serves(self._load(txn, shard), shard, epoch, self.here, fenced=True)
            if after > record.position:
                raise ChecksumMismatch(f"{shard} has {record.position} changes here: nothing can follow number {after}")
            if after + 1 < record.log_first:
                detail = f"the log of {shard} begins with change {record.log_first}: copy the shard again"
                raise LogTrimmed(detail, after=after, first=record.log_first)
            found = read_changes(txn, self._env, record.copy, after, bytes_max)
        return LoggedChanges(found, record.position, record.state == "fenced", record.digest)

    def pin(self, shard: ShardId, after: int | None = None) -> Pin:
        """Keep the changes after number `after` (None: after the newest) for a reader, in this process."""
        record = self.record(shard)
        pin = Pin(shard, after if after is not None else record.position if record else 0)
        self._pins.add(pin)
        return pin

    def unpin(self, pin: Pin) -> None:
        """Let the log be trimmed again; a second time does nothing."""
        self._pins.discard(pin)

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
        """A part of a snapshot of `position` into the hidden copy number `copy`, with the checkpoint moved after it: durable.

        Pairs come in key order. `done`: it was the last part; `replay` goes on after the first snapshot's position, and a
        complete copy takes no further part. Raises StaleEpoch when the copy is no longer this one, Corrupt.
        """
        stored = [(key.encode(), value) for key, value in pairs]

        def work(txn: Any) -> ShardRecord:
            record = ownership.taking(self._load(txn, shard), shard, copy)
            before = record.checkpoint or Checkpoint(position, position, "", done=False)
            if before.done:
                return record
            target = Copy(self._env, txn, shard, record)
            for write_id, at in write_ids:
                target.learn(write_id, at)
            if stored:
                target.extend(stored)
            first, newest = min(before.first, position), max(before.newest, position)
            last_key = max(before.last_key, pairs[-1][0] if pairs else "")
            record.checkpoint = Checkpoint(first, newest, last_key, done)
            # Later parts may come from newer snapshots, and are ahead of this position. The replay sets their keys once
            # more, and at `newest` the copy is what its source was.
            record.position, record.log_first = first, first + 1
            self._trim(target)
            target.save()
            return record

        return self._env.write(work)

    def replay(self, shard: ShardId, copy: int, changes: Sequence[LoggedChange]) -> ShardRecord:
        """The source's changes into the hidden copy number `copy`: durable. Those that it has are skipped.

        Raises Corrupt on a gap, ChecksumMismatch when from the newest snapshot on a change's digest is not ours, StaleEpoch
        when the copy is no longer this one. Nothing is applied then.
        """

        def work(txn: Any) -> ShardRecord:
            record = ownership.taking(self._load(txn, shard), shard, copy)
            if record.checkpoint is None or not record.checkpoint.done:
                raise Corrupt(f"the copy of {shard} is not complete: no change can follow it")
            target = Copy(self._env, txn, shard, record)
            for change in changes:
                if change.position > record.position:
                    _apply(target, change, record.checkpoint)
            self._trim(target)
            target.save()
            return record

        return self._env.write(work)

    def restart(self, shard: ShardId, copy: int) -> ShardRecord:
        """Empty the hidden copy number `copy` to begin again (LogTrimmed); it gets a new number."""
        fresh = next(self._numbers)
        return _there(self._decide(shard, lambda record: ownership.restarted(record, shard, copy, fresh)))

    def recompute(self, shard: ShardId) -> Extent:
        """Read every pair of the copy again, in any state, as of one moment, and compute the extent from them."""
        with closing(self._env.read_long()) as read:
            with read.reading() as txn:
                record = self._load(txn, shard)
            if record is None or not record.copy:
                raise ShardNotFound(f"no copy of {shard} is here")
            return ShardReading(self._env, read, record).recompute()

    # Within

    def _load(self, txn: Any, shard: ShardId) -> ShardRecord | None:
        data = txn.get(shard_key(shard), db=self._env.shards)
        return None if data is None else decode_record(data)

    def _decide(self, shard: ShardId, verb: Verb) -> ShardRecord | None:
        """Do what the verb says, and then delete the copy that it gave up."""

        def work(txn: Any) -> tuple[ShardRecord | None, int]:
            before = self._load(txn, shard)
            after = verb(before)
            if after is None or after is before:
                return after, 0
            txn.put(shard_key(shard), encode_record(after), db=self._env.shards)
            if before is None or not before.copy or before.copy == after.copy:
                return after, 0
            # The intent to delete goes with the record that gives the copy up: after a crash nothing else would tell of
            # it.
            txn.put(prefix(before.copy), b"", db=self._env.wipes)
            return after, before.copy

        record, given_up = self._env.write(work)
        # In transactions of its own: to delete a large copy in one would hold up the writes of all shards.
        if given_up:
            self._wipe(given_up)
        return record

    def _wipe(self, copy: int) -> None:
        done = False
        while not done and not self._closed:
            began = time.monotonic()
            done = self._env.write(lambda txn: delete_slice(txn, self._env, copy, wipe_records_max))
            if not done:
                # Python's locks are not fair: writes get their turn in as much time as the slice took.
                time.sleep(time.monotonic() - began)

    def _write(self, txn: Any, batch: Sequence[ShardWrite]) -> list[StoredWrite | MusterError]:
        copies: dict[ShardId, Copy | None] = {}
        results: list[StoredWrite | MusterError] = []
        for write in batch:
            shard = write.shard
            # One `Copy` of a shard for the whole batch: its record moves on with each write, and is stored once, at the
            # end.
            if shard not in copies:
                record = self._load(txn, shard)
                copies[shard] = Copy(self._env, txn, shard, record) if record else None
            try:
                results.append(self._write_one(copies[shard], write))
            except MusterError as refusal:
                # A refusal comes before the write has changed anything, so the others go on in the same transaction.
                results.append(refusal)
        for copy in copies.values():
            if copy is not None and copy.changed:
                self._trim(copy)
                copy.save()
        return results

    def _refusal(self, record: ShardRecord | None, write: ShardWrite) -> MusterError | None:
        try:
            serving = ownership.check_serves(record, write.shard, write.epoch, self.here)
            check_value(write.shard, serving.limits, write.value)
        except MusterError as refusal:
            return refusal
        return None

    def _write_one(self, copy: Copy | None, write: ShardWrite) -> StoredWrite:
        record = ownership.check_serves(copy.record if copy else None, write.shard, write.epoch, self.here)
        assert copy is not None, "a shard without a record serves"
        key, write_id = key_bytes(write.key), write_id_bytes(write.write_id)
        # Only after the check: a repeat, too, is answered by the owner alone. But before the check for room: when the
        # write came first, there was room.
        known = copy.recall(write_id) if write_id else None
        if known is not None:
            return StoredWrite(known, record.epoch, True)
        old = copy.get(key)
        copy.check_room(key, old, write.value)
        copy.append(key, old, write.value, write_id)
        return StoredWrite(record.position, record.epoch)

    def _trim(self, copy: Copy) -> None:
        # A copy of the set, because readers pin and unpin in other threads.
        pinned = [pin.after for pin in tuple(self._pins) if pin.shard == copy.shard]
        copy.trim(self._log_records_max, self._log_bytes_max, self._ids_max, pinned)


def _there(record: ShardRecord | None) -> ShardRecord:
    assert record is not None
    return record


def _apply(target: Copy, change: LoggedChange, checkpoint: Checkpoint) -> None:
    record = target.record
    if change.position != record.position + 1:
        detail = f"the changes of {target.shard} have a gap: {change.position} came behind {record.position}"
        raise Corrupt(detail, position=record.position)
    target.apply(change)
    # Before the newest snapshot's position the copy is a mixture of moments, which has no digest to compare with.
    if change.position >= checkpoint.newest and change.digest != record.digest:
        detail = f"the copy of {target.shard} differs from its source at change {change.position}"
        raise ChecksumMismatch(detail, position=change.position)
