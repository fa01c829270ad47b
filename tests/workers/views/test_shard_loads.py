"""What a controller has heard of the loads of shards, and for how long that counts."""

from datetime import timedelta

import orjson
import pytest

from infra.telemetry.rows import LoadRecord
from muster.wire.telemetry.shard_loads import NodeLoad, NodeLoads, ShardLoad, ToldShard, encode, key_of, told_bytes_max
from tests.sample import NOON
from workers.views import shard_loads
from workers.views.loads import Loads
from workers.views.shard_loads import ToldShards, fresh_seconds


class Ears:
    def __init__(self) -> None:
        self.seconds = 0.0
        self.told = ToldShards(lambda: self.seconds)

    def hears(self, node: str, *items: ToldShard, keyspace: str = "users", age_seconds: float = 0.0) -> "Ears":
        self.told.hear(row(node, *items, keyspace=keyspace), age_seconds)
        return self

    def after(self, seconds: float) -> "Ears":
        self.seconds += seconds
        return self

    @property
    def tellers(self) -> dict[int, str]:
        return {load.shard: load.node for load in self.told.loads().shards}


def row(node: str, *items: ToldShard, keyspace: str = "users") -> NodeLoads:
    return NodeLoads(node=node, keyspaces={keyspace: list(items)} if items else {}, at=NOON)


def test_the_loads_of_shards_and_of_the_nodes_that_have_them() -> None:
    ears = Ears().hears("n1", ToldShard(1, 5.0, 1.0, 100), ToldShard(0, 2.5, 0.5, 10)).hears("n2")
    ears.hears("n1", ToldShard(0, 1.0, None, None), keyspace="orders")
    found = ears.told.loads()
    assert [(load.keyspace, load.shard, load.reads_per_second) for load in found.shards] == [
        ("orders", 0, 1.0),
        ("users", 0, 2.5),
        ("users", 1, 5.0),
    ]
    assert found.nodes == (
        NodeLoad(node="n1", shards=3, reads_per_second=8.5, writes_per_second=1.5, bytes=110, at=NOON),
        NodeLoad(node="n2", shards=0, reads_per_second=0.0, writes_per_second=0.0, bytes=0, at=NOON),
    )


def test_of_a_keyspace_or_a_node_nothing_else_is_told() -> None:
    ears = Ears().hears("n1", ToldShard(0, 1.0, 0.0, 10)).hears("n2", ToldShard(3, 4.0, 0.0, 30))
    ears.hears("n2", ToldShard(0, 2.0, 0.0, 20), keyspace="orders")
    users, second = ears.told.loads("users"), ears.told.loads(node="n2")
    assert [(load.node, load.shards, load.bytes) for load in users.nodes] == [("n1", 1, 10), ("n2", 1, 30)]
    assert [(load.keyspace, load.shard) for load in second.shards] == [("orders", 0), ("users", 3)]
    assert [(load.node, load.bytes) for load in second.nodes] == [("n2", 50)]
    assert ears.told.loads("orders", "n1").shards == ears.told.loads("orders", "n1").nodes == ()


def test_a_node_that_says_nothing_any_more_has_no_load() -> None:
    ears = Ears().hears("n1", ToldShard(0, 1.0, 1.0, 1))
    assert ears.after(fresh_seconds).tellers == {0: "n1"}
    assert (ears.after(0.1).tellers, ears.told.weights(), ears.told.loads().nodes) == ({}, {}, ())


def test_what_was_said_long_ago_is_no_news() -> None:
    assert Ears().hears("n1", ToldShard(0), age_seconds=fresh_seconds + 1).told.loads().nodes == ()


def test_while_a_shard_changes_hands_the_last_word_about_it_counts() -> None:
    ears = Ears().hears("n1", ToldShard(0, 7.0, 1.0, 1), ToldShard(1, 1.0, 1.0, 1)).after(5)
    # The old owner has let go of it, and the new one has yet to speak.
    ears.hears("n1", ToldShard(1, 1.0, 1.0, 1))
    assert ears.told.weights() == {("users", 0): 8.0, ("users", 1): 2.0}
    assert ears.hears("n2", ToldShard(0, 3.0, 0.0, 1)).tellers == {0: "n2", 1: "n1"}
    assert ears.told.weights()["users", 0] == 3.0


def test_what_is_heard_twice_is_not_put_in_the_place_of_what_is_newer() -> None:
    ears = Ears().after(5).hears("n1", ToldShard(0, 9.0, 0.0, 1)).hears("n1", ToldShard(0, 1.0, 0.0, 1), age_seconds=2)
    assert ears.told.weights() == {("users", 0): 9.0}


def test_a_shard_whose_rates_nobody_knows_has_no_weight() -> None:
    assert Ears().hears("n1", ToldShard(0, None, None, 4), ToldShard(1, None, 2.0)).told.weights() == {
        ("users", 1): 2.0
    }


def test_what_is_kept_has_a_bound_and_who_is_known_goes_on_being_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_loads, "shards_max", 2)
    monkeypatch.setattr(shard_loads, "nodes_max", 2)
    ears = Ears().hears("n1", ToldShard(0), ToldShard(1), ToldShard(2)).hears("n2", ToldShard(3)).hears("n3")
    assert ears.tellers == {0: "n1", 1: "n1"}
    assert [load.node for load in ears.told.loads().nodes] == ["n1", "n2"]
    ears.hears("n2", ToldShard(1))
    assert ears.tellers == {0: "n1", 1: "n2"}


def test_all_that_can_be_kept_adds_up_to_a_number_that_an_answer_can_tell() -> None:
    orjson.dumps(shard_loads.shards_max * told_bytes_max)


def test_what_is_old_is_forgotten_and_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_loads, "shards_max", 1)
    monkeypatch.setattr(shard_loads, "nodes_max", 1)
    ears = Ears().hears("n1", ToldShard(0)).after(fresh_seconds + 1).hears("n2", ToldShard(5))
    assert ears.tellers == {5: "n2"}


def test_rows_of_the_topic_are_taken_and_what_is_told_here_goes_on_to_others() -> None:
    seconds, sent = 0.0, list[NodeLoads]()
    loads = Loads(lambda: seconds)
    loads.tell = sent.append
    told, followed = row("n1", ToldShard(0, 1.0)), row("n2", ToldShard(1, 2.0))
    loads.told(told)
    loads.take(LoadRecord(key_of(followed).encode(), encode(followed), 1.0))
    loads.take(LoadRecord(b"shards/n3", b"{}", 1.0))
    assert [load.shard for load in loads.shards.loads().shards] == [0, 1]
    assert (sent, loads.refused) == ([told], 1)


def test_a_load_says_when_its_node_was_heard() -> None:
    later = NOON + timedelta(seconds=5)
    ears = Ears().hears("n1", ToldShard(0, 1.0)).after(5)
    ears.told.hear(NodeLoads(node="n1", keyspaces={"users": [ToldShard(0, 2.0)]}, at=later))
    assert ears.told.loads().shards == (
        ShardLoad(keyspace="users", shard=0, node="n1", reads_per_second=2.0, at=later),
    )
