"""The migration of a shard: every step, every compensation, and what makes it turn back."""

from pathlib import Path

import pytest

from domain.saga import (
    INITIAL,
    AbortSaga,
    CompensationStarted,
    ForceComplete,
    PauseSaga,
    ResumeSaga,
    RetryStep,
    SagaBlocked,
    SagaCompensated,
    SagaCompleted,
    SagaStarted,
    SkipStep,
    StepSucceeded,
)
from domain.shards import cluster, keyspace
from domain.shards.keyspace import MoveShard
from domain.shards.node import (
    AttestSilence,
    NodeJoined,
    NodeLost,
    NodeRemoved,
    NodeSilenceAttested,
    ReleaseSlots,
    ReserveSlots,
    SlotsGranted,
    SlotsQueued,
)
from domain.shards.shard import (
    CleanupIntended,
    KeyspaceCreated,
    ShardFenced,
    ShardMoved,
    ShardMoveEnded,
    ShardMoveStarted,
    ShardOpened,
    ShardPinSet,
    ShardReclaimed,
    ShardsAssigned,
)
from muster.wire.error import KeyspaceNotFound, MoveInProgress, ShardNotFound, ShardPinned, VerbNotAllowed
from sagas.catalogue import DEFINITIONS
from sagas.engine.decide import begin
from sagas.engine.definition import Ask, Delegate, Wait
from sagas.shard_migration import SHARD_MIGRATION
from tests.given import after
from tests.sagas.story import Story, expire
from tests.sagas.story import root as root_of_saga

KEYSPACE = "keyspace/users"
ID = "keyspace/users/migration/1"
HERE = (
    KeyspaceCreated(shards=4, value_bytes_max=7, shard_bytes_max=9),
    ShardsAssigned(node="n1", shards=(0, 1, 2, 3)),
    ShardOpened(shard=2, node="n1", epoch=1),
)
JOINED = tuple(
    NodeJoined(node=node, address=f"{node}:7400", zone="", capacity=1, lease_seconds=5, process="p", store=node)
    for node in ("n1", "n2")
)
HELD = (
    *JOINED,
    SlotsQueued(saga=ID, source="n1", target="n2"),
    SlotsGranted(saga=ID, source="n1", target="n2"),
)
LOST = NodeLost(node="n1", incarnation=0, lease_seconds=5)
FINAL = {"position": 12, "digest": "ab", "records": 3, "bytes": 30}
ABOUT = {"keyspace": "users", "shard": 2}
LIMITS = {"value_bytes_max": 7, "shard_bytes_max": 9}
STARTED = ShardMoveStarted(shard=2, migration=ID, epoch=1, source="n1", target="n2")
INTENDED = CleanupIntended(shard=2, node="n2", epoch=2, migration=ID)
FENCED = ShardFenced(shard=2, migration=ID, epoch=1)
MOVED = ShardMoved(shard=2, migration=ID, epoch=2, owner="n2", was="n1")
RECLAIMED = ShardReclaimed(shard=2, migration=ID, epoch=2, owner="n1")
ALL_UNDONE = ("reclaim", "reactivate", "discard", "unreserve", "abandon")


def ended(outcome, *, cleaned):
    return ShardMoveEnded(shard=2, migration=ID, outcome=outcome, cleaned=cleaned)


def done(step, next=None, attempt=1, **result):
    return StepSucceeded(step=step, attempt=attempt, result=result, next=next)


def seen(*events):
    """The cluster, as these events made it."""
    return after(cluster, cluster.INITIAL, *events)


def task(kind, node="n2", *, epoch=2, **params):
    return Delegate(node, kind, {**ABOUT, "epoch": epoch, **params})


def keyspace_root(state):
    """The keyspace as the root of its moves."""
    return root_of_saga(KEYSPACE, state, keyspace)


def move(*more, **how):
    """A move of the shard 2 from n1 to n2, as it has just started."""
    root = after(keyspace, keyspace.INITIAL, *HERE, *more)
    command = MoveShard(shard=2, target="n2", **how)
    _, told = begin(command, keyspace_root(root), SHARD_MIGRATION)
    return Story(INITIAL, root, keyspace, DEFINITIONS).after(told)


def at(step, **how):
    """The move once it has come to the step; `not_before` and `hold` stop it at the gate."""
    story = move(**how)
    for name in ("reserve", "prepare", "copy", "catch_up", "verify"):
        if story.step == step:
            return story
        story = heard(story, *HELD) if name == "reserve" else story.done()
    if story.step == "gate" and step != "gate":
        story = story.when(ResumeSaga())
    for act in (
        lambda told: told.done(extent=FINAL),
        lambda told: told.done(extent=FINAL),
        lambda told: told.done(),
        lambda told: told.done(),
        lambda told: answered(told),
        lambda told: told.runs_out("wait"),
    ):
        if story.step == step:
            return story
        story = act(story)
    assert story.step == step
    return story


def back(step, cause="drain"):
    """The aborted move once it has come to the compensation."""
    story = at(cause).when(AbortSaga())
    for act in (lambda told: told.done(), lambda told: told.done(), answered):
        if story.step == step:
            return story
        story = act(story)
    assert story.step == step
    return story


def heard(story, *events):
    """What the saga hears when the cluster stands like this; nothing: None."""
    for action in story.pending:
        if isinstance(action, Ask) and action.heard is not None and (told := action.heard(seen(*events))) is not None:
            if told.error is not None:
                return story.when(_nobody(story, "failed", error=told.error, final=True))
            return story.when(_nobody(story, "done", result=dict(told.result)))
    return None


def answered(story):
    """The cluster has answered what needs no more than its answer."""
    assert [ask.heard for ask in story.pending] == [None]
    return story.when(_nobody(story, "done"))


def _nobody(story, outcome, **more):
    return story.report(outcome, None, **more).model_copy(update={"node": None})


class TestStarting:
    def test_the_plan_takes_the_shard_in_the_same_decision(self):
        story = move()
        [first] = [told.event for told in story.told if isinstance(told.event, SagaStarted)]
        story.then(first, STARTED, done("plan", "reserve"))
        assert (first.saga, first.definition, first.version) == (ID, "shard_migration", 1)

    def test_what_it_is_about_is_fixed(self):
        [first, *_] = move(bytes_per_second=5_000, soak_seconds=2, cleanup_seconds=3).events()
        assert first.data == {
            **ABOUT,
            "epoch": 1,
            "source": "n1",
            "target": "n2",
            "limits": LIMITS,
            "bytes_per_second": 5_000,
            "hold": False,
            "not_before": None,
            "soak_seconds": 2.0,
            "cleanup_seconds": 3.0,
        }

    @pytest.mark.parametrize(
        ("history", "shard", "refusal"),
        [
            ((), 2, KeyspaceNotFound),
            (HERE, 4, ShardNotFound),
            ((*HERE, ShardPinSet(shard=2)), 2, ShardPinned),
            ((*HERE, STARTED), 2, MoveInProgress),
        ],
        ids=lambda value: getattr(value, "__name__", ""),
    )
    def test_what_cannot_move_is_refused_and_there_is_no_saga(self, history, shard, refusal):
        root = after(keyspace, keyspace.INITIAL, *history)
        with pytest.raises(refusal):
            begin(MoveShard(shard=shard, target="n3"), keyspace_root(root), SHARD_MIGRATION)

    @pytest.mark.parametrize("history", [(*HERE, STARTED), (*HERE, STARTED, FENCED, MOVED)], ids=["coming", "here"])
    def test_a_shard_that_is_or_comes_where_it_should_stays(self, history):
        root = after(keyspace, keyspace.INITIAL, *history)
        assert begin(MoveShard(shard=2, target="n2"), keyspace_root(root), SHARD_MIGRATION)[1] == []


class TestForward:
    def test_reserve_asks_the_cluster_for_slots_and_hears_of_them(self):
        story = move()
        [ask, _] = story.pending
        assert (ask.command, ask.decisive) == (ReserveSlots(saga=ID, source="n1", target="n2"), True)
        assert heard(story, *JOINED, SlotsQueued(saga=ID, source="n1", target="n2")) is None
        assert heard(story, *HELD).step == "prepare"

    def test_reserve_has_no_end_but_says_when_it_stalls(self):
        assert {timer.kind: timer.seconds for timer in move().timers} == {"stalled": 300.0}

    def test_intend_says_what_has_to_go_before_anything_is_there(self):
        heard(move(), *HELD).then(done("reserve", "intend"), INTENDED, done("intend", "prepare"))

    def test_prepare_has_the_target_make_a_hidden_copy_for_the_next_epoch(self):
        assert at("prepare").tasks == [task("prepare")]

    @pytest.mark.parametrize("step", ["copy", "catch_up", "verify"])
    def test_the_target_pulls_from_the_source_as_fast_as_it_may(self, step):
        pulling = task(step, source="n1", bytes_per_second=5_000)
        assert at(step, bytes_per_second=5_000).tasks == [pulling]

    def test_copy_lasts_as_long_as_it_makes_progress(self):
        assert {timer.kind: timer.seconds for timer in at("copy").timers} == {"timeout": 30.0, "stalled": 3_600.0}

    def test_an_open_gate_leads_straight_to_the_fence(self):
        at("verify").done().then(done("verify", "gate"), done("gate", "close"), FENCED, done("close", "fence"))

    def test_a_held_gate_waits_for_an_operator(self):
        story = at("gate", hold=True)
        assert (story.pending, story.timers) == ((Wait("it is held for an operator to resume"),), ())
        story.when(ResumeSaga()).then(done("gate", "close"), FENCED, done("close", "fence"))

    def test_a_maintenance_window_is_waited_for(self):
        story = at("gate", not_before="2026-01-03T02:00:00Z")
        assert [wait.until.isoformat() for wait in story.pending] == ["2026-01-03T02:00:00+00:00"]
        story.when(expire("wait", "gate")).until("fence")

    def test_fence_has_the_source_stop_and_say_where_it_ended(self):
        story = at("fence")
        assert story.tasks == [task("fence", "n1", epoch=1)]
        story.done(extent=FINAL).then(done("fence", "drain", extent=FINAL))

    def test_fence_is_content_with_a_source_whose_lease_is_over(self):
        story = at("fence")
        [ask] = [action for action in story.pending if isinstance(action, Ask)]
        assert (ask.command, ask.decisive) == (AttestSilence(node="n1", saga=ID), False)
        assert heard(story, *HELD, LOST) is None
        silent = heard(story, *HELD, LOST, NodeSilenceAttested(node="n1", saga=ID))
        silent.then(done("fence", "drain", silent="n1"))

    @pytest.mark.parametrize("extent", [None, {}, {"position": 12}, "12"], ids=str)
    def test_fence_takes_no_answer_without_an_extent(self, extent):
        assert at("fence").done(extent=extent).saga.phase == "compensating"

    def test_drain_has_the_target_follow_to_where_the_source_ended(self):
        assert at("drain").tasks == [task("drain", source="n1", final=FINAL)]

    def test_drain_still_wants_the_fence_of_a_source_that_was_only_silent(self):
        story = heard(at("fence"), *HELD, LOST, NodeSilenceAttested(node="n1", saga=ID))
        draining, fencing, _ = story.pending
        assert (draining, fencing) == (
            task("drain", source="n1", final=None),
            Delegate("n1", "fence", {**ABOUT, "epoch": 1}, assist=True),
        )
        story.nothing(story.report("done", "n1", result={"extent": FINAL}))
        story.done(extent=FINAL).until("activate")

    def test_the_commit_is_in_the_same_decision_as_the_sagas_event(self):
        at("drain").done(extent=FINAL).then(done("drain", "commit", extent=FINAL), MOVED, done("commit", "activate"))

    @pytest.mark.parametrize("wrong", [{**FINAL, "position": 11}, {**FINAL, "digest": "cd"}, None], ids=str)
    def test_a_target_that_does_not_hold_what_the_source_ended_with_does_not_take_over(self, wrong):
        after = at("drain").done(extent=wrong)
        assert after.saga.phase == "compensating"
        assert MOVED not in after.events(of_root=True)

    def test_activate_has_the_target_serve_with_the_new_epoch(self):
        assert at("activate").tasks == [task("activate", limits=LIMITS)]

    def test_publish_tells_the_source_who_serves(self):
        assert at("publish").tasks == [task("retire", "n1", owner="n2")]

    def test_release_gives_the_slots_back(self):
        [ask] = at("release").pending
        assert (ask.command, ask.heard) == (ReleaseSlots(saga=ID), None)

    def test_soak_keeps_the_sources_copy_for_a_while(self):
        assert [(timer.kind, timer.seconds) for timer in at("soak", soak_seconds=2, cleanup_seconds=3).timers] == [
            ("wait", 5.0)
        ]

    def test_clean_has_the_source_drop_its_copy(self):
        assert at("clean").tasks == [task("drop", "n1", epoch=1)]

    def test_complete_ends_the_move_with_nothing_left(self):
        at("clean").done().then(
            done("clean", "complete"), ended("completed", cleaned=True), done("complete"), SagaCompleted()
        )

    @pytest.mark.parametrize("step", ["activate", "publish", "clean"])
    def test_behind_the_commit_it_is_tried_for_ever(self, step):
        story = at(step)
        for _ in range(20):
            story = story.runs_out("timeout").runs_out("retry")
        assert (story.step, story.saga.standing) == (step, "running")
        story.done()

    def test_a_target_that_does_not_serve_is_never_left_out(self):
        story = at("activate").fails(final=True)
        assert isinstance(story.events()[-1], SagaBlocked)
        assert story.allowed == ("retry", "force-complete")
        assert story.when(ForceComplete()).step == "activate"

    def test_a_target_that_is_removed_before_it_serves_blocks_the_move_and_keeps_the_sources_copy(self):
        story = heard(at("activate"), *JOINED, NodeRemoved(node="n2"))
        assert (story.step, story.saga.standing) == ("activate", "blocked")
        assert not story.root.cleanups[2, "n1"].due

    @pytest.mark.parametrize("step", ["publish", "clean"])
    def test_an_error_that_is_final_behind_the_commit_is_blocked_with_verbs(self, step):
        story = at(step).fails(final=True)
        assert isinstance(story.events()[-1], SagaBlocked)
        assert story.allowed == ("retry", "skip", "force-complete")

    def test_a_copy_that_was_left_behind_by_force_is_due_to_be_cleaned(self):
        story = answered(at("publish").when(ForceComplete()))
        assert (story.saga.phase, story.events(of_root=True)) == ("completed", [ended("completed", cleaned=False)])
        assert story.root.cleanups[2, "n1"].due

    def test_a_skipped_clean_is_due(self):
        story = at("clean").when(SkipStep(step="clean"))
        assert story.events(of_root=True) == [ended("completed", cleaned=False)]
        assert story.root.cleanups[2, "n1"].due


class TestBack:
    @pytest.mark.parametrize(
        ("step", "undo"),
        [
            ("reserve", ("unreserve", "abandon")),
            ("prepare", ("discard", "unreserve", "abandon")),
            ("copy", ("discard", "unreserve", "abandon")),
            ("catch_up", ("discard", "unreserve", "abandon")),
            ("verify", ("discard", "unreserve", "abandon")),
            ("gate", ("discard", "unreserve", "abandon")),
            ("fence", ALL_UNDONE),
            ("drain", ALL_UNDONE),
        ],
    )
    def test_an_abort_undoes_what_was_done_from_the_end(self, step, undo):
        story = at(step, hold=step == "gate").when(AbortSaga())
        assert story.events()[0] == CompensationStarted(step=step, cause="aborted", undo=undo)

    def test_reclaim_gives_the_shard_back_with_a_new_epoch(self):
        at("drain").when(AbortSaga()).then(
            CompensationStarted(step="drain", cause="aborted", undo=ALL_UNDONE),
            RECLAIMED,
            done("reclaim", "reactivate"),
        )

    def test_reactivate_has_the_source_serve_with_the_new_epoch(self):
        assert back("reactivate").tasks == [task("activate", "n1", limits=LIMITS)]

    def test_discard_has_the_target_drop_its_copy(self):
        assert back("discard").tasks == [task("drop")]

    def test_unreserve_gives_the_slots_back_or_the_place_in_the_queue(self):
        [ask] = back("unreserve").pending
        assert (ask.command, ask.heard) == (ReleaseSlots(saga=ID), None)

    def test_abandon_ends_the_move_with_nothing_left(self):
        answered(back("unreserve")).then(
            done("unreserve", "abandon"),
            ended("aborted", cleaned=True),
            done("abandon"),
            SagaCompensated(cause="aborted"),
        )

    def test_the_window_turns_it_back_by_itself(self):
        story = at("drain").runs_out("window")
        assert story.events()[0].cause == "the cut-over took longer than 10 s"
        assert story.events(of_root=True) == [RECLAIMED]

    def test_a_refused_reservation_turns_it_back(self):
        story = move()
        refused = story.when(_nobody(story, "failed", error="NodeCordoned: n2 is cordoned", final=True))
        assert (refused.step, refused.saga.cause) == ("unreserve", "reserve: NodeCordoned: n2 is cordoned")

    @pytest.mark.parametrize("step", ["reserve", "prepare", "copy", "catch_up", "verify", "drain"])
    def test_a_target_that_was_removed_turns_it_back(self, step):
        after = heard(at(step), *JOINED, NodeRemoved(node="n2"))
        assert after.saga.phase == "compensating"

    @pytest.mark.parametrize("step", ["copy", "catch_up", "verify"])
    def test_a_source_that_was_removed_turns_it_back(self, step):
        assert heard(at(step), *JOINED, NodeRemoved(node="n1")).saga.phase == "compensating"

    @pytest.mark.parametrize(("step", "node"), [("reactivate", "n1"), ("discard", "n2")])
    def test_there_is_nothing_to_undo_on_a_node_that_was_removed(self, step, node):
        after = heard(back(step), *JOINED, NodeRemoved(node=node))
        assert after.saga.results[step] == {"removed": node}

    def test_what_a_removed_target_may_hold_stays_due(self):
        story = answered(heard(back("discard"), *JOINED, NodeRemoved(node="n2")))
        assert story.events(of_root=True) == [ended("aborted", cleaned=False)]
        assert story.root.cleanups[2, "n2"].due

    @pytest.mark.parametrize("step", ["publish", "clean"])
    def test_behind_the_commit_a_removed_source_is_done_with(self, step):
        assert heard(at(step), *JOINED, NodeRemoved(node="n1")).step in ("release", None)

    def test_behind_the_commit_there_is_no_way_back(self):
        at("activate").refused(AbortSaga(), VerbNotAllowed, allowed="pause, force-complete")

    def test_a_compensation_that_fails_is_blocked_until_it_is_skipped_or_tried_again(self):
        story, fails = back("discard"), 5
        for attempt in range(1, fails + 1):
            story = story.fails("down")
            story = story.runs_out("retry") if attempt < fails else story
        assert story.allowed == ("retry", "skip")
        assert story.when(RetryStep()).done().step != "discard"
        assert story.when(SkipStep(step="discard")).step != "discard"

    def test_giving_the_shard_back_to_its_source_is_tried_for_ever_and_never_left_out(self):
        story = back("reactivate")
        for _ in range(20):
            story = story.runs_out("timeout").runs_out("retry")
        assert "skip" not in story.allowed
        assert story.done().step != "reactivate"

    def test_a_discard_that_was_skipped_is_due(self):
        story = answered(back("discard").when(SkipStep(step="discard")))
        assert story.root.cleanups[2, "n2"].due

    def test_giving_the_slots_back_is_tried_for_ever(self):
        story = back("unreserve")
        for _ in range(20):
            story = story.runs_out("timeout").runs_out("retry")
        assert answered(story).saga.phase == "compensated"


class TestTheCutOver:
    @pytest.mark.parametrize("step", ["fence", "drain"])
    def test_it_cannot_be_paused(self, step):
        at(step).refused(PauseSaga(), VerbNotAllowed, allowed="abort")

    @pytest.mark.parametrize("step", ["fence", "drain"])
    def test_it_is_bounded(self, step):
        assert ("window", 10.0) in {(timer.kind, timer.seconds) for timer in at(step).timers}

    def test_its_bound_is_counted_from_the_fence_not_from_the_last_attempt(self):
        story = at("fence")
        [window] = [timer for timer in story.timers if timer.kind == "window"]
        assert window in story.done(extent=FINAL).timers
        assert window in story.done(extent=FINAL).fails().timers

    def test_commit_and_abort_cannot_both_win(self):
        story = at("drain")
        committed, aborted = story.done(extent=FINAL), story.when(AbortSaga())
        committed.refused(AbortSaga(), VerbNotAllowed).nothing(expire("window", "close"))
        aborted.nothing(story.report("done", "n2", result={"extent": FINAL}))

    def test_a_commit_whose_fence_is_gone_is_refused_and_turns_back(self):
        story = at("drain")
        root = after(keyspace, story.root, RECLAIMED)
        turned = Story(story.saga, root, keyspace, DEFINITIONS).done(extent=FINAL)
        assert turned.saga.phase == "compensating"
        assert MOVED not in turned.events(of_root=True)


def test_every_step_and_every_compensation_is_spoken_of_here():
    told = Path(__file__).read_text()
    names = [step.name for step in (*SHARD_MIGRATION.steps, *SHARD_MIGRATION.compensations)]
    assert [name for name in names if f'"{name}"' not in told] == []
