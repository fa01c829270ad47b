"""The checker of a log of moves: it is content with what happens, and names what cannot have happened."""

from dataclasses import replace
from functools import cache

import pytest

from domain.message import Recorded
from domain.saga import (
    AbortSaga,
    CompensationStarted,
    SagaBlocked,
    SagaCompensated,
    SagaStarted,
    StepFailed,
    StepRetried,
    StepSkipped,
    StepSucceeded,
)
from domain.shards.node import NodeSilenceAttested, SlotsGranted, SlotsQueued, SlotsReleased
from domain.shards.shard import (
    CleanupDone,
    CleanupIntended,
    ShardFenced,
    ShardMoved,
    ShardMoveEnded,
    ShardMoveStarted,
    ShardOpened,
    ShardReclaimed,
    ShardsAssigned,
)
from tests.sagas.tampered import breaches, changed, followed_by, owed, renumbered, tampered, without
from tests.simulation.faults import play
from tests.simulation.moves import Moves

MOVE = "keyspace/users/migration/1"


@cache
def completed() -> tuple[Recorded, ...]:
    world = Moves(3)
    world.move()
    world.settle()
    return tuple(world.history)


@cache
def aborted() -> tuple[Recorded, ...]:
    """Turned back from `drain`."""
    world = Moves(3)
    world.nodes["n2"].world.works_on = lambda node, task: task.step != "drain"
    world.move()
    world.until(lambda: world.controller.sagas[0].step == "drain")
    world.ask(MOVE, AbortSaga())
    world.settle()
    return tuple(world.history)


def silent() -> tuple[Recorded, ...]:
    """The source did not answer its fence; its lease ran out."""
    world, _ = play("fence", "source's lease lost")
    return tuple(world.history)


@pytest.mark.parametrize("history", [completed, aborted, silent], ids=lambda history: history.__name__)
def test_it_is_content_with_what_happens(history):
    assert owed(history()) == []


DONE, BACK = completed, aborted


@pytest.mark.parametrize(
    ("history", "kind", "step", "tamper", "number"),
    [
        (DONE, ShardsAssigned, None, followed_by(ShardsAssigned(node="n2", shards=(0,))), "I1"),
        (DONE, ShardOpened, None, changed(node="n2"), "I4"),
        (DONE, ShardMoveStarted, None, changed(epoch=2), "I1"),
        (DONE, ShardMoveStarted, None, changed(source="n2"), "I1"),
        (DONE, ShardFenced, None, changed(epoch=2), "I1"),
        (DONE, ShardMoved, None, changed(epoch=3), "I1"),
        (DONE, ShardMoved, None, changed(was="n2"), "I1"),
        (BACK, ShardReclaimed, None, changed(epoch=1), "I1"),
        (BACK, ShardReclaimed, None, changed(owner="n2"), "I1"),
        (DONE, StepSucceeded, "commit", without, "I4"),
        (DONE, ShardMoved, None, without, "I4"),
        (DONE, ShardMoved, None, lambda recorded: [recorded._replace(command_id="another")], "I4"),
        (DONE, ShardFenced, None, without, "I5"),
        (DONE, StepSucceeded, "fence", without, "I5"),
        (DONE, SlotsGranted, None, followed_by(NodeSilenceAttested(node="n1", saga=MOVE)), "I5"),
        (BACK, ShardReclaimed, None, without, "I6"),
        (DONE, StepSucceeded, "activate", followed_by(CompensationStarted(step="publish", cause="c", undo=())), "I7"),
        (BACK, CompensationStarted, None, followed_by(CompensationStarted(step="drain", cause="c", undo=())), "I7"),
        (BACK, StepSucceeded, "discard", changed(step="commit"), "I8"),
        (DONE, StepSucceeded, "copy", changed(next="verify"), "I7"),
        (BACK, CompensationStarted, None, changed(undo=("discard", "reclaim", "unreserve", "abandon")), "I8"),
        (BACK, StepSucceeded, "discard", changed(step="unreserve"), "I8"),
        (DONE, ShardMoveStarted, None, followed_by(
            ShardMoveStarted(shard=0, migration="keyspace/users/migration/2", epoch=1, source="n1", target="n3")), "I9"),
        (DONE, ShardFenced, None, changed(migration="keyspace/users/migration/2"), "I9"),
        (DONE, ShardMoveEnded, None, without, "I9"),
        (DONE, SlotsGranted, None, followed_by(
            SlotsQueued(saga="m2", source="n2", target="n3"), SlotsGranted(saga="m2", source="n2", target="n3")), "I9"),
        (DONE, CleanupIntended, None, without, "I11"),
        (DONE, StepSucceeded, "clean", changed(result={"removed": "n1"}), "I11"),
        (DONE, ShardMoveEnded, None, followed_by(CleanupDone(shard=0, node="n1")), "I11"),
        (DONE, SlotsQueued, None, without, "I14"),
        (DONE, StepSucceeded, "copy", lambda recorded: [recorded, recorded], "I14"),
        (DONE, StepSucceeded, "copy", changed(attempt=2), "I14"),
        (DONE, StepSucceeded, "prepare", followed_by(StepRetried(step="copy", attempt=3, by_hand=False)), "I14"),
        (DONE, StepSucceeded, "prepare", followed_by(StepFailed(step="copy", attempt=2, error="e", retry_seconds=1)), "I14"),
        (DONE, SagaStarted, None, lambda recorded: [recorded, recorded], "I14"),
        (DONE, SagaStarted, None, without, "I14"),
        (BACK, SagaCompensated, None, followed_by(StepSkipped(step="gate", next="close")), "I14"),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", ""),
)  # fmt: skip
def test_what_cannot_have_happened_is_named(history, kind, step, tamper, number):
    found = tampered(history(), kind, tamper, step)
    assert number in {breach.split(": ", 1)[1].split()[0] for breach in found}, found


def test_a_breach_says_where():
    [breach] = breaches([completed()[0]._replace(version=7, position=42)])
    assert breach == "0@42 keyspace/users: I14 version 7 where 0 was due"


def test_a_version_that_is_left_out_or_repeated_is_named():
    history = completed()
    assert breaches([*history[:5], history[4]])
    assert breaches([*history[:5], *history[6:]])


class TestOwed:
    def test_a_saga_that_goes_on(self):
        assert f"I6 {MOVE} is at copy" in owed(up_to(completed(), "prepare"))

    def test_not_one_that_is_blocked(self):
        history = up_to(aborted(), "reactivate")
        failed = StepFailed(step="discard", attempt=1, error="e", retry_seconds=None)
        blocked = SagaBlocked(step="discard", attempt=1, error="e")
        assert owed(renumbered([*history, *(history[-1]._replace(event=event) for event in (failed, blocked))])) == []

    def test_a_clean_up_that_is_due(self):
        ended = next(recorded for recorded in aborted() if isinstance(recorded.event, ShardMoveEnded))
        left = [
            recorded._replace(event=replace(recorded.event, cleaned=False)) if recorded is ended else recorded
            for recorded in aborted()
        ]
        assert owed(left) == ["I11 keyspace/users/0 is to be cleaned up on n2"]

    def test_slots_of_a_saga_that_has_ended(self):
        kept = [recorded for recorded in completed() if not isinstance(recorded.event, SlotsReleased)]
        assert owed(renumbered(kept)) == [f"I9 {MOVE} has ended, but holds slots"]

    def test_a_silence_that_nobody_has_attested(self):
        unheard = [recorded for recorded in silent() if not isinstance(recorded.event, NodeSilenceAttested)]
        found = owed(renumbered(unheard))
        assert found == [f"I5 {MOVE} relied on the silence of n1, which nobody has attested"]

    def test_a_commit_that_was_cut_off_from_the_sagas_event(self):
        history = list(completed())
        at = next(index for index, recorded in enumerate(history) if isinstance(recorded.event, ShardMoved))
        assert any("stands alone" in told for told in owed(history[: at + 1]))


def up_to(history: tuple[Recorded, ...], step: str) -> list[Recorded]:
    """The history up to where the step is done."""
    at = next(
        index
        for index, recorded in enumerate(history)
        if isinstance(recorded.event, StepSucceeded) and recorded.event.step == step
    )
    return list(history[: at + 1])
