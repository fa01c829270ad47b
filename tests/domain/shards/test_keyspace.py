"""The keyspace decider: every command, every event, every refusal."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from domain.shards import keyspace
from domain.shards.keyspace import (
    AbandonCleanup,
    AssignShards,
    CommitMove,
    CreateKeyspace,
    EndMove,
    FenceShard,
    IntendCleanup,
    MoveShard,
    PinShard,
    ReclaimShard,
    ReportDropped,
    ReportOpened,
    StartMove,
    UnpinShard,
)
from domain.shards.shard import (
    CleanupAbandoned,
    CleanupDone,
    CleanupIntended,
    KeyspaceCreated,
    ShardFenced,
    ShardMoved,
    ShardMoveEnded,
    ShardMoveStarted,
    ShardOpened,
    ShardPinCleared,
    ShardPinSet,
    ShardReclaimed,
    ShardsAssigned,
)
from muster.wire.error import (
    KeyspaceNotFound,
    MoveInProgress,
    NoShardsAvailable,
    NotOwner,
    ShardNotFound,
    ShardPinned,
    StaleEpoch,
    VersionConflict,
)
from muster.wire.shards.driver import ShardLimits
from tests.given import after, given

MOVE = "keyspace/users/migration/1"
OTHER = "keyspace/users/migration/2"
CREATED = KeyspaceCreated(shards=4, value_bytes_max=1 << 20, shard_bytes_max=4 << 30)
ASSIGNED = ShardsAssigned(node="n1", shards=(0, 1, 2, 3))
OPENED = ShardOpened(shard=2, node="n1", epoch=1)
HERE = (CREATED, ASSIGNED, OPENED)
STARTED = ShardMoveStarted(shard=2, migration=MOVE, epoch=1, source="n1", target="n2")
INTENDED = CleanupIntended(shard=2, node="n2", epoch=2, migration=MOVE)
FENCED = ShardFenced(shard=2, migration=MOVE, epoch=1)
MOVED = ShardMoved(shard=2, migration=MOVE, epoch=2, owner="n2", was="n1")
RECLAIMED = ShardReclaimed(shard=2, migration=MOVE, epoch=2, owner="n1")
COMPLETED = ShardMoveEnded(shard=2, migration=MOVE, outcome="completed", cleaned=True)
ABORTED_LEFT = ShardMoveEnded(shard=2, migration=MOVE, outcome="aborted", cleaned=False)
MOVING = (*HERE, STARTED, INTENDED)
CUT = (*MOVING, FENCED)
STEP = {"shard": 2, "migration": MOVE, "epoch": 1}


def keyspace_of(*events):
    return given(*events, decider=keyspace)


class TestCreating:
    def test_its_shards_are_dealt_out_in_turn(self):
        after = (
            keyspace_of()
            .when(CreateKeyspace(shards=4, nodes=("n1", "n2", "n3")))
            .then(
                CREATED,
                ShardsAssigned(node="n1", shards=(0, 3)),
                ShardsAssigned(node="n2", shards=(1,)),
                ShardsAssigned(node="n3", shards=(2,)),
            )
        )
        assert {number: (shard.owner, shard.epoch, shard.status) for number, shard in after.shards.items()} == {
            0: ("n1", 1, "inactive"),
            1: ("n2", 1, "inactive"),
            2: ("n3", 1, "inactive"),
            3: ("n1", 1, "inactive"),
        }

    def test_without_nodes_nobody_owns_its_shards_yet(self):
        after = keyspace_of().when(CreateKeyspace(shards=4)).then(CREATED)
        assert after.shard(3).owner is None

    def test_it_keeps_its_limits(self):
        command = CreateKeyspace(shards=1, value_bytes_max=7, shard_bytes_max=9)
        after = keyspace_of().when(command).then(KeyspaceCreated(shards=1, value_bytes_max=7, shard_bytes_max=9))
        assert after.limits == ShardLimits(7, 9)

    def test_creating_it_again_as_it_is_changes_nothing_whatever_the_nodes(self):
        keyspace_of(CREATED).when(CreateKeyspace(shards=4, nodes=("n9",))).nothing()

    @pytest.mark.parametrize("change", [{"shards": 5}, {"value_bytes_max": 7}, {"shard_bytes_max": 7}], ids=str)
    def test_neither_its_shards_nor_its_limits_can_be_changed(self, change):
        keyspace_of(CREATED).when(CreateKeyspace(**{"shards": 4, **change})).refused(VersionConflict, shards=4)

    @pytest.mark.parametrize("shards", [0, 65_537])
    def test_there_is_a_least_and_a_most_number_of_shards(self, shards):
        with pytest.raises(ValidationError):
            CreateKeyspace(shards=shards)

    def test_a_node_is_named_once(self):
        with pytest.raises(ValidationError, match="named twice"):
            CreateKeyspace(shards=4, nodes=("n1", "n1"))


class TestAssigning:
    def test_only_shards_that_nobody_owns_are_dealt_out(self):
        keyspace_of(CREATED, ShardsAssigned(node="n1", shards=(1,))).when(AssignShards(nodes=("n2", "n3"))).then(
            ShardsAssigned(node="n2", shards=(0, 3)), ShardsAssigned(node="n3", shards=(2,))
        )

    def test_once_all_have_an_owner_there_is_nothing_to_do(self):
        keyspace_of(CREATED, ASSIGNED).when(AssignShards(nodes=("n2",))).nothing()

    def test_the_owner_opens_its_shard(self):
        after = keyspace_of(CREATED, ASSIGNED).when(ReportOpened(shard=2, node="n1", epoch=1)).then(OPENED)
        assert (after.shard(2).status, after.shard(1).status) == ("active", "inactive")

    def test_a_report_that_comes_again_while_the_shard_moves_changes_nothing(self):
        keyspace_of(*MOVING).when(ReportOpened(shard=2, node="n1", epoch=1)).nothing()

    def test_a_stranger_cannot_open_a_shard(self):
        keyspace_of(CREATED, ASSIGNED).when(ReportOpened(shard=2, node="n2", epoch=1)).refused(
            NotOwner, epoch=1, owner="n1"
        )

    def test_an_owner_of_another_epoch_cannot_open_a_shard(self):
        keyspace_of(*CUT, MOVED).when(ReportOpened(shard=2, node="n1", epoch=1)).refused(NotOwner, epoch=2, owner="n2")


class TestPins:
    def test_a_shard_is_pinned_once(self):
        keyspace_of(*HERE).when(PinShard(shard=2)).then(ShardPinSet(shard=2))

    def test_a_shard_is_unpinned_once(self):
        keyspace_of(*HERE, ShardPinSet(shard=2)).when(UnpinShard(shard=2)).then(ShardPinCleared(shard=2))

    def test_unpinning_what_is_not_pinned_changes_nothing(self):
        keyspace_of(*HERE).when(UnpinShard(shard=2)).nothing()

    def test_a_pinned_shard_does_not_move(self):
        keyspace_of(*HERE, ShardPinSet(shard=2)).when(StartMove(**STEP, target="n2")).refused(ShardPinned, shard=2)

    def test_an_unpinned_shard_moves_again(self):
        keyspace_of(*HERE, ShardPinSet(shard=2), ShardPinCleared(shard=2)).when(PinShard(shard=2)).then(
            ShardPinSet(shard=2)
        )


class TestStartingAMove:
    def test_it_takes_the_shard(self):
        command, state = StartMove(**STEP, target="n2"), keyspace_of(*HERE).state
        assert keyspace.decide(command, state) == [STARTED]
        shard = after(keyspace, state, STARTED).shard(2)
        assert (shard.status, shard.migration, shard.target, shard.latest) == ("migrating", MOVE, "n2", MOVE)

    def test_a_shard_moves_once_at_a_time(self):
        again = StartMove(shard=2, migration=OTHER, epoch=1, target="n3")
        keyspace_of(*HERE, STARTED).when(again).refused(MoveInProgress, migration=MOVE)

    def test_a_shard_that_nobody_has_opened_does_not_move(self):
        keyspace_of(CREATED, ASSIGNED).when(StartMove(**STEP, target="n2")).refused(NoShardsAvailable, shard=2)

    def test_a_shard_that_nobody_owns_does_not_move(self):
        keyspace_of(CREATED).when(StartMove(**STEP, target="n2")).refused(NoShardsAvailable, shard=2)

    def test_it_must_have_been_planned_with_the_epoch_of_now(self):
        start = StartMove(shard=2, migration=OTHER, epoch=1, target="n3")
        keyspace_of(*CUT, MOVED, COMPLETED).when(start).refused(StaleEpoch, epoch=2, owner="n2")

    def test_a_target_that_has_to_clean_up_first_is_refused(self):
        start = StartMove(shard=2, migration=OTHER, epoch=1, target="n2")
        keyspace_of(*MOVING, ABORTED_LEFT).when(start).refused(MoveInProgress, migration=MOVE)

    def test_a_target_that_has_cleaned_up_is_welcome(self):
        state = keyspace_of(*MOVING, ABORTED_LEFT, CleanupDone(shard=2, node="n2")).state
        start = StartMove(shard=2, migration=OTHER, epoch=1, target="n2")
        assert [type(event) for event in keyspace.decide(start, state)] == [ShardMoveStarted]

    def test_the_moves_of_a_keyspace_are_counted(self):
        assert keyspace_of(*CUT, MOVED, COMPLETED).state.moves == 1


class TestTheStepsOfAMove:
    def test_what_will_be_on_the_target_has_to_go_before_it_is_there(self):
        after = keyspace_of(*HERE, STARTED).when(IntendCleanup(**STEP, node="n2")).then(INTENDED)
        assert not after.cleanups[2, "n2"].due

    def test_the_fence_stops_the_owner(self):
        after = keyspace_of(*MOVING).when(FenceShard(**STEP)).then(FENCED)
        assert (after.shard(2).fenced, after.shard(2).owner, after.shard(2).epoch) == (True, "n1", 1)

    def test_the_commit_gives_the_shard_to_the_target_with_the_next_epoch(self):
        after = keyspace_of(*CUT).when(CommitMove(**STEP, target="n2")).then(MOVED)
        shard = after.shard(2)
        assert (shard.owner, shard.epoch, shard.fenced, shard.status) == ("n2", 2, False, "migrating")

    def test_behind_the_commit_it_is_the_source_that_has_to_be_cleaned(self):
        after = keyspace_of(*CUT, MOVED).state
        assert {place: (left.epoch, left.due) for place, left in after.cleanups.items()} == {(2, "n1"): (1, False)}

    def test_the_abort_gives_the_shard_back_with_the_next_epoch(self):
        after = keyspace_of(*CUT).when(ReclaimShard(**STEP)).then(RECLAIMED)
        assert (after.shard(2).owner, after.shard(2).epoch, after.shard(2).fenced) == ("n1", 2, False)

    def test_without_a_fence_there_is_nothing_to_reclaim(self):
        keyspace_of(*MOVING).when(ReclaimShard(**STEP)).nothing()

    def test_a_move_that_is_over_leaves_the_shard_free(self):
        after = keyspace_of(*CUT, MOVED).when(EndMove(**STEP, outcome="completed", cleaned=True)).then(COMPLETED)
        shard = after.shard(2)
        assert (shard.status, shard.migration, shard.target, shard.latest) == ("active", None, None, MOVE)
        assert not after.cleanups

    def test_a_move_that_leaves_something_behind_makes_its_intents_due(self):
        ended = EndMove(**STEP, outcome="aborted", cleaned=False)
        after = keyspace_of(*MOVING).when(ended).then(ABORTED_LEFT)
        assert after.cleanups[2, "n2"].due

    def test_a_move_ends_once(self):
        keyspace_of(*CUT, MOVED, COMPLETED).when(EndMove(**STEP, outcome="aborted", cleaned=True)).nothing()


class TestComparingAndSetting:
    def test_the_commit_needs_the_fence(self):
        keyspace_of(*MOVING).when(CommitMove(**STEP, target="n2")).refused(StaleEpoch, epoch=1, owner="n1")

    def test_behind_an_abort_there_is_no_commit(self):
        keyspace_of(*CUT, RECLAIMED).when(CommitMove(**STEP, target="n2")).refused(StaleEpoch, epoch=2, owner="n1")

    def test_behind_a_commit_there_is_no_abort(self):
        keyspace_of(*CUT, MOVED).when(ReclaimShard(**STEP)).refused(StaleEpoch, epoch=2, owner="n2")

    def test_a_fence_of_another_epoch_comes_too_late(self):
        keyspace_of(*CUT, RECLAIMED).when(FenceShard(**STEP)).refused(StaleEpoch, epoch=2, owner="n1")

    @pytest.mark.parametrize("kind", [FenceShard, ReclaimShard], ids=lambda kind: kind.__name__)
    def test_a_stranger_changes_nothing(self, kind):
        step = kind(shard=2, migration=OTHER, epoch=1)
        keyspace_of(*CUT).when(step).refused(MoveInProgress, migration=MOVE)

    def test_a_commit_of_a_move_that_is_over_is_refused(self):
        keyspace_of(*CUT, RECLAIMED, ABORTED_LEFT).when(CommitMove(**STEP, target="n2")).refused(MoveInProgress)


class TestCleaningUp:
    LEFT = (*MOVING, ABORTED_LEFT)

    def test_the_node_says_that_it_is_done(self):
        report = ReportDropped(shard=2, node="n2", migration=MOVE)
        after = keyspace_of(*self.LEFT).when(report).then(CleanupDone(shard=2, node="n2"))
        assert not after.cleanups

    def test_what_is_not_due_yet_is_not_done(self):
        keyspace_of(*MOVING).when(ReportDropped(shard=2, node="n2", migration=MOVE)).nothing()

    def test_a_report_about_another_move_is_late(self):
        keyspace_of(*self.LEFT).when(ReportDropped(shard=2, node="n2", migration=OTHER)).nothing()

    def test_a_node_without_an_intent_has_nothing_to_report(self):
        keyspace_of(*self.LEFT).when(ReportDropped(shard=2, node="n1", migration=MOVE)).nothing()

    def test_a_node_that_has_left_for_good_has_nothing_to_clean(self):
        abandoned = CleanupAbandoned(shard=2, node="n2")
        keyspace_of(*self.LEFT).when(AbandonCleanup(shard=2, node="n2")).then(abandoned)

    def test_what_is_not_due_yet_is_not_abandoned(self):
        keyspace_of(*MOVING).when(AbandonCleanup(shard=2, node="n2")).nothing()


NEEDS_A_KEYSPACE = [
    AssignShards(nodes=("n1",)),
    PinShard(shard=0),
    UnpinShard(shard=0),
    ReportOpened(shard=0, node="n1", epoch=1),
    ReportDropped(shard=0, node="n1", migration=MOVE),
    StartMove(shard=0, migration=MOVE, epoch=1, target="n2"),
    AbandonCleanup(shard=0, node="n1"),
]


def kind(command):
    return type(command).__name__


@pytest.mark.parametrize("command", NEEDS_A_KEYSPACE, ids=kind)
def test_without_a_keyspace_there_is_nothing_to_command(command):
    keyspace_of().when(command).refused(KeyspaceNotFound)


@pytest.mark.parametrize("command", NEEDS_A_KEYSPACE[1:], ids=kind)
def test_a_shard_behind_the_last_one_is_refused(command):
    keyspace_of(CREATED).when(command.model_copy(update={"shard": 4})).refused(ShardNotFound, shard=4)


def test_a_move_has_one_gate():
    with pytest.raises(ValidationError, match="leave out not_before"):
        MoveShard(shard=0, target="n2", hold=True, not_before="2026-01-02T12:00:00Z")


@pytest.mark.parametrize(
    ("history", "impossible", "reason"),
    [
        ((CREATED,), CREATED, "created twice"),
        ((CREATED, ASSIGNED), ASSIGNED, "assigned twice"),
        ((CREATED, ASSIGNED), ShardOpened(shard=2, node="n2", epoch=1), "opened by a stranger"),
        ((*HERE, STARTED), STARTED, "is being moved by"),
        (HERE, replace(STARTED, epoch=2), "not its owner's move"),
        (CUT, FENCED, "fenced twice"),
        (MOVING, replace(FENCED, epoch=2), "epoch gap"),
        (MOVING, MOVED, "without a fence"),
        (CUT, replace(MOVED, epoch=3), "epoch gap"),
        (CUT, replace(MOVED, was="n3"), "was n1's, not n3's"),
        ((*CUT, MOVED), RECLAIMED, "without a fence"),
        (CUT, COMPLETED, "fenced for ever"),
        (HERE, COMPLETED, "is moved by None"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_impossible_history_is_not_folded(history, impossible, reason):
    with pytest.raises(AssertionError, match=reason):
        keyspace_of(*history, impossible)
