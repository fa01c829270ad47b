"""A handful of simulated histories; `make sim` runs more of them, `make sim SEED=…` one of them again."""

from collections import Counter

import pytest

from tests.simulation import KINDS, Simulation

SEEDS = range(1, 22)
EMBEDDED_SEEDS = range(1, 5)
embedded_steps = 700  # SQLite takes twice as long.


@pytest.mark.parametrize("seed", SEEDS)
def test_a_history_keeps_its_invariants(seed):
    try:
        Simulation(seed).run()
    except AssertionError as broken:
        raise AssertionError(f"make sim SEED={seed}: {broken}") from broken


@pytest.mark.parametrize("seed", EMBEDDED_SEEDS)
def test_a_history_in_a_file_whose_disk_gets_full_keeps_its_invariants(seed):
    try:
        Simulation(seed, embedded=True).run(embedded_steps)
    except AssertionError as broken:
        raise AssertionError(f"make sim SEED='embedded {seed}': {broken}") from broken


def test_the_same_seed_is_the_same_history():
    assert Simulation(7).run(600) == Simulation(7).run(600)
    assert Simulation(7).run(600) != Simulation(8).run(600)


def test_the_histories_are_eventful():
    counts: Counter[str] = Counter()
    for seed in (3, 6, 7):
        simulation = Simulation(seed)
        simulation.run()
        counts += simulation.counts
    answers = {"accepted", "accepted again", "unchanged", "unchanged again", "refused", "Timeout", "NotReady", "proven"}
    answers |= {"expired", "void", "no snapshot"}
    assert {what: counts[what] for what in {*KINDS, *answers} if counts[what] < 3} == {}
