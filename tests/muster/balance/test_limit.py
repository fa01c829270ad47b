"""The limit in flight by windows, and the budget of retries."""

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
        limit.begun()
    for number in range(calls):
        limit.answered(number < overloaded, now)
        limit.ended()


windows = st.lists(st.tuples(st.integers(1, 60), st.floats(0.0, 1.0), st.floats(0.05, 2.0)), max_size=30)


@given(windows)
def test_the_less_important_is_refused_first_and_one_call_is_always_let_in(
    told: list[tuple[int, float, float]],
) -> None:
    limit, now = Limit(), 0.0
    for calls, share, pause in told:
        now += pause
        answer(limit, calls, int(calls * share), now)
        allowed = [limit.allowed(priority) for priority in PRIORITIES]
        assert allowed == sorted(allowed)
        assert allowed[0] >= 1
        assert all(limit.admits(priority) for priority in PRIORITIES)
    assert limit.in_flight == 0


@given(st.lists(st.tuples(st.integers(1, 200), st.floats(0.01, 2.0)), max_size=40))
def test_without_overload_nobody_is_refused(told: list[tuple[int, float]]) -> None:
    limit, now = Limit(), 0.0
    for calls, pause in told:
        now += pause
        # Each twentieth answer is no overload: it may be an instance that hangs.
        for number in range(calls):
            limit.answered(number % 20 == 19, now)
        for _ in range(calls):
            assert limit.admits("low")
            limit.begun()
        for _ in range(calls):
            limit.ended()
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
        answer(limit, int(min(10, limit.allowed("critical"))), 0, now)
    assert limit.calls == inf or limit.allowed("low") >= 10


def test_a_window_of_overload_leaves_four_fifths_of_what_was_under_way() -> None:
    limit = Limit()
    answer(limit, 100, 11, 1.0)
    # The first window ends with its twentieth answer, of which eleven were bad; the next ones are calm.
    assert limit.calls == pytest.approx(80)
    assert {priority: limit.allowed(priority) for priority in PRIORITIES} == {
        priority: pytest.approx(80 * share) for priority, share in SHARES.items()
    }


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


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=500), st.floats(0.0, 0.2))
def test_attempts_are_at_most_a_fifth_more_than_calls_and_ten(told: list[tuple[bool, int]], share: float) -> None:
    budget, attempts = Budget(), 0
    for is_good, wants in told:
        attempts += 1
        if is_good:
            budget.earn(share)
        attempts += sum(budget.take() for _ in range(wants))
    assert attempts <= (1 + share) * len(told) + 10 + 1e-6
    assert budget.taken + budget.refused == sum(wants for _, wants in told)


def test_a_client_that_has_called_nobody_yet_may_retry_ten_times() -> None:
    budget = Budget()
    assert [budget.take() for _ in range(11)] == [True] * 10 + [False]


def test_no_more_than_ten_retries_are_saved_up() -> None:
    budget = Budget()
    for _ in range(1_000):
        budget.earn(0.2)
    assert [budget.take() for _ in range(11)] == [True] * 10 + [False]
