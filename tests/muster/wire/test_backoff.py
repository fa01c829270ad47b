"""Pauses that double, up to the most, between half and all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.wire.backoff import pause_seconds


@pytest.mark.parametrize(("tries", "pause"), [(0, 0.05), (1, 0.1), (2, 0.2), (5, 1.0), (10_000, 1.0)])
def test_it_doubles_up_to_the_most(tries: int, pause: float) -> None:
    assert pause_seconds(tries, 0.05, 1.0) == pytest.approx(pause)


@given(st.integers(0, 50), st.floats(0, 1))
def test_chance_takes_at_most_half_of_it(tries: int, share: float) -> None:
    whole = pause_seconds(tries, 0.01, 2.0)
    assert whole / 2 <= pause_seconds(tries, 0.01, 2.0, share) <= whole
