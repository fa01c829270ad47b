"""What a call would cost, for anything that may have been seen before."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from muster.balance.load import (
    NEWCOMER_SHARE_MIN,
    InstanceLoad,
    cost,
    failure_seconds,
    mean_after,
    observed,
    observed_at_least,
)

seconds = st.floats(0.0, 100.0)
pauses = st.floats(0.0, 50.0)


@st.composite
def seen(draw: st.DrawFn) -> tuple[InstanceLoad, float]:
    """A load after any history, and the time at its end."""
    load, now = InstanceLoad(draw(st.integers(1, 100))), 1_000.0
    load.in_flight = draw(st.integers(0, 1_000))
    for took, pause, is_whole in draw(st.lists(st.tuples(seconds, pauses, st.booleans()), max_size=10)):
        now += pause
        (observed if is_whole else observed_at_least)(load, took, now)
    return load, now


def with_more_calls(load: InstanceLoad) -> InstanceLoad:
    more = InstanceLoad(load.weight, load.came_at)
    more.cost_seconds, more.observed_at, more.in_flight = load.cost_seconds, load.observed_at, load.in_flight + 1
    return more


@given(seen(), pauses, seconds)
def test_a_call_more_under_way_always_costs_more(case: tuple[InstanceLoad, float], pause: float, mean: float) -> None:
    load, now = case
    assert cost(with_more_calls(load), now + pause, mean) > cost(load, now + pause, mean)


@given(seen(), st.floats(1.0, 50.0))
def test_what_nobody_calls_becomes_cheaper(case: tuple[InstanceLoad, float], pause: float) -> None:
    load, now = case
    if load.observed_at != -inf:
        later = cost(load, now + pause, 1.0)
        assert later < cost(load, now, 1.0) or load.cost_seconds < 1e-9
        assert cost(load, now + 1_000.0, 1.0) < 1e-4 * (load.in_flight + 1)


@given(seen(), seconds)
def test_a_slow_answer_counts_at_once_and_a_quick_one_by_and_by(case: tuple[InstanceLoad, float], took: float) -> None:
    load, now = case
    before = load.cost_seconds
    observed(load, took, now + 1.0)
    assert load.cost_seconds >= took
    assert load.cost_seconds <= max(took, before)


@given(seen(), seconds)
def test_a_call_that_was_given_up_never_makes_an_instance_look_quicker(
    case: tuple[InstanceLoad, float], took: float
) -> None:
    load, now = case
    before = cost(load, now + 1.0, 0.0)
    observed_at_least(load, took, now + 1.0)
    assert cost(load, now + 1.0, 0.0) >= before
    assert cost(load, now + 1.0, 0.0) >= took * (load.in_flight + 1) / load.weight


@given(seconds, st.lists(seconds, max_size=200), st.floats(0.0, 10.0))
def test_a_failure_is_never_cheaper_than_a_success(took: float, answers: list[float], least: float) -> None:
    mean = 0.0
    for answer in answers:
        mean = mean_after(mean, answer)
    counted = failure_seconds(took, least, mean)
    assert counted >= took
    assert counted >= least
    # Also where calls take long: a second would look quick there.
    assert counted >= 3 * mean


def test_a_newcomer_begins_with_a_tenth_of_its_share_and_has_all_of_it_in_the_end() -> None:
    load = InstanceLoad(1, came_at=100.0)
    whole = cost(InstanceLoad(1), 100.0, 0.02)
    assert [round(whole / cost(load, now, 0.02, 30.0), 3) for now in (100.0, 103.0, 115.0, 130.0)] == [
        NEWCOMER_SHARE_MIN,
        0.1,
        0.5,
        1.0,
    ]
    # Without the setting it is as any other.
    assert cost(load, 100.0, 0.02) == whole


def test_weight_divides_the_cost() -> None:
    assert cost(InstanceLoad(4), 0.0, 0.02) == cost(InstanceLoad(1), 0.0, 0.02) / 4
