"""A handful of histories of published commands; `make sim SEED=commands` plays more, `make sim SEED="commands 7"` one again."""

from collections import Counter

import pytest

from tests.simulation.commands import KINDS, Commands


@pytest.mark.parametrize("seed", [1, 2, 3, 5, 6, 16, 17, 20])
def test_a_history_of_published_commands_keeps_its_invariants(seed):
    try:
        Commands(seed).run()
    except AssertionError as broken:
        raise AssertionError(f"make sim SEED='commands {seed}': {broken}") from broken


def test_the_same_seed_is_the_same_history():
    assert Commands(7).run(200) == Commands(7).run(200)
    assert Commands(7).run(200) != Commands(8).run(200)


def test_the_histories_are_eventful():
    counts: Counter[str] = Counter()
    for seed in (1, 2, 5, 17):
        simulation = Commands(seed)
        simulation.run()
        counts += simulation.counts
    told = {"accepted", "without effect", "wrong partition", "taken back", "told twice", "garbage told", "no snapshot"}
    assert {what: counts[what] for what in {*KINDS, *told} if counts[what] < 3} == {}
