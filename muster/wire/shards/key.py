"""Keys and shards: a published hash, computable in any language, and the range of hashes that each shard owns.

hash(key) = the first 8 bytes, big-endian, of the SHA-256 of the key's UTF-8 bytes
shard     = (hash * shards) >> 64, so shard i of n owns the hashes from ceil(i * 2^64 / n) on

Vectors for other languages: `docs/shard-hash-vectors.json`.
"""

from hashlib import sha256
from typing import Final

from muster.wire.error import InvalidShardKey

key_bytes_max: Final = 500
shards_max: Final = 65_536


def key_hash(key: str) -> int:
    """The key's hash, from 0 to 2^64 - 1."""
    return int.from_bytes(sha256(key.encode()).digest()[:8], "big")


def shard_of(key: str, shards: int) -> int:
    """The number of the shard, of `shards`, that owns the key. Raises InvalidShardKey."""
    check_key(key)
    # A product and no remainder: so each shard owns one range of hashes.
    return (key_hash(key) * shards) >> 64


def hash_range(shard: int, shards: int) -> tuple[int, int]:
    """The first and the last hash that the shard owns."""
    # Negated twice, a division that rounds down rounds up.
    return -(-(shard << 64) // shards), -(-((shard + 1) << 64) // shards) - 1


def check_key(key: str) -> None:
    """Raises InvalidShardKey when the key is empty, over `key_bytes_max` bytes, or no clean text."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        # Lone surrogates, which Python makes of bytes that are no text, have no UTF-8.
        raise InvalidShardKey("key: is no valid UTF-8", field="key") from None
    if not 0 < size <= key_bytes_max:
        raise InvalidShardKey(f"key: must have 1 to {key_bytes_max} bytes in UTF-8, not {size}", field="key")
    if "\0" in key:
        raise InvalidShardKey("key: must not hold NUL characters", field="key")
