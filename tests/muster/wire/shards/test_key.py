"""Keys, hashes and shards."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.wire.error import InvalidShardKey
from muster.wire.shards.key import hash_range, key_hash, shard_of

_VECTORS = json.loads((Path(__file__).parents[4] / "docs" / "shard-hash-vectors.json").read_text())["vectors"]


@pytest.mark.parametrize("vector", _VECTORS, ids=lambda vector: vector["key"][:12])
def test_the_published_vectors_hold(vector: dict) -> None:
    assert f"{key_hash(vector['key']):016x}" == vector["hash"]
    assert (shard_of(vector["key"], 256), shard_of(vector["key"], 1000)) == (
        vector["shard_of_256"],
        vector["shard_of_1000"],
    )


@given(st.integers(1, 65_536))
def test_the_ranges_of_all_shards_cover_every_hash_once(shards: int) -> None:
    assert hash_range(0, shards)[0] == 0
    assert hash_range(shards - 1, shards)[1] == 2**64 - 1
    assert all(hash_range(i, shards)[1] + 1 == hash_range(i + 1, shards)[0] for i in range(min(shards - 1, 300)))


@given(st.text(min_size=1, max_size=40).filter(lambda key: "\0" not in key), st.integers(1, 65_536))
def test_a_key_lies_in_the_range_of_its_shard(key: str, shards: int) -> None:
    try:
        first, last = hash_range(shard_of(key, shards), shards)
    except InvalidShardKey:
        return
    assert first <= key_hash(key) <= last


@pytest.mark.parametrize("key", ["", "x" * 501, "a\0b", "\ud800"])
def test_a_key_that_cannot_be_hashed_names_the_field(key: str) -> None:
    with pytest.raises(InvalidShardKey) as refused:
        shard_of(key, 16)
    assert refused.value.context["field"] == "key"
