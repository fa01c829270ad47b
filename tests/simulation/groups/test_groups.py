"""A handful of simulated histories of failovers; `make sim SEED="groups 7"` plays one of them again."""

from collections import Counter
from functools import cache

import pytest

from tests.simulation.groups.world import Groups

SEEDS = range(1, 21)


@cache
def played(seed: int) -> Groups:
    """The history of the seed, to its end."""
    world = Groups(seed)
    world.run()
    return world


@pytest.mark.parametrize("seed", SEEDS)
def test_a_history_keeps_its_invariants(seed):
    played(seed)


def test_the_same_seed_is_the_same_history():
    assert Groups(7).run(300) == Groups(7).run(300)
    assert Groups(7).run(300) != Groups(8).run(300)


def test_the_histories_are_eventful():
    counts: Counter[str] = sum((played(seed).counts for seed in SEEDS), Counter())
    events = {"MemberPromoted", "GroupReclaimed", "GroupFenced", "MemberFailed", "MemberRecovering", "FailoverEnded"}
    events |= {"InSyncChanged", "MemberSuspected", "MemberTrusted", "GroupPaused", "GroupResumed", "FencingFailed"}
    kinds = {
        "crash",
        "freeze",
        "falls",
        "child ends",
        "cut off",
        "ill",
        "looks ill",
        "maintained",
        "failover",
        "twice",
        "stranger",
        "taken over",
        "lost",
        "late",
        "powered off",
        "acknowledged",
        "sign of life",
        "DataLossRefused",
        "NoHealthyStandby",
    }
    ends = {"ended: said", "ended: seen", "ended: lease", "ended: hook"}
    causes = {f"cause: {cause}" for cause in ("operator", "ended", "failed", "suspected", "preferred")}
    assert {what: counts[what] for what in events | kinds | ends | causes if counts[what] < 3} == {}
