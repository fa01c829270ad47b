"""Choices: the cycle is exact, nobody is chosen who may not be, and each policy takes what it says."""

from collections import Counter
from fractions import Fraction
from itertools import permutations
from math import gcd
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from muster.balance.load import InstanceLoad, observed
from muster.balance.policy import Able, Fewest, choose, cycle, cycle_entries_max
from muster.wire.registry.traffic import Policy

NOW = 100.0
MEAN = 0.02
POLICIES = get_args(Policy)
chance = st.floats(0.0, 1.0, exclude_max=True)
turns = st.integers(0, 1 << 20)
weights = st.lists(st.integers(1, 60), min_size=1, max_size=12)


def able(*weights: int, near: tuple[int, ...] = ()) -> Able:
    return Able(tuple(InstanceLoad(weight) for weight in weights), near)


def by_hand(weights: list[int]) -> tuple[int, ...]:
    """The earliest deadline first, in exact fractions."""
    had = [0] * len(weights)
    order = []
    for _ in range(sum(weights) // gcd(*weights)):
        place = min(range(len(weights)), key=lambda each: (Fraction(had[each] + 1, weights[each]), each))
        had[place] += 1
        order.append(place)
    return tuple(order)


class TestCycle:
    @given(weights)
    @settings(max_examples=200)
    def test_is_the_earliest_deadline_first_by_hand(self, weights: list[int]) -> None:
        assert cycle(weights) == by_hand(weights)

    @given(st.lists(st.integers(1, 300), min_size=1, max_size=12))
    def test_gives_each_exactly_its_weight_and_never_falls_behind(self, weights: list[int]) -> None:
        order, divisor, whole = cycle(weights), gcd(*weights), sum(weights)
        assert Counter(order) == {place: weight // divisor for place, weight in enumerate(weights)}
        had: Counter[int] = Counter()
        for turn, place in enumerate(order, start=1):
            had[place] += 1
            assert all(had[each] >= turn * weight // whole for each, weight in enumerate(weights))

    @given(st.lists(st.integers(1, 65_535), min_size=1, max_size=300))
    @settings(max_examples=50)
    def test_is_bounded_and_leaves_nobody_out(self, weights: list[int]) -> None:
        order = cycle(weights)
        had, whole = Counter(order), sum(weights)
        assert len(order) <= cycle_entries_max
        assert had.keys() == set(range(len(weights)))
        for place, weight in enumerate(weights):
            assert abs(had[place] / len(order) - weight / whole) <= (len(weights) + 1) / len(order)

    def test_of_equal_weights_is_one_after_the_other(self) -> None:
        assert cycle([7] * 1_000) == tuple(range(1_000))

    def test_has_a_turn_for_each_of_more_instances_than_it_is_long(self) -> None:
        assert Counter(cycle([1] * 4_999 + [65_535])).keys() == set(range(5_000))


class TestChoose:
    @given(
        st.sampled_from(POLICIES),
        st.lists(st.integers(1, 9), max_size=9),
        turns,
        chance,
        st.sets(st.integers(0, 8)),
        st.sets(st.integers(0, 8)),
    )
    @settings(max_examples=500)
    def test_is_one_of_the_list_and_none_to_avoid(
        self, policy: Policy, weights: list[int], turn: int, chance: float, avoid: set[int], near: set[int]
    ) -> None:
        count = len(weights)
        avoid, near = {each for each in avoid if each < count}, {each for each in near if each < count}
        place = choose(policy, able(*weights, near=tuple(sorted(near))), turn, chance, NOW, MEAN, avoid=avoid)
        assert place == -1 if len(avoid) == count else place in set(range(count)) - avoid

    def test_by_cost_takes_the_cheaper_of_two_others(self) -> None:
        here = able(1, 1, 1)
        for load, seconds in zip(here.loads, (0.3, 0.1, 0.2), strict=True):
            observed(load, seconds, NOW)
        # The pairs in the order of the chance: 0 and 1, 0 and 2, 1 and 2, 1 and 0, 2 and 0, 2 and 1.
        assert [choose("least_cost", here, 0, pair / 6, NOW, MEAN) for pair in range(6)] == [1, 2, 1, 1, 2, 1]

    def test_by_cost_each_pair_is_as_likely_as_any_other(self) -> None:
        here, chances = able(1, 1, 1, 1, 1), [(number + 0.5) / 20_000 for number in range(20_000)]
        for cheap in permutations(range(5), 2):
            for place, load in enumerate(here.loads):
                load.in_flight = cheap.index(place) if place in cheap else 9
            taken = Counter(choose("least_cost", here, 0, one, NOW, MEAN) for one in chances)
            # The cheapest is in two of five pairs, the next one in as many, less the one with the cheapest.
            assert (taken[cheap[0]], taken[cheap[1]]) == (8_000, 6_000)

    def test_in_turn_takes_each_once_before_any_twice(self) -> None:
        here = able(3, 1, 2)
        assert [choose("round_robin", here, turn, 0.0, NOW, MEAN) for turn in range(4)] == [0, 1, 2, 0]

    def test_by_weight_in_turn_takes_each_as_often_as_its_weight(self) -> None:
        here = able(3, 1, 2)
        taken = Counter(choose("weighted_round_robin", here, turn, 0.0, NOW, MEAN) for turn in range(60))
        assert taken == {0: 30, 1: 10, 2: 20}

    def test_at_random_takes_each_as_often_as_its_weight(self) -> None:
        here = able(3, 1, 2)
        taken = Counter(choose("random", here, 0, one / 600, NOW, MEAN) for one in range(600))
        assert taken == {0: 300, 1: 100, 2: 200}


class TestZone:
    def far(self, near_seconds: float, far_seconds: float) -> bool:
        here = able(1, 1, 1, near=(0, 1))
        for load, seconds in zip(here.loads, (near_seconds, near_seconds, far_seconds), strict=True):
            observed(load, seconds, NOW)
        return choose("least_cost", here, 0, 0.45, NOW, MEAN) == 2

    def test_a_near_one_is_taken_unless_a_far_one_is_twice_as_cheap(self) -> None:
        assert [self.far(0.1, far) for far in (0.3, 0.1, 0.06, 0.049)] == [False, False, False, True]

    def test_where_none_is_near_far_ones_are_taken(self) -> None:
        here = able(1, 1)
        assert {choose("least_cost", here, 0, one, NOW, MEAN) for one in (0.1, 0.9)} == {0, 1}

    def test_where_all_near_ones_are_to_be_avoided_a_far_one_is_taken(self) -> None:
        here = able(1, 1, 1, near=(0, 1))
        assert choose("least_cost", here, 0, 0.05, NOW, MEAN, avoid={0, 1}) == 2


class TestFewest:
    @given(
        weights,
        st.integers(0, 1 << 16),
        st.lists(st.tuples(st.booleans(), st.integers(0, 11), st.sets(st.integers(0, 11), max_size=3)), max_size=150),
    )
    @settings(max_examples=200)
    def test_is_the_fewest_calls_for_the_weight_whatever_begins_and_ends(
        self, weights: list[int], turn: int, happens: list[tuple[bool, int, set[int]]]
    ) -> None:
        loads = tuple(InstanceLoad(weight) for weight in weights)
        order, places = Fewest(loads), set(range(len(loads)))
        for begins, number, avoid in happens:
            if begins:
                avoid = avoid if places - avoid else set()
                place = order.first(turn, avoid)
                assert place not in avoid
                assert key(loads[place]) == min(key(loads[each]) for each in places - avoid)
                loads[place].in_flight += 1
            elif loads[number % len(loads)].in_flight:
                loads[number % len(loads)].in_flight -= 1
                order.ended(number % len(loads))

    def test_equal_ones_take_turns_also_when_calls_never_overlap(self) -> None:
        here = able(1, 1, 1)
        taken = []
        for _ in range(6):
            place = choose("least_connections", here, 1, 0.0, NOW, MEAN)
            taken.append(place)
            here.loads[place].in_flight += 1
            here.loads[place].in_flight -= 1
            here.fewest.ended(place)
        assert taken == [1, 2, 0, 1, 2, 0]

    def test_equal_ones_take_turns_while_none_of_their_calls_ends(self) -> None:
        here = able(1, 1, 2)
        taken = []
        for _ in range(8):
            taken.append(choose("least_connections", here, 0, 0.0, NOW, MEAN))
            here.loads[taken[-1]].in_flight += 1
        assert taken == [2, 0, 1, 2, 2, 0, 1, 2]

    def test_what_it_keeps_is_bounded(self) -> None:
        # One comes to have more calls than anything that was there before, and fewer again; the idle one is always first.
        here = able(1, 1, 1)
        for change in [5, 5] + [1] * 1_000 + [-1] * 1_000:
            assert here.fewest.first(0, {1}) == 0 or not here.loads[1].in_flight
            for place in (1, 2):
                here.loads[place].in_flight += change
                here.fewest.ended(place)
            assert len(here.fewest._rows) == len(here.fewest._order) <= 3


def key(load: InstanceLoad) -> float:
    return (load.in_flight + 1) / load.weight
