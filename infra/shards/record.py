"""What the store of a data node keeps, as values and as bytes.

    shards    keyspace NUL shard (4 bytes)        → the shard's record
    pairs     copy (4 bytes) key                  → value
    changes   copy (4 bytes) position (8 bytes)   → digest, flags, lengths, write id, key, value
    ids       copy NUL position (8 bytes)         → write id          in the order of their age
              copy 0x01 write id                  → position          to find them
    wipes     copy (4 bytes)                      → nothing           copies that are being deleted

Integers are big-endian, so that LMDB's order of bytes is theirs. A copy is one incarnation of a shard on this node: a
number of its own keeps its keys together and short, and makes deleting it a range.
"""

from dataclasses import dataclass, field
from hashlib import blake2b
from struct import Struct
from typing import Final, Literal, NamedTuple

import orjson

from muster.wire.error import Corrupt, InvalidCommand
from muster.wire.shards.driver import Extent, Location, ShardId, ShardLimits
from muster.wire.shards.key import check_key
from muster.wire.value import value

State = Literal["hidden", "serving", "fenced", "retired"]
STATES: Final[tuple[State, ...]] = ("hidden", "serving", "fenced", "retired")

write_id_bytes_max: Final = 64
DIGEST_MODULUS: Final = 1 << 128


class ShardWrite(NamedTuple):
    """Put `value` under `key`, or delete it (None). `epoch` 0: no opinion; `write_id` "": the write has none."""

    shard: ShardId
    epoch: int
    key: str
    value: bytes | None
    write_id: str = ""


class StoredWrite(NamedTuple):
    """The write is durable: change number `position` of its shard, which is served with `epoch`."""

    position: int
    epoch: int
    duplicate: bool = False


class Found(NamedTuple):
    """What a key holds (None: nothing), and the epoch with which its shard is served."""

    value: bytes | None
    epoch: int


class LoggedChange(NamedTuple):
    """Change number `position` of a shard: `key` was set to `value` (None: deleted); `digest` is the shard's after it."""

    position: int
    key: str
    value: bytes | None
    write_id: str
    digest: int


@value
class LoggedChanges:
    """Changes in order without a gap. `head` and `digest`: the shard's newest; `fenced`: nothing follows it under this epoch."""

    changes: list[LoggedChange]
    head: int
    fenced: bool
    digest: int


@value
class Checkpoint:
    """How far a copy has come. The tail starts after `first`, the position of the snapshot that the copy began with.

    `newest` is the position of the newest snapshot that parts came from: between the two the copy holds a mixture, from
    `newest` on it is what the source was. `last_key`: the last key installed; `done`: the snapshot was read to its end.
    """

    first: int
    newest: int
    last_key: str
    done: bool


@dataclass(slots=True)
class ShardRecord:
    """A shard as this node knows it. `epoch` is the highest seen, also of a copy that is prepared for it; `owner` is who
    serves with it, when that is another node. `copy`: number of the copy that is here, 0: none (a tombstone).

    `bytes` counts keys and values. Changes from number `log_first` on are kept, `log_bytes` of them; `ids`: write ids kept.
    """

    state: State
    epoch: int
    owner: Location | None = None
    copy: int = 0
    position: int = 0
    digest: int = 0
    records: int = 0
    bytes: int = 0
    limits: ShardLimits = field(default_factory=ShardLimits)
    log_first: int = 1
    log_bytes: int = 0
    ids: int = 0
    checkpoint: Checkpoint | None = None

    @property
    def extent(self) -> Extent:
        """What the copy holds, as maintained by its changes."""
        return Extent(self.position, digest_hex(self.digest), self.records, self.bytes)


def digest_hex(digest: int) -> str:
    """The digest as it travels: 32 hexadecimal digits."""
    return f"{digest:032x}"


_LENGTH: Final = Struct(">I")


def pair_digest(key: bytes, value: bytes) -> int:
    """One pair's part of the digest: BLAKE2b-128 of the key's length (4 bytes, big-endian), the key and the value.

    A shard's digest is the sum of its live pairs' parts modulo 2^128, so it does not depend on their order.
    """
    return int.from_bytes(blake2b(_LENGTH.pack(len(key)) + key + value, digest_size=16).digest(), "big")


_RECORD: Final = Struct(">BBQIQ16sQQQQQQQ")
_VERSION: Final = 1


def encode_record(record: ShardRecord) -> bytes:
    """The record as bytes: a version, the numbers, then owner and checkpoint as JSON where there are any."""
    numbers = _RECORD.pack(
        _VERSION,
        STATES.index(record.state),
        record.epoch,
        record.copy,
        record.position,
        record.digest.to_bytes(16, "big"),
        record.records,
        record.bytes,
        record.limits.value_bytes_max,
        record.limits.shard_bytes_max,
        record.log_first,
        record.log_bytes,
        record.ids,
    )
    if record.owner is None and record.checkpoint is None:
        return numbers
    return numbers + orjson.dumps({"owner": record.owner, "checkpoint": record.checkpoint})


def decode_record(data: bytes) -> ShardRecord:
    """The record that `encode_record` made into `data`. Raises Corrupt."""
    if len(data) < _RECORD.size or data[0] != _VERSION:
        raise Corrupt(
            f"a shard's record of {len(data)} bytes, version {data[:1].hex()}, is none that this muster wrote"
        )
    _, state, epoch, copy, position, digest, records, size, value_max, shard_max, first, log_bytes, ids = (
        _RECORD.unpack_from(data)
    )
    rest = orjson.loads(data[_RECORD.size :]) if len(data) > _RECORD.size else {}
    owner, checkpoint = rest.get("owner"), rest.get("checkpoint")
    return ShardRecord(
        STATES[state],
        epoch,
        Location(**owner) if owner else None,
        copy,
        position,
        int.from_bytes(digest, "big"),
        records,
        size,
        ShardLimits(value_max, shard_max),
        first,
        log_bytes,
        ids,
        Checkpoint(**checkpoint) if checkpoint else None,
    )


_CHANGE: Final = Struct(">16s?BH")


def encode_change(key: bytes, value: bytes | None, write_id: bytes, digest: int) -> bytes:
    """A change as the log keeps it; its position is in the log's key."""
    head = _CHANGE.pack(digest.to_bytes(16, "big"), value is not None, len(write_id), len(key))
    return head + write_id + key + (value or b"")


def decode_change(position: int, data: bytes) -> LoggedChange:
    """The change that `encode_change` made into `data`."""
    digest, has_value, id_size, key_size = _CHANGE.unpack_from(data)
    key_at = _CHANGE.size + id_size
    value_at = key_at + key_size
    return LoggedChange(
        position,
        data[key_at:value_at].decode(),
        data[value_at:] if has_value else None,
        data[_CHANGE.size : key_at].decode(),
        int.from_bytes(digest, "big"),
    )


def shard_key(shard: ShardId) -> bytes:
    """The key of the shard's record; the names of keyspaces hold no NUL."""
    return shard.keyspace.encode() + b"\0" + shard.shard.to_bytes(4, "big")


def shard_of_key(key: bytes) -> ShardId:
    """The shard whose record has this key."""
    return ShardId(key[:-5].decode(), int.from_bytes(key[-4:], "big"))


def key_bytes(key: str) -> bytes:
    """The key as it is stored. Raises InvalidShardKey."""
    check_key(key)
    return key.encode()


def write_id_bytes(write_id: str) -> bytes:
    """The write id as it is stored; empty: none. Raises InvalidCommand."""
    try:
        stored = write_id.encode()
    except UnicodeEncodeError:
        raise InvalidCommand("write_id: is no valid UTF-8", field="write_id") from None
    if len(stored) > write_id_bytes_max:
        raise InvalidCommand(
            f"write_id: must have up to {write_id_bytes_max} bytes, not {len(stored)}", field="write_id"
        )
    return stored
