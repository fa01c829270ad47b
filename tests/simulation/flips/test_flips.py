"""A handful of simulated histories of checks that fail together; `make sim SEED="flips 7"` runs one of them again."""

from collections import Counter

import pytest

from tests.simulation.flips import Flips

SEEDS = range(1, 9)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_history_keeps_its_invariants(seed):
    try:
        Flips(seed).run()
    except AssertionError as broken:
        raise AssertionError(f"make sim SEED='flips {seed}': {broken}") from broken


def test_the_histories_are_eventful():
    counts: Counter[str] = Counter()
    for seed in (2, 3, 7, 10, 12):
        flips = Flips(seed)
        flips.run()
        counts += flips.counts
    wanted = {
        "cut",
        "all die",
        "revives",
        "disputed",
        "most fell together",
        "well again in doubt",
        "taken over in doubt",
    }
    wanted |= {"late tick", "clock is set", "believed in time"}
    wanted |= {"believed: time", "believed: told", "believed: reported", "believed: observed", "seen answering"}
    assert {what: counts[what] for what in wanted if counts[what] < 3} == {}
