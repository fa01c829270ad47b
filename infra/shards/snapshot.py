"""A shard as of one moment, read in steps while it is written on."""

from collections.abc import Iterator
from typing import Final

from infra.shards.copy import read_pairs, read_write_ids
from infra.shards.environment import Environment, LongRead
from infra.shards.record import DIGEST_MODULUS, ShardRecord, digest_hex, pair_digest
from muster.wire.shards.driver import Extent

part_bytes_max: Final = 1 << 20
part_records_max: Final = 10_000


class ShardReading:
    """A shard as of one moment: one read transaction. To be read in one thread at a time, each iterator once.

    When the store must enlarge its map, open readings end: their iterators raise ReadFailed. Copies resume from
    their checkpoint with a newer snapshot. While one is open, LMDB reuses no page that was freed since.
    """

    def __init__(self, env: Environment, read: LongRead, record: ShardRecord) -> None:
        self.epoch: int = record.epoch
        self.extent: Extent = record.extent
        self._env = env
        self._read = read
        self._copy = record.copy

    def write_ids(self, ids_max: int = 1_000) -> Iterator[list[tuple[str, int]]]:
        """The known write ids with their positions, oldest first, in lists of up to `ids_max`."""
        after = 0
        while True:
            with self._read.reading() as txn:
                found = read_write_ids(txn, self._env, self._copy, after, ids_max)
            if not found:
                return
            after = found[-1][0]
            yield [(write_id.decode(), position) for position, write_id in found]

    def pairs(self, after: str = "", bytes_max: int = part_bytes_max) -> Iterator[list[tuple[str, bytes]]]:
        """The pairs after the key `after` in key order, in lists of about `bytes_max`, never empty."""
        for part in self._parts(after.encode(), bytes_max):
            yield [(key.decode(), value) for key, value in part]

    def recompute(self) -> Extent:
        """Read all pairs, and make the extent from what is there."""
        digest = records = size = 0
        for part in self._parts(b"", part_bytes_max):
            for key, value in part:
                digest += pair_digest(key, value)
                size += len(key) + len(value)
            records += len(part)
        return Extent(self.extent.position, digest_hex(digest % DIGEST_MODULUS), records, size)

    def _parts(self, after: bytes, bytes_max: int) -> Iterator[list[tuple[bytes, bytes]]]:
        while True:
            with self._read.reading() as txn:
                part = read_pairs(txn, self._env, self._copy, after, part_records_max, bytes_max)
            if not part:
                return
            after = part[-1][0]
            yield part
