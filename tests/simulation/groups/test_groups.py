"""A handful of simulated histories of failovers; `make sim SEED="groups 7"` plays one of them again."""

from collections import Counter

import pytest

from tests.simulation.groups.world import Groups

SEEDS = range(1, 21)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_history_keeps_its_invariants(seed):
    Groups(seed).run()


def test_the_same_seed_is_the_same_history():
    assert Groups(7).run(300) == Groups(7).run(300)
    assert Groups(7).run(300) != Groups(8).run(300)


def test_the_histories_are_eventful():
    counts: Counter[str] = Counter()
    for seed in range(1, 7):
        world = Groups(seed)
        world.run()
        counts += world.counts
    events = {"MemberPromoted", "GroupReclaimed", "GroupFenced", "MemberFailed", "MemberRecovering", "FailoverEnded"}
    kinds = {
        "crash",
        "freeze",
        "child ends",
        "cut off",
        "ill",
        "failover",
        "twice",
        "stranger",
        "taken over",
        "lost",
        "late",
    }
    ends = {"ended: said", "ended: seen", "ended: lease"}
    assert {what: counts[what] for what in events | kinds | ends if counts[what] < 3} == {}
