"""Moves under faults: every step, and everything that can go wrong at it."""

from collections import Counter

import pytest

from domain.driver import ShardId
from tests.simulation.chaos import Chaos
from tests.simulation.faults import BACK, FORWARD, HARMLESS, KINDS, STEPS, play

PIVOT = FORWARD.index("commit")
SHARD = ShardId("users", 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", STEPS)
def test_a_move_comes_to_its_end_whatever_happens(step, kind):
    world, fault = play(step, kind)
    assert fault.fired, "nothing went wrong"
    [ended] = world.controller.views.sagas.values()
    told = world.shard(SHARD)
    assert (told.owner, ended.phase) in (("n2", "completed"), ("n1", "compensated"))
    if step in BACK:
        assert ended.phase == "compensated"
    elif kind in HARMLESS:
        assert ended.phase == "completed"
    elif kind == "abort":
        assert ended.phase == ("compensated" if 0 < FORWARD.index(step) <= PIVOT else "completed")
    elif kind == "target removed" and step not in ("drain", "commit"):
        # There the target's last answer may have come in just before.
        assert ended.phase == ("compensated" if FORWARD.index(step) < PIVOT else "completed")


@pytest.mark.parametrize("seed", range(1, 11))
def test_many_moves_come_to_their_end_whatever_happens(seed):
    Chaos(seed).run()


def test_the_same_seed_is_the_same_history():
    assert Chaos(7).run(200) == Chaos(7).run(200)
    assert Chaos(7).run(200) != Chaos(8).run(200)


def test_the_histories_are_eventful():
    counts: Counter[str] = Counter()
    for seed in (1, 4, 6):
        chaos = Chaos(seed)
        chaos.run()
        counts += chaos.counts
    eventful = {
        "SagaCompleted",
        "SagaCompensated",
        "ShardReclaimed",
        "NodeLost",
        "NodeReturned",
        "NodeRejoined",
        "NodeSilenceAttested",
        "StepRetried",
        "StepSkipped",
        "CleanupDone",
        "lost",
        "late",
        "twice",
        "crash before",
        "crash after the record",
        "node crash after the effect",
    }
    assert {what: counts[what] for what in eventful if counts[what] < 2} == {}
