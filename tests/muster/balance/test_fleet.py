"""The instances of a service as one client sees them: what is kept over changes, the subset, who is left out."""

from collections import Counter
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.balance.fleet import KEPT_SECONDS, Candidate, Fleet, gone_kept_max
from muster.balance.load import observed
from tests.muster.balance.instances import appeared, changed, instance, removed, snapshot


def fleet(count: int, zone: str = "", subset: int | None = None, client: str = "me", **fields: object) -> Fleet:
    made = Fleet(client, zone, subset)
    made.take(snapshot(*(instance(str(number), **fields) for number in range(count))), 0.0)
    return made


def able(of: Fleet, now: float = 0.0) -> list[str]:
    return [of.able[place].instance.instance for place in range(len(of.choice(now).loads))]


def candidate(of: Fleet, name: str) -> Candidate:
    return next(each for each in of if each.instance.instance == name)


class TestTheList:
    def test_has_who_is_discoverable_and_has_a_weight(self) -> None:
        here = Fleet("me")
        here.take(snapshot(instance("a"), instance("b", discoverable=False), instance("c", weight=0)), 0.0)
        assert able(here) == ["a"]
        assert here.counts(0.0) == (3, 2, 1, 0)

    def test_follows_every_change(self) -> None:
        here = fleet(2)
        here.take(appeared(instance("2")), 1.0)
        assert able(here) == ["0", "1", "2"]
        here.take(changed(instance("0", discoverable=False)), 2.0)
        assert able(here) == ["1", "2"]
        here.take(changed(instance("0")), 3.0)
        here.take(removed(instance("1")), 3.0)
        assert able(here) == ["0", "2"]

    def test_is_compared_with_what_a_watch_that_begins_anew_tells(self) -> None:
        here = fleet(3)
        observed(candidate(here, "1").load, 0.5, 1.0)
        here.take(snapshot(instance("1"), instance("9")), 2.0)
        assert able(here) == ["1", "9"]
        assert candidate(here, "1").load.cost_seconds == 0.5

    def test_takes_the_weight_that_an_instance_has_now(self) -> None:
        here = fleet(1)
        here.take(changed(instance("0", weight=7)), 1.0)
        assert here.choice(1.0).loads[0].weight == 7


class TestWhatIsKnown:
    def test_outlives_an_instance_that_flaps(self) -> None:
        here = fleet(2)
        observed(candidate(here, "0").load, 0.5, 0.0)
        for now in range(1, 100):
            here.take(changed(instance("0", discoverable=False)), now)
            here.take(changed(instance("0")), now)
        assert candidate(here, "0").load.cost_seconds == 0.5
        assert here.remembered == 2

    def test_comes_back_with_the_incarnation_that_it_belongs_to_and_no_other(self) -> None:
        here = fleet(2)
        observed(candidate(here, "0").load, 0.5, 0.0)
        here.take(removed(instance("0")), 1.0)
        here.take(appeared(instance("0", incarnation=2)), 2.0)
        assert candidate(here, "0").load.cost_seconds == 0.0
        # A controller that is behind names the first one again.
        here.take(changed(instance("0", incarnation=1)), 3.0)
        assert candidate(here, "0").load.cost_seconds == 0.5

    def test_is_forgotten_a_minute_after_the_instance_has_gone(self) -> None:
        here = fleet(1)
        for number in range(2, 102):
            here.take(appeared(instance("0", incarnation=number)), 1.0)
        assert here.remembered == 101
        here.take(changed(instance("0", incarnation=101)), 1.0 + KEPT_SECONDS)
        assert here.remembered == 1

    def test_is_bounded_also_within_a_minute(self) -> None:
        here = fleet(1)
        for number in range(2, 2_000):
            here.take(appeared(instance("0", incarnation=number)), 1.0)
        assert here.remembered == gone_kept_max + 1


class TestNewcomers:
    def test_are_cold_if_they_came_after_the_first_picture(self) -> None:
        here = fleet(1)
        here.take(appeared(instance("1")), 5.0)
        assert candidate(here, "0").load.came_at == -inf
        assert candidate(here, "1").load.came_at == 5.0

    def test_count_from_when_they_can_take_calls(self) -> None:
        here = fleet(1)
        here.take(appeared(instance("1", discoverable=False)), 5.0)
        here.take(changed(instance("1")), 9.0)
        assert candidate(here, "1").load.came_at == 9.0


class TestLeavingOut:
    def test_is_for_a_while_and_longer_when_it_is_repeated(self) -> None:
        here = fleet(5)
        ill, now = candidate(here, "0"), 0.0
        for times in (1, 2, 3, 4, 4):
            assert here.leave_out(ill, now, 5.0, after=5)
            assert able(here, now + 5.0 * times - 0.1) == ["1", "2", "3", "4"]
            now += 5.0 * times
            assert len(able(here, now)) == 5
        # It has been well for a while: the next time is a first time.
        assert here.leave_out(ill, now + KEPT_SECONDS + 0.1, 5.0, after=5)
        assert ill.outs == 1

    def test_one_that_comes_back_is_on_probation(self) -> None:
        here = fleet(5)
        ill = candidate(here, "0")
        ill.load.failures_in_row = 5
        here.leave_out(ill, 0.0, 5.0, after=5)
        assert ill.load.failures_in_row == 3

    @given(st.integers(1, 12), st.lists(st.integers(0, 11), max_size=40))
    def test_never_takes_half_of_them(self, count: int, ill: list[int]) -> None:
        here = fleet(count)
        for number in ill:
            here.leave_out(candidate(here, str(number % count)), 0.0, 5.0, after=5)
            assert 2 * len(able(here)) > count
        assert here.counts(0.0) == (count, count, count, count - len(able(here)))

    def test_ends_for_all_when_the_list_becomes_too_short_for_it(self) -> None:
        here = fleet(5)
        for name in ("0", "1"):
            assert here.leave_out(candidate(here, name), 0.0, 5.0, after=5)
        assert not here.leave_out(candidate(here, "2"), 0.0, 5.0, after=5)
        here.take(removed(instance("4")), 1.0)
        assert able(here, 1.0) == ["0", "1", "2", "3"]

    def test_is_of_nobody_who_is_gone(self) -> None:
        here = fleet(5)
        gone = candidate(here, "0")
        here.take(removed(instance("0")), 1.0)
        assert not here.leave_out(gone, 1.0, 5.0, after=5)
        here.take(appeared(instance("0", incarnation=2)), 1.0)
        # Its successor is another one.
        assert not here.leave_out(gone, 1.0, 5.0, after=5)
        assert len(able(here, 1.0)) == 5


class TestSubset:
    def test_is_as_large_as_it_says_and_stays_while_others_come_and_go(self) -> None:
        here = fleet(50, subset=10)
        before = set(able(here))
        assert len(before) == 10
        one = min(before)
        here.take(changed(instance(one, discoverable=False)), 1.0)
        after = set(able(here, 1.0))
        assert len(after) == 10
        # Only a successor has come in.
        assert before - after == {one}

    def test_is_another_one_for_each_client_and_all_are_used_about_alike(self) -> None:
        uses = Counter(name for number in range(200) for name in able(fleet(20, subset=5, client=str(number))))
        assert len(uses) == 20
        assert max(uses.values()) < 2 * 50

    @pytest.mark.parametrize(("near", "expected"), [(20, 5), (3, 3), (47, 7)])
    def test_is_half_near_where_there_is_a_zone(self, near: int, expected: int) -> None:
        here = Fleet("me", "eu-1a", 10)
        told = [instance(str(number), zone="eu-1a" if number < near else "eu-1b") for number in range(50)]
        here.take(snapshot(*told), 0.0)
        assert len(able(here)) == 10
        assert len(here.choice(0.0).near) == expected
