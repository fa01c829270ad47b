"""Shards of draining nodes go to the node with the least load, where loads are known, and by their number where not."""

from collections import Counter
from dataclasses import asdict
from random import Random
from statistics import fmean
from typing import Any

from hypothesis import given
from hypothesis import strategies as some
from immutables import Map

from domain.shards.keyspace import MoveShard
from domain.shards.shard import Keyspace, Shard
from muster.wire.shards.answers import MoveWeights
from muster.wire.shards.driver import ShardLimits
from sagas.drain import DrainPlan, drain_plan, node_drain_moves_max
from sagas.placement import NOTHING_KNOWN, Weights, shard_requests_per_second
from sagas.shard_migration import facts
from tests.sagas.draining.test_drain import cluster, failed
from tests.sample import NOON

Owned = dict[str, list[float | None]]
"""By node what is asked of each of its shards per second; None: nobody knows."""


def spread(owned: Owned, **marks: Any) -> tuple[Keyspace, Weights]:
    """A keyspace whose shards these are, numbered in this order, and the weights that are known."""
    asked = [(node, load) for node, loads in owned.items() for load in loads]
    shards = {number: Shard(number, 1, node, "active", **marks) for number, (node, _) in enumerate(asked)}
    weights = {("ks", number): load for number, (_, load) in enumerate(asked) if load is not None}
    return Keyspace(1, len(shards), ShardLimits(), Map(shards), Map()), weights


def plan(owned: Owned, *turned_back: Any, **nodes: dict[str, Any]) -> DrainPlan:
    """The plan when n1 is drained."""
    keyspace, weights = spread(owned)
    there = {name: {} for name in owned} | nodes | {"n1": {"draining": True}}
    return drain_plan({"ks": keyspace}, cluster(**there), turned_back, NOON, weights)


def targets(found: DrainPlan) -> list[str]:
    return [move.target for move in found.moves]


def test_a_shard_goes_to_the_node_with_the_least_load_and_not_to_the_one_with_the_fewest_shards() -> None:
    owned: Owned = {"n1": [10.0], "n2": [900.0], "n3": [20.0, 20.0, 20.0]}
    assert targets(plan(owned)) == ["n3"]
    assert targets(plan(owned | {"n3": [20.0, 20.0, None]})) == ["n2"], "the load of one that counts is not known"


def test_the_next_shard_is_placed_as_if_the_one_before_had_arrived() -> None:
    assert targets(plan({"n1": [50.0, 50.0, 1.0], "n2": [10.0], "n3": [20.0]})) == ["n2", "n3", "n2"]


def test_between_equal_loads_the_fewer_shards_decide() -> None:
    assert targets(plan({"n1": [1.0], "n2": [0.0, 0.0, 0.0], "n3": [2.0]})) == ["n3"]


def test_where_nobody_asks_the_number_decides_and_a_stray_request_does_not() -> None:
    assert targets(plan({"n1": [0.0], "n2": [0.0, 0.0], "n3": [0.2]})) == ["n3"]


def test_a_node_of_twice_the_capacity_takes_twice_the_load() -> None:
    owned: Owned = {"n1": [10.0], "n2": [100.0], "n3": [60.0]}
    assert targets(plan(owned)) == ["n3"]
    assert targets(plan(owned, n2={"capacity": 2.0})) == ["n2"]


def test_a_node_that_could_not_take_a_shard_is_left_alone_though_it_has_nothing_to_do() -> None:
    found = plan({"n1": [5.0], "n2": [], "n3": [500.0]}, failed(0, "n2")._replace(at=NOON))
    assert targets(found) == ["n3"]


def test_of_a_node_that_takes_none_nothing_need_be_known() -> None:
    owned: Owned = {"n1": [10.0], "n2": [900.0], "n3": [20.0, 20.0], "n4": [None]}
    assert targets(plan(owned, n4={"alive": False})) == ["n3"]
    assert targets(plan(owned, n4={"cordoned": True})) == ["n3"]
    assert targets(plan(owned)) == ["n2"]


def test_a_shard_that_nobody_has_opened_yet_counts_as_one() -> None:
    keyspace, weights = spread({"n1": [10.0], "n2": [900.0], "n3": [2.5]})
    fresh = {number: Shard(number, 1, "n3") for number in (3, 4)}
    keyspace = Keyspace(1, 5, ShardLimits(), keyspace.shards.update(fresh), Map())
    nodes = cluster(n1={"draining": True}, n2={}, n3={})
    [move] = drain_plan({"ks": keyspace}, nodes, (), NOON, weights).moves
    assert (move.target, move.weighed and move.weighed.target) == ("n3", 5.5)


def test_a_shard_on_its_way_counts_where_it_goes() -> None:
    keyspace, weights = spread({"n1": [10.0, 200.0], "n2": [3.0], "n3": [50.0]})
    on_its_way = Shard(1, 1, "n1", "migrating", migration="m", target="n2")
    keyspace = Keyspace(1, 4, ShardLimits(), keyspace.shards.set(1, on_its_way), Map())
    nodes = cluster(n1={"draining": True}, n2={}, n3={})
    assert targets(drain_plan({"ks": keyspace}, nodes, (), NOON, weights)) == ["n3"]


def test_the_plan_says_by_what_shards_are_placed() -> None:
    known = plan({"n1": [10.0], "n2": [900.0], "n3": [20.0, 20.0]}, n2={"capacity": 2.0})
    assert known.by == "by load (requests per second, and 1 for each shard): n3 42, n2 450.5"
    unknown = plan({"n1": [10.0], "n2": [None], "n3": [20.0]})
    assert unknown.by == "by the number of shards, since the load of ks/1 on n2 is not known"
    assert plan({"n1": [10.0]}).by.endswith("no node can take any")
    many = plan({"n1": [10.0], **{f"n{number}": [0.0] for number in range(2, 13)}})
    assert many.by.endswith(": n10 1, n11 1, n12 1, n2 1, n3 1, n4 1, n5 1, n6 1, and 3 with no less")


def test_a_move_carries_what_was_weighed_and_one_by_number_nothing() -> None:
    first, second = plan({"n1": [10.0, 5.0], "n2": [3.25]}).moves
    assert first.weighed == MoveWeights(shard=11.0, source=17.0, target=4.25)
    assert second.weighed == MoveWeights(shard=6.0, source=17.0, target=15.25)
    assert [move.weighed for move in plan({"n1": [10.0], "n2": [None]}).moves] == [None]


def test_the_saga_begins_with_what_was_weighed_so_that_a_replay_needs_no_loads() -> None:
    keyspace, _ = spread({"n1": [1.0], "n2": [1.0]})
    weights = MoveWeights(shard=11.0, source=17.0, target=4.25)
    by_load = facts(MoveShard(shard=0, target="n2", weighed=weights), "keyspace/ks/migration/1", keyspace)
    by_number = facts(MoveShard(shard=0, target="n2"), "keyspace/ks/migration/1", keyspace)
    assert by_load is not None
    assert by_number is not None
    assert by_load["weighed"] == asdict(weights)
    assert by_load == {**by_number, "weighed": asdict(weights)}


def test_a_command_without_weights_is_the_command_that_it_was_before_there_were_any() -> None:
    assert "weighed" not in MoveShard(shard=0, target="n2").model_dump_json()
    told = MoveShard(shard=0, target="n2", weighed=MoveWeights(shard=1.0, source=2.0, target=3.0))
    assert MoveShard.model_validate_json(told.model_dump_json()) == told


LOADS = some.floats(0, 1_000).map(lambda load: round(load, 1))


@some.composite
def worlds(draw: some.DrawFn) -> tuple[Owned, dict[str, dict[str, Any]]]:
    """Nodes that n1 can be drained to, with capacities of their own."""
    names = [f"n{number}" for number in range(2, draw(some.integers(3, 7)))]
    leaving = draw(some.lists(LOADS, min_size=1, max_size=node_drain_moves_max))
    owned: Owned = {"n1": [*leaving], **{name: [*draw(some.lists(LOADS, max_size=6))] for name in names}}
    return owned, {name: {"capacity": draw(some.sampled_from([0.5, 1.0, 2.0]))} for name in names}


def busiest(owned: Owned, capacities: dict[str, float], moves: list[Any]) -> float:
    """The load of the node with most for its capacity, once these have arrived."""
    loads = [load or 0.0 for shards in owned.values() for load in shards]
    held = {name: sum((load or 0.0) + shard_requests_per_second for load in owned[name]) for name in capacities}
    for move in moves:
        held[move.target] += loads[move.shard] + shard_requests_per_second
    return max(load / capacities[name] for name, load in held.items())


@given(worlds())
def test_no_plan_with_as_many_moves_is_better_by_more_than_the_bound(
    world: tuple[Owned, dict[str, dict[str, Any]]],
) -> None:
    owned, nodes = world
    keyspace, weights = spread(owned)
    there = cluster(**{"n1": {"draining": True}, **nodes})
    by_load = drain_plan({"ks": keyspace}, there, (), NOON, weights).moves
    by_number = drain_plan({"ks": keyspace}, there, (), NOON, NOTHING_KNOWN).moves
    assert len(by_load) == len(by_number) == len(owned["n1"])

    capacities = {name: facts["capacity"] for name, facts in nodes.items()}
    heaviest = max(load or 0.0 for load in owned["n1"]) + shard_requests_per_second
    everything = sum((load or 0.0) + shard_requests_per_second for shards in owned.values() for load in shards)
    slack = (len(capacities) - 1) * heaviest / sum(capacities.values())
    before, after = busiest(owned, capacities, []), busiest(owned, capacities, by_load)
    assert after <= max(before, everything / sum(capacities.values()) + slack) + 1e-6
    assert after <= busiest(owned, capacities, by_number) + slack + 1e-6


def drained(owned: list[float], weighed: bool) -> float:
    """The busiest of five nodes against their mean, once n1 has been drained of its shards of these loads."""
    owners = {number: f"n{number % 6 + 1}" for number in range(len(owned))}
    nodes = cluster(n1={"draining": True}, **{f"n{number}": {} for number in range(2, 7)})
    weights: Weights = {("ks", number): load for number, load in enumerate(owned)} if weighed else {}
    while "n1" in owners.values():
        shards = {number: Shard(number, 1, owner, "active") for number, owner in owners.items()}
        keyspace = Keyspace(1, len(owned), ShardLimits(), Map(shards), Map())
        owners |= {move.shard: move.target for move in drain_plan({"ks": keyspace}, nodes, (), NOON, weights).moves}
    loads = [sum(owned[number] for number, owner in owners.items() if owner == node) for node in set(owners.values())]
    return max(loads) / fmean(loads)


def test_over_many_drains_the_busiest_node_is_less_busy_than_by_number() -> None:
    by_load, by_number = list[float](), list[float]()
    for seed in range(60):
        # Some shards are asked far more often than others, and nobody has placed them with an eye to that.
        owned = [1_000.0 / (place + 8) for place in range(64)]
        Random(seed).shuffle(owned)
        by_load.append(drained(owned, weighed=True))
        by_number.append(drained(owned, weighed=False))
    worse = sum(mine > other + 1e-9 for mine, other in zip(by_load, by_number, strict=True))
    print(f"by load {fmean(by_load):.3f}, by number {fmean(by_number):.3f}; worse in {worse} of 60")
    assert (fmean(by_load) < fmean(by_number), worse <= 6) == (True, True)


@given(worlds())
def test_where_nothing_is_asked_both_plans_are_the_same(world: tuple[Owned, dict[str, dict[str, Any]]]) -> None:
    owned, nodes = {name: [0.0 for _ in loads] for name, loads in world[0].items()}, world[1]
    keyspace, weights = spread({name: [*loads] for name, loads in owned.items()})
    there = cluster(**{"n1": {"draining": True}, **nodes})
    by_load = drain_plan({"ks": keyspace}, there, (), NOON, weights).moves
    by_number = drain_plan({"ks": keyspace}, there, (), NOON).moves
    assert [move.target for move in by_load] == [move.target for move in by_number]
    assert Counter(move.shard for move in by_load) == Counter(range(len(owned["n1"])))
