"""The map of shards: what is taken in from the watch and from refusals, and what is not."""

from typing import Any

import orjson

from muster.keyspace.shard_map import ShardMap


def item(shard: int, epoch: int, owner: str | None = "n1", **fields: Any) -> dict[str, Any]:
    address = f"{owner}:1" if owner else None
    told = {"shard": shard, "owner": owner, "address": address, "epoch": epoch, "status": "active", "fenced": False}
    return {**told, **fields}


def map_of(*items: dict[str, Any]) -> ShardMap:
    told = ShardMap()
    assert take(told, "snapshot", *items) is not None
    return told


def take(told: ShardMap, event: str, *items: dict[str, Any]) -> set[int]:
    data = orjson.dumps({"items": items, "shards": 2})
    return set().union(*told.take(event, data, "0:1"))


def test_a_delta_changes_only_the_shards_that_it_names():
    told = map_of(item(0, 1), item(1, 1))
    assert take(told, "delta", item(1, 2, "n2")) == {1}
    assert [(place.epoch, place.owner) for place in (told[0], told[1])] == [(1, "n1"), (2, "n2")]


def test_neither_a_delta_nor_a_snapshot_nor_a_refusal_goes_back_to_a_lower_epoch():
    told = map_of(item(0, 1), item(1, 1))
    assert told.learn(0, 5, "n2", "n2:1")
    assert take(told, "delta", item(0, 4, "n3")) == set()
    assert take(told, "snapshot", item(0, 1), item(1, 1)) == set()
    assert not told.learn(0, 5, "n3", "n3:1")
    assert (told[0].epoch, told[0].address) == (5, "n2:1")


def test_of_another_log_the_lower_epochs_count_and_the_number_of_shards():
    told = map_of(item(0, 7), item(1, 8))
    assert not list(told.take("reset", orjson.dumps({"token": "0:9", "reason": "other_log"}), ""))
    data = orjson.dumps({"items": [item(0, 1, "n2")], "shards": 1})
    assert set().union(*told.take("snapshot", data, "0:1")) == {0}
    assert (told.shards, told[0].epoch, told[0].owner, told.addresses) == (1, 1, "n2", {"n2:1"})
    # Calls that are under way to a shard that is no more find nobody there.
    assert told[1].address == ""
    assert take(told, "delta", item(0, 2, "n3")) == {0}


def test_a_reset_of_the_same_log_keeps_newer_epochs():
    told = map_of(item(0, 7), item(1, 8))
    assert not list(told.take("reset", orjson.dumps({"token": "0:9", "reason": "not_kept"}), ""))
    assert take(told, "snapshot", item(0, 6), item(1, 8)) == set()
    assert told[0].epoch == 7


def test_a_refusal_without_an_address_teaches_nothing():
    told = map_of(item(0, 1), item(1, 1))
    assert not told.learn(0, 2, "n2", "")
    assert told[0].epoch == 1


def test_a_node_that_comes_back_elsewhere_keeps_its_epoch():
    told = map_of(item(0, 3), item(1, 1))
    assert take(told, "delta", item(0, 3, address="n1:2")) == {0}
    assert told[0].address == "n1:2"


def test_a_shard_is_freed_by_the_end_of_its_fence_and_not_by_its_beginning():
    told = map_of(item(0, 1), item(1, 1, status="inactive"))
    assert take(told, "delta", item(0, 1, fenced=True, status="migrating")) == set()
    assert take(told, "delta", item(0, 1)) == {0}
    assert take(told, "delta", item(1, 1)) == {1}


def test_a_shard_is_freed_when_its_owner_is_back_and_not_when_it_goes():
    told = map_of(item(0, 1), item(1, 1))
    assert take(told, "delta", item(0, 1, unavailable=True, cause="it is away")) == set()
    assert told[0].cause == "it is away"
    assert take(told, "delta", item(0, 1)) == {0}


def test_addresses_are_those_in_use():
    told = map_of(item(0, 1, "n1"), item(1, 1, None))
    assert told.addresses == {"n1:1"}
    take(told, "delta", item(1, 1, "n2"))
    assert told.addresses == {"n1:1", "n2:1"}
    told.learn(0, 2, "n2", "n2:1")
    assert told.addresses == {"n2:1"}
