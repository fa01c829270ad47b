"""Where shards of draining nodes go, and what is said when they go nowhere."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from immutables import Map

from domain.shards.cluster import INITIAL, Cluster
from domain.shards.node import DataNode
from domain.shards.shard import Cleanup, Keyspace, Shard
from muster.wire.shards.driver import ShardLimits
from sagas.drain import DrainPlan, TurnedBack, again_seconds, again_seconds_max, drain_plan
from tests.sample import NOON


def cluster(**marks: dict[str, Any]) -> Cluster:
    """Nodes by name; the first one is being drained."""
    nodes = {
        name: DataNode(
            name, 0, "127.0.0.1:1", "", lease_seconds=5.0, process="p", store=name, **{"capacity": 1.0, **facts}
        )
        for name, facts in marks.items()
    }
    return replace(INITIAL, nodes=Map(nodes))


def keyspace(count: int, owner: str = "n1", **marks: Any) -> Keyspace:
    shards = {number: Shard(number, 1, owner, "active", **marks) for number in range(count)}
    return Keyspace(1, count, ShardLimits(), Map(shards), Map())


def failed(shard: int, target: str, at: datetime = NOON, why: str = "WriteFailed: the disk is full") -> TurnedBack:
    return TurnedBack("ks", shard, "n1", target, at, why)


def plan(shards: Keyspace, nodes: Cluster, *turned_back: TurnedBack, after: float = 1.0) -> DrainPlan:
    return drain_plan({"ks": shards}, nodes, turned_back, NOON + timedelta(seconds=after))


def targets(found: DrainPlan) -> list[str]:
    return [move.target for move in found.moves]


THREE = {"n1": {"draining": True}, "n2": {"capacity": 10.0}, "n3": {}}


def test_shards_go_to_the_node_with_the_fewest_for_its_capacity() -> None:
    found = plan(keyspace(3), cluster(**THREE))
    assert (targets(found), found.waits) == (["n2"] * 3, {})


def test_after_a_failure_the_shard_and_its_sisters_try_the_next_node() -> None:
    assert targets(plan(keyspace(3), cluster(**THREE), failed(0, "n2"))) == ["n3"] * 3


def test_a_node_that_failed_long_ago_is_tried_again() -> None:
    assert targets(plan(keyspace(1), cluster(**THREE), failed(0, "n2"), after=again_seconds + 1)) == ["n2"]


def test_with_one_target_alone_it_is_left_in_peace_for_longer_each_time() -> None:
    nodes = cluster(n1={"draining": True}, n2={})
    begun = []
    now, history = 0.0, []
    while now < 86_400.0:
        if plan(keyspace(1), nodes, *history, after=now).moves:
            begun.append(now)
            history.append(failed(0, "n2", NOON + timedelta(seconds=now)))
        now += again_seconds / 3
    assert 24 <= len(begun) <= 24 + 12, "an hour apart after the first ones, and not every two seconds"
    assert begun[-1] - begun[-2] >= again_seconds_max


def test_what_failed_on_the_way_off_another_node_holds_no_shard_back() -> None:
    other = failed(0, "n2")._replace(node="n9")
    assert targets(plan(keyspace(1), cluster(n1={"draining": True}, n2={}), other)) == ["n2"]


def test_it_says_which_move_turned_back_why_and_when_it_is_tried_again() -> None:
    found = plan(keyspace(2), cluster(n1={"draining": True}, n2={}), failed(0, "n2"), failed(1, "n2"))
    assert found.moves == []
    why = "the move to n2 turned back (WriteFailed: the disk is full); again at 12:00:30 UTC"
    assert found.waits == {"n1": f"2 shards: {why}"}


def test_nowhere_to_go_is_said_with_each_nodes_reason() -> None:
    nodes = cluster(
        n1={"draining": True}, n2={"cordoned": True}, n3={"alive": False}, n4={"draining": True, "cordoned": True}
    )
    found = plan(keyspace(5), nodes)
    assert found.moves == []
    why = "no eligible node: n2 is cordoned, n3 is lost, n4 is being drained"
    assert found.waits == {"n1": f"5 shards: {why}"}
    assert plan(keyspace(1), cluster(n1={"draining": True})).waits == {"n1": "1 shard: there is no other data node"}


def test_what_stays_by_itself_is_said_too() -> None:
    pinned = plan(keyspace(2, pinned=True), cluster(**THREE))
    assert (pinned.moves, pinned.waits) == ([], {"n1": "2 shards: pinned"})


def test_a_node_with_an_old_copy_is_passed_over_and_named_when_it_is_the_only_one() -> None:
    shards = keyspace(1)
    left = Map({(0, "n2"): Cleanup(0, "n2", 1, "ks/1", due=True)})
    behind = Keyspace(1, 1, ShardLimits(), shards.shards, left)
    assert targets(plan(behind, cluster(**THREE))) == ["n3"]
    alone = plan(behind, cluster(n1={"draining": True}, n2={}))
    assert alone.waits == {"n1": "1 shard: no eligible node: n2 has yet to delete an old copy"}


def test_without_a_drain_nothing_is_planned() -> None:
    assert plan(keyspace(3), cluster(n1={}, n2={})) == DrainPlan()
