"""One copy of a shard within a transaction: its pairs, the log of its changes, its write ids.

A `Copy` keeps record and databases in step: whatever it writes moves the record's position, digest and counts, and
`save` writes the record in the same transaction. The functions below it only read.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from math import inf
from typing import Any, Final

from infra.shards.environment import Environment
from infra.shards.record import (
    DIGEST_MODULUS,
    LoggedChange,
    ShardRecord,
    decode_change,
    encode_change,
    encode_record,
    pair_digest,
    shard_key,
)
from muster.wire.error import Corrupt, ShardOverflow
from muster.wire.shards.driver import ShardId, ShardLimits

trim_records_max: Final = 2_000


class Copy:
    """The copy that `record` is of, in the write transaction `txn`."""

    def __init__(self, env: Environment, txn: Any, shard: ShardId, record: ShardRecord) -> None:
        self.shard = shard
        self.record = record
        self.changed = False
        self._env = env
        self._txn = txn
        self._pairs, self._changes, self._ids = env.pairs, env.changes, env.ids
        self._prefix = prefix(record.copy)
        self._turn_prefix = self._prefix + b"\0"
        self._id_prefix = self._prefix + b"\1"

    def save(self) -> None:
        """Write the record."""
        self._txn.put(shard_key(self.shard), encode_record(self.record), db=self._env.shards)

    def get(self, key: bytes) -> bytes | None:
        """The value of the key."""
        found: bytes | None = self._txn.get(self._prefix + key, db=self._pairs)
        return found

    def check_room(self, key: bytes, old: bytes | None, new: bytes | None) -> None:
        """Raises ShardOverflow when the value is too large, or makes the shard so."""
        if new is None:
            return
        limits = self.record.limits
        check_value(self.shard, limits, new)
        grown = len(new) - len(old) if old is not None else len(key) + len(new)
        if grown > 0 and self.record.bytes + grown > limits.shard_bytes_max:
            raise ShardOverflow(
                f"{self.shard} holds {self.record.bytes} bytes of at most {limits.shard_bytes_max}",
                limit=limits.shard_bytes_max,
            )

    def append(self, key: bytes, old: bytes | None, new: bytes | None, write_id: bytes) -> None:
        """The next change: set the key, which holds `old`, to `new` (None: delete it), and log that."""
        record = self.record
        self.changed = True
        self._set(key, old, new)
        record.position += 1
        # After `_set`, so that the entry holds the digest after this change: a replay compares that.
        entry = encode_change(key, new, write_id, record.digest)
        self._txn.put(self._prefix + record.position.to_bytes(8, "big"), entry, db=self._changes)
        record.log_bytes += len(entry)
        if write_id:
            self._remember(write_id, record.position)

    def apply(self, change: LoggedChange) -> None:
        """A change of the source. It is not logged: the log here begins when the copy serves."""
        key = change.key.encode()
        self._set(key, self.get(key), change.value)
        self.record.position = change.position
        self.record.log_first = change.position + 1
        if change.write_id:
            self.learn(change.write_id, change.position)

    def extend(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Put pairs that are in key order; quick when none of their range is here, as in a copy that goes on."""
        if any(one[0] >= next[0] for one, next in pairwise(pairs)):
            raise Corrupt(f"a part of the snapshot of {self.shard} is not in key order")
        cursor = self._txn.cursor(self._pairs)
        # Something of the range is here: one by one, so that what is replaced leaves the digest and the counts.
        if cursor.set_range(self._prefix + pairs[0][0]) and cursor.key() <= self._prefix + pairs[-1][0]:
            for key, value in pairs:
                self._set(key, self.get(key), value)
            return
        record, start = self.record, self._prefix
        cursor.putmulti([(start + key, value) for key, value in pairs])
        record.digest = sum((pair_digest(key, value) for key, value in pairs), record.digest) % DIGEST_MODULUS
        record.records += len(pairs)
        record.bytes += sum(len(key) + len(value) for key, value in pairs)

    def recall(self, write_id: bytes) -> int | None:
        """The position that the write id got."""
        known = self._txn.get(self._id_prefix + write_id, db=self._ids)
        return None if known is None else int.from_bytes(known, "big")

    def learn(self, write_id: str, position: int) -> None:
        """Know the source's write id; of two positions the newer one."""
        stored = write_id.encode()
        known = self.recall(stored)
        if known is None or known < position:
            if known is not None:
                self._forget(known, stored)
            self._remember(stored, position)

    def trim(self, log_records_max: int, log_bytes_max: int, ids_max: int, pinned: Iterable[int]) -> None:
        """Let the oldest changes and write ids go that are over the limits; a bounded number of them at a time."""
        record = self.record
        if record.ids > ids_max:
            self._trim_ids(min(record.ids - ids_max, trim_records_max))
        if record.position - record.log_first >= log_records_max or record.log_bytes > log_bytes_max:
            self._trim_log(log_records_max, log_bytes_max, min(pinned, default=inf))

    def _set(self, key: bytes, old: bytes | None, new: bytes | None) -> None:
        record, digest = self.record, self.record.digest
        if old is not None:
            digest -= pair_digest(key, old)
            record.records -= 1
            record.bytes -= len(key) + len(old)
        if new is not None:
            digest += pair_digest(key, new)
            record.records += 1
            record.bytes += len(key) + len(new)
            self._txn.put(self._prefix + key, new, db=self._pairs)
        elif old is not None:
            self._txn.delete(self._prefix + key, db=self._pairs)
        record.digest = digest % DIGEST_MODULUS

    def _remember(self, write_id: bytes, position: int) -> None:
        stored = position.to_bytes(8, "big")
        self._txn.put(self._id_prefix + write_id, stored, db=self._ids)
        self._txn.put(self._turn_prefix + stored, write_id, db=self._ids)
        self.record.ids += 1

    def _forget(self, position: int, write_id: bytes) -> None:
        self._txn.delete(self._turn_prefix + position.to_bytes(8, "big"), db=self._ids)
        self._txn.delete(self._id_prefix + write_id, db=self._ids)
        self.record.ids -= 1

    def _trim_ids(self, count: int) -> None:
        for position, write_id in read_write_ids(self._txn, self._env, self.record.copy, 0, count):
            self._forget(position, write_id)

    def _trim_log(self, records_max: int, bytes_max: int, pinned: float) -> None:
        record = self.record
        cursor = self._txn.cursor(self._changes)
        cursor.set_range(self._prefix + record.log_first.to_bytes(8, "big"))
        for _ in range(trim_records_max):
            kept = record.position - record.log_first + 1
            # A pinning reader has change number `pinned`, and asks for the next one.
            if record.log_first > pinned or (kept <= records_max and record.log_bytes <= bytes_max):
                break
            record.log_bytes -= len(cursor.value())
            record.log_first += 1
            cursor.delete()


def check_value(shard: ShardId, limits: ShardLimits, new: bytes | None) -> None:
    """Raises ShardOverflow when the value is too large for the shard."""
    if new is not None and len(new) > limits.value_bytes_max:
        raise ShardOverflow(
            f"{shard}: a value may have {limits.value_bytes_max} bytes, not {len(new)}", limit=limits.value_bytes_max
        )


def prefix(copy: int) -> bytes:
    """What all keys of the copy begin with."""
    return copy.to_bytes(4, "big")


def read_pairs(
    txn: Any, env: Environment, copy: int, after: bytes, records_max: int, bytes_max: int
) -> list[tuple[bytes, bytes]]:
    """Pairs of the copy after the key `after` (empty: from the first); at least one, if there is one."""
    found: list[tuple[bytes, bytes]] = []
    size = 0
    for key, value in _range(txn, env.pairs, prefix(copy), after + b"\0" if after else b""):
        found.append((key, value))
        size += len(key) + len(value)
        if size >= bytes_max or len(found) >= records_max:
            break
    return found


def read_changes(txn: Any, env: Environment, copy: int, after: int, bytes_max: int) -> list[LoggedChange]:
    """The logged changes after number `after`; at least one, if there is one."""
    found: list[LoggedChange] = []
    size = 0
    for position, entry in _range(txn, env.changes, prefix(copy), (after + 1).to_bytes(8, "big")):
        found.append(decode_change(int.from_bytes(position, "big"), entry))
        size += len(entry)
        if size >= bytes_max:
            break
    return found


def read_write_ids(txn: Any, env: Environment, copy: int, after: int, count: int) -> list[tuple[int, bytes]]:
    """Up to `count` write ids after position `after`, oldest first, with their positions."""
    found: list[tuple[int, bytes]] = []
    for position, write_id in _range(txn, env.ids, prefix(copy) + b"\0", (after + 1).to_bytes(8, "big")):
        found.append((int.from_bytes(position, "big"), write_id))
        if len(found) >= count:
            break
    return found


def delete_slice(txn: Any, env: Environment, copy: int, records_max: int) -> bool:
    """Delete up to `records_max` entries of the copy; whether none is left, and the intent to delete them is gone."""
    start = prefix(copy)
    for database in (env.pairs, env.changes, env.ids):
        cursor = txn.cursor(database)
        cursor.set_range(start)
        while cursor.key()[:4] == start:
            if not records_max:
                return False
            cursor.delete()
            records_max -= 1
    # In the transaction that deletes the last entries: until then a start finds the intent, and goes on deleting.
    txn.delete(start, db=env.wipes)
    return True


def _range(txn: Any, database: Any, start: bytes, first: bytes) -> Iterator[tuple[bytes, bytes]]:
    cursor = txn.cursor(database)
    if cursor.set_range(start + first):
        size = len(start)
        for key, value in cursor:
            if key[:size] != start:
                return
            yield key[size:], value
