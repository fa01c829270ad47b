"""The limit in flight by windows, and the budget of retries."""

from collections import Counter
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.balance.budget import Budget
from muster.balance.limit import SHARES, Limit, Priority

PRIORITIES: tuple[Priority, ...] = ("low", "normal", "high", "critical")


def answer(limit: Limit, calls: int, overloaded: int, now: float) -> None:
    """So many calls at once, of which so many find too much; all have ended by `now`."""
    for _ in range(calls):
        limit.admits("critical", now)
        limit.in_flight += 1
    for number in range(calls):
        limit.answered(number < overloaded, now)
        limit.in_flight -= 1


def window(limit: Limit, under_way: int, overloaded: int, now: float) -> None:
    """A window of twenty answers, so many of them overloaded, of a client that has always so many calls under way."""
    limit.in_flight = under_way
    for number in range(20):
        for _ in range(5):
            limit.admits("critical", now)
        limit.answered(number < overloaded, now)


windows = st.lists(st.tuples(st.integers(1, 60), st.floats(0.0, 1.0), st.floats(0.05, 2.0)), max_size=30)


@given(windows, st.sampled_from(PRIORITIES))
def test_the_less_important_is_refused_first_and_nobody_for_ever(
    told: list[tuple[int, float, float]], priority: Priority
) -> None:
    limit, now = Limit(), 0.0
    for calls, share, pause in told:
        now += pause
        answer(limit, calls, int(calls * share), now)
        allowed = [limit.allowed(each) for each in PRIORITIES]
        assert allowed == sorted(allowed)
    assert limit.in_flight == 0
    # Nothing is under way: it is let in within some calls, and at once by a client that calls rarely.
    assert limit.admits(priority, now + 2.0)
    limit.mean = 60.0
    assert any(limit.admits(priority, now + 2.0) for _ in range(60))


def admitted(limit: Limit, seconds: float = 0.02) -> dict[Priority, float]:
    """Which part of a call each 10 ms is let in, each priority in turn, when each call takes so long."""
    ends, found = list[float](), Counter[Priority]()
    for number in range(4_000):
        now, priority = number / 100, PRIORITIES[number * 7 % 13 % 4]
        while ends and ends[0] <= now:
            ends.pop(0)
            limit.in_flight -= 1
        if limit.admits(priority, now):
            limit.in_flight += 1
            ends.append(now + seconds)
            found[priority] += 1
    asked = Counter(PRIORITIES[number * 7 % 13 % 4] for number in range(4_000))
    return {priority: found[priority] / asked[priority] for priority in PRIORITIES}


@pytest.mark.parametrize("calls", [1.0, 1.3, 1.7])
def test_a_limit_of_one_call_and_a_part_is_shared_by_priority(calls: float) -> None:
    # With all of them two and a half would be under way.
    limit = Limit()
    limit.calls = calls
    low, normal, high, critical = admitted(limit, seconds=0.025).values()
    assert critical > 0.95
    assert low <= normal + 0.01
    assert normal <= high <= critical
    assert low < 0.2


@given(st.lists(st.tuples(st.integers(1, 200), st.floats(0.01, 2.0)), max_size=40))
def test_without_overload_nobody_is_refused(told: list[tuple[int, float]]) -> None:
    limit, now = Limit(), 0.0
    for calls, pause in told:
        now += pause
        # Each twentieth answer is no overload: it may be an instance that hangs.
        for number in range(calls):
            limit.answered(number % 20 == 19, now)
        for _ in range(calls):
            assert limit.admits("low", now)
            limit.in_flight += 1
        for _ in range(calls):
            limit.in_flight -= 1
    assert limit.calls == inf


@given(windows)
def test_it_is_gone_once_calls_are_answered_again(told: list[tuple[int, float, float]]) -> None:
    limit, now = Limit(), 0.0
    for calls, share, pause in told:
        now += pause
        answer(limit, calls, int(calls * share), now)
    for _ in range(400):
        now += 0.1
        # As many as may be, up to ten at once.
        for _ in range(10):
            if limit.admits("critical", now):
                limit.in_flight += 1
        while limit.in_flight:
            limit.answered(False, now)
            limit.in_flight -= 1
    assert limit.calls == inf


def test_the_first_window_of_overload_leaves_what_was_under_way_and_each_further_one_a_fifth_less() -> None:
    limit = Limit()
    window(limit, 100, 3, 0.5)
    assert limit.calls == pytest.approx(100, rel=0.01)
    assert {priority: limit.allowed(priority) for priority in PRIORITIES} == {
        priority: pytest.approx(limit.calls * share) for priority, share in SHARES.items()
    }
    for now in (1.0, 1.5):
        assert not limit.admits("low", now)
        window(limit, 100, 3, now)
    assert limit.calls == pytest.approx(64, rel=0.01)
    # Also where refusals have made what is under way less than that meanwhile: else it would fall without end.
    assert not limit.admits("low", 1.6)
    window(limit, 40, 3, 1.7)
    assert limit.calls == pytest.approx(51, rel=0.01)
    # A limit that has refused nobody says nothing, where less is under way.
    window(limit, 5, 0, 2.0)
    window(limit, 5, 3, 2.5)
    assert limit.calls == pytest.approx(5, rel=0.1)


def test_a_calm_window_gives_a_twentieth_and_after_five_without_a_refusal_it_is_gone() -> None:
    limit = Limit()
    limit.calls, limit.mean = 10.0, 20.0
    for now in (0.5, 1.0, 1.5):
        window(limit, 20, 2, now)
    assert limit.calls == pytest.approx(10 * 1.05**3)
    limit.mean = 0.0
    for now in (2.0, 2.5, 3.0, 3.5):
        window(limit, 0, 2, now)
    assert limit.calls < inf
    window(limit, 0, 2, 4.0)
    assert limit.calls == inf


def test_a_limit_that_was_lifted_comes_back_with_the_next_overload() -> None:
    limit = Limit()
    window(limit, 100, 3, 0.5)
    assert not limit.admits("low", 0.6)
    limit.lift()
    assert limit.admits("low", 0.7)
    window(limit, 100, 3, 1.2)
    assert limit.calls == pytest.approx(100, rel=0.01)


def test_it_is_never_less_than_one_call() -> None:
    limit = Limit()
    for now in range(1, 30):
        window(limit, 0, 20, float(now))
    assert limit.calls == 1.0


def test_twenty_answers_within_a_moment_are_no_window() -> None:
    limit = Limit()
    answer(limit, 100, 100, 0.05)
    assert limit.calls == inf
    answer(limit, 1, 1, 0.1)
    assert limit.calls < inf


def test_few_answers_are_enough_where_it_is_plain() -> None:
    plain, vague = Limit(), Limit()
    answer(plain, 8, 4, 0.6)
    answer(vague, 8, 3, 0.6)
    assert plain.calls < inf
    assert vague.calls == inf


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=500), st.floats(0.0, 0.2), st.integers(1, 1_000))
def test_attempts_are_at_most_a_fifth_more_than_calls_and_ten(
    told: list[tuple[bool, int]], share: float, under_way: int
) -> None:
    budget, attempts = Budget(), 0
    for is_good, wants in told:
        attempts += 1
        if is_good:
            budget.earn(share, under_way)
        attempts += sum(budget.take() for _ in range(wants))
    assert attempts <= (1 + share) * len(told) + 10 + 1e-6
    assert budget.taken + budget.refused == sum(wants for _, wants in told)


def test_a_client_that_has_called_nobody_yet_may_retry_ten_times() -> None:
    budget = Budget()
    assert [budget.take() for _ in range(11)] == [True] * 10 + [False]


def test_no_more_retries_are_saved_up_than_calls_are_under_way_and_ten_at_least() -> None:
    for under_way, saved in ((1, 10), (10, 10), (50, 50)):
        budget = Budget()
        for _ in range(1_000):
            budget.earn(0.2, under_way)
        assert [budget.take() for _ in range(saved + 1)] == [True] * saved + [False]


def test_what_was_saved_while_many_calls_were_under_way_is_gone_with_them() -> None:
    budget = Budget()
    for _ in range(1_000):
        budget.earn(0.2, 50)
    budget.earn(0.2, 1)
    assert budget.left == 10
