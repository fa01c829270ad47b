"""Moves under faults: every step, and everything that can go wrong at it."""

from collections import Counter

import pytest

from muster.wire.shards.driver import ShardId
from tests.simulation.chaos import Chaos
from tests.simulation.faults import BACK, FORWARD, HARMLESS, KINDS, STEPS, play
from tests.simulation.moves import Fault, Moves

PIVOT = FORWARD.index("commit")
SHARD = ShardId("users", 0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", STEPS)
def test_a_move_comes_to_its_end_whatever_happens(step, kind):
    world, fault = play(step, kind)
    assert fault.fired, "nothing went wrong"
    [ended] = world.controller.views.sagas.values()
    told = world.shard(SHARD)
    stranded = kind == "target removed" and (ended.step, ended.standing) == ("activate", "blocked")
    assert (told.owner, ended.phase) in (("n2", "completed"), ("n1", "compensated")) or stranded
    if stranded:
        assert step in ("drain", "commit", "activate")
        assert not world.controller.views.keyspaces["users"].cleanups[0, "n1"].due
    elif step in BACK:
        assert ended.phase == "compensated"
    elif kind in HARMLESS:
        assert ended.phase == "completed"
    elif kind == "abort":
        assert ended.phase == ("compensated" if 0 < FORWARD.index(step) <= PIVOT else "completed")
    elif kind == "target removed" and step not in ("drain", "commit"):
        # There the target's last answer may have come in just before.
        assert ended.phase == ("compensated" if FORWARD.index(step) < PIVOT else "completed")


class CrashHalfWay(Fault):
    """The target dies over the part of this number of its copy."""

    def __init__(self, part: int) -> None:
        self.left = part

    def works_on(self, world, node, task):
        self.left -= task.kind == "copy"
        if self.left == 0:
            self.left = -1
            world.nodes[node].crash(2.0)
            return False
        return True


@pytest.mark.parametrize("part", [1, 2, 3])
@pytest.mark.parametrize("seed", range(1, 6))
def test_an_interrupted_copy_goes_on_and_misses_nothing_that_was_written_meanwhile(seed, part):
    world = Moves(seed, CrashHalfWay(part))
    world.move()
    world.settle()
    assert [saga.phase for saga in world.controller.views.sagas.values()] == ["completed"]


@pytest.mark.parametrize("seed", range(1, 11))
def test_many_moves_come_to_their_end_whatever_happens(seed):
    Chaos(seed).run()


def test_the_same_seed_is_the_same_history():
    assert Chaos(7).run(200) == Chaos(7).run(200)
    assert Chaos(7).run(200) != Chaos(8).run(200)


def test_the_histories_are_eventful():
    counts: Counter[str] = Counter()
    for seed in (3, 5, 7, 9):
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
