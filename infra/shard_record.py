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

from domain.driver import Extent, Location, ShardId, ShardLimits
from domain.value import value

State = Literal["hidden", "serving", "fenced", "retired"]
STATES: Final[tuple[State, ...]] = ("hidden", "serving", "fenced", "retired")

write_id_bytes_max: Final = 64
DIGEST_MODULUS: Final = 1 << 128


class Write(NamedTuple):
    """Put `value` under `key`, or delete it (None). `epoch` 0: no opinion; `write_id` "": the write has none."""

    shard: ShardId
    epoch: int
    key: str
    value: bytes | None
    write_id: str = ""


class Written(NamedTuple):
    """The write is durable: change number `position` of its shard, which is served with `epoch`."""

    position: int
    epoch: int
    duplicate: bool = False


class Found(NamedTuple):
    """What a key holds (None: nothing), and the epoch with which its shard is served."""

    value: bytes | None
    epoch: int


class Change(NamedTuple):
    """Change number `position` of a shard: `key` was set to `value` (None: deleted); `digest` is the shard's behind it."""

    position: int
    key: str
    value: bytes | None
    write_id: str
    digest: int


@value
class Changes:
    """Changes in order without a gap. `head` and `digest`: the shard's newest; `fenced`: nothing follows it under this epoch."""

    changes: list[Change]
    head: int
    fenced: bool
    digest: int


@value
class Checkpoint:
    """How far a copy has come. The tail starts behind `first`, the position of the snapshot that the copy began with.

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
    hashed = blake2b(_LENGTH.pack(len(key)) + key, digest_size=16)
    hashed.update(value)
    return int.from_bytes(hashed.digest(), "big")
