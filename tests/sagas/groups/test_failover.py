"""The failover of a group, step by step: what each one waits for, hears, and leaves behind when it turns back."""

from dataclasses import replace

import pytest

from domain.groups import group
from domain.groups.commands import Failover
from domain.groups.member import (
    FencingFailed,
    GroupReclaimed,
    GroupServing,
    InSyncChanged,
    MemberPromoted,
    PrimaryEnded,
)
from domain.groups.state import FailoverEnded, FailoverStarted, GroupFenced, GroupRules, GroupSettingsChanged
from domain.saga import (
    INITIAL,
    AbortSaga,
    ForceComplete,
    PauseSaga,
    ReportStep,
    SagaBlocked,
    SagaCompensated,
    SagaCompleted,
    SkipStep,
    StepStalled,
)
from muster.wire.error import DataLossRefused, GroupNotFound, MemberNotFound, NoHealthyStandby, VerbNotAllowed
from sagas.catalogue import DEFINITIONS
from sagas.engine.decide import begin
from sagas.engine.definition import Ask
from sagas.group_failover import GROUP_FAILOVER
from tests.domain.groups.beginnings import (
    LEASE_OVER,
    SECOND,
    created,
    ended,
    group_of,
    here,
    joined,
    led,
    position,
    ready,
    silent,
    suspected,
)
from tests.given import after
from tests.sagas.story import Story, root

ASKED = "an operator asked for it"


def story_of(*events):
    return Story(INITIAL, group_of(*events).state, group, DEFINITIONS)


def begun(*events, **command):
    """The failover that the command begins, as far as it comes by itself."""
    told = wanted(*events, **command)
    assert told, "nothing has begun"
    return story_of(*events).after(told)


def wanted(*events, **command):
    return begin(Failover(**command), root("group/db", group_of(*events).state, group), GROUP_FAILOVER)[1]


def happens(story, *events):
    """The group goes on meanwhile; what its saga hears in that is reported to it, as its driver does."""
    story = replace(story, root=after(group, story.root, *events))
    heard = [ask.heard(story.root) for ask in story.pending if isinstance(ask, Ask)]
    found = next((one for one in heard if one is not None), None)
    if found is None:
        return story
    done = ReportStep(step=story.step, attempt=story.saga.attempt, outcome="done", result=dict(found.result or {}))
    return story.when(done)


def of_root(story):
    return [type(told) for told in story.events(of_root=True)]


def waits(story):
    return [ask.waits(story.root) for ask in story.pending if isinstance(ask, Ask)]


def planned(**settings):
    """An operator asks; db1 is to stop."""
    return begun(*led(**settings))


SAID = ended(how="said", detail="")
SERVES = GroupServing(member="db2", epoch=2)
BACK = GroupReclaimed(member="db1", failover=SECOND, epoch=2, incarnation=4)


class TestBeginning:
    @pytest.mark.parametrize(("how", "detail"), [("said", ""), ("seen", "exit code 137"), ("lease", LEASE_OVER)])
    def test_a_proven_end_leads_to_the_next_primary_in_one_decision(self, how, detail):
        story = begun(*led(), ended(how=how, detail=detail), automatic=True)
        assert of_root(story) == [FailoverStarted, MemberPromoted]
        told, promoted = story.events(of_root=True)
        assert (told.cause, told.evidence) == ("ended", f"db1 has ended ({how})" + (f": {detail}" if detail else ""))
        assert (promoted.member, promoted.epoch, promoted.was, promoted.ended) == ("db2", 2, "db1", how)
        assert (story.step, story.saga.results["fence"]["ended"]) == ("activate", how)

    def test_a_first_primary_has_nobody_to_wait_for(self):
        story = begun(*here(), automatic=True)
        [_, promoted] = story.events(of_root=True)
        assert (promoted.member, promoted.epoch, promoted.was, promoted.ended) == ("db1", 1, None, None)

    def test_where_one_leads_it_is_fenced_and_waited_for(self):
        story = planned()
        assert of_root(story) == [FailoverStarted, GroupFenced]
        assert (story.step, story.root.failover, story.root.ownership.holder) == ("fence", SECOND, "db1")
        assert waits(story) == ["db1 to stop, or for its lease of 2 s to run out"]

    @pytest.mark.parametrize(
        ("events", "cause"),
        [((silent("db1"), suspected("db1")), "suspected"), ((), "operator")],
        ids=["two kinds of observers", "an operator"],
    )
    def test_it_says_why(self, events, cause):
        story = begun(*led(), *events, automatic=bool(events))
        assert story.events(of_root=True)[0].cause == cause

    @pytest.mark.parametrize(
        ("events", "command"),
        [
            (led(), {"automatic": True}),
            ((*led(), silent("db1")), {"automatic": True}),
            (created(), {"automatic": True}),
            (led(), {"to": "db1"}),
        ],
        ids=["all is well", "one kind of observers", "nobody is there", "it leads already"],
    )
    def test_what_is_led_as_wanted_needs_none(self, events, command):
        assert wanted(*events, **command) == []

    def test_it_counts_on_where_the_last_one_was(self):
        assert begun(*led(), SAID, automatic=True).saga.id == SECOND

    @pytest.mark.parametrize(
        ("events", "command", "refusal"),
        [
            ((), {}, GroupNotFound),
            (led(), {"to": "db9"}, MemberNotFound),
            ((*led(), silent("db2"), silent("db3")), {}, NoHealthyStandby),
            ((*led(), silent("db3")), {"to": "db3"}, NoHealthyStandby),
            (led(in_sync=("db1",), synchronous=True), {}, DataLossRefused),
        ],
        ids=["no group", "no such member", "nobody is well", "the wanted one is ill", "nobody has all"],
    )
    def test_without_a_chance_there_is_no_saga_and_the_primary_goes_on(self, events, command, refusal):
        with pytest.raises(refusal):
            wanted(*events, **command)

    def test_a_second_one_is_refused_to_an_operator_and_not_begun_by_itself(self):
        under_way = planned().root
        with pytest.raises(VerbNotAllowed):
            begin(Failover(), root("group/db", under_way, group), GROUP_FAILOVER)
        _, told = begin(Failover(automatic=True), root("group/db", under_way, group), GROUP_FAILOVER)
        assert told == []


class TestTheFence:
    @pytest.mark.parametrize("how", ["said", "seen", "lease"])
    def test_any_proof_of_the_end_is_enough(self, how):
        story = happens(planned(), ended(how=how, detail="x"))
        [promoted] = story.events(of_root=True)
        assert (promoted.member, promoted.ended, story.step) == ("db2", how, "activate")

    @pytest.mark.parametrize("news", [silent("db1"), suspected("db1"), joined("db1", "p2")], ids=lambda told: told.type)
    def test_a_suspicion_is_none(self, news):
        assert happens(planned(), news).step == "fence"

    def test_where_nobody_wants_to_wait_it_goes_on_at_once(self):
        story = planned(fencing="unfenced")
        assert of_root(story) == [FailoverStarted, GroupFenced, MemberPromoted]
        assert story.saga.results["fence"] == {"ended": "unfenced"}

    def test_a_hook_may_prove_the_end_too_and_the_promotion_says_so(self):
        joins = replace(joined("db2"), fences=True), ready("db2")
        # Its runner has joined anew, so that it is one that can fence.
        story = begun(*led(fencing="hook"), *joins, silent("db1"), automatic=True)
        assert story.events(of_root=True)[0].cause == "suspected"
        assert waits(story) == ["db2 to fence db1; db1 to stop, or for its lease of 2 s to run out"]
        story = happens(story, FencingFailed(member="db2", primary="db1", epoch=1, attempt=1, why="no such volume"))
        assert waits(story) == ["db2 to fence db1 (1 times in vain); db1 to stop, or for its lease of 2 s to run out"]
        story = happens(story, ended(how="hook", detail="db2 has fenced it"))
        [promoted] = story.events(of_root=True)
        assert (promoted.member, promoted.was, promoted.ended) == ("db2", "db1", "hook")
        assert story.saga.results["fence"] == {"ended": "hook"}

    def test_the_word_and_the_lease_are_as_good_where_hooks_may_fence(self):
        for how in ("said", "seen", "lease"):
            story = happens(planned(fencing="hook"), ended(how=how, detail="x"))
            assert (story.step, story.root.ownership.owner) == ("activate", "db2")

    def test_one_that_takes_long_is_told(self):
        planned().runs_out("stalled").then(StepStalled(step="fence", attempt=1, seconds=5.0))

    def test_it_has_no_attempts_to_run_out(self):
        assert {timer.kind for timer in planned().timers} == {"window", "stalled"}

    def test_when_the_window_is_over_the_primary_goes_on_with_another_epoch(self):
        story = planned().runs_out("window")
        cause = "the cut-over took longer than 30 s"
        assert story.events(of_root=True) == [
            BACK,
            FailoverEnded(failover=SECOND, outcome="timeout", detail=cause),
        ]
        assert story.events()[-1] == SagaCompensated(cause=cause)
        assert (story.root.ownership.holder, story.root.ownership.fenced, story.root.gave_up) == ("db1", False, cause)

    def test_how_long_that_is_the_group_says(self):
        story = planned(failover_seconds=5.0)
        # It was pinned when the failover began: what is set meanwhile holds for the next one.
        story = happens(story, GroupSettingsChanged(settings=GroupRules(failover_seconds=90.0)))
        assert [timer.seconds for timer in story.timers if timer.kind == "window"] == [5.0]
        assert story.runs_out("window").events()[-1] == SagaCompensated(cause="the cut-over took longer than 5 s")

    def test_a_failover_of_before_that_was_a_setting_has_thirty_seconds(self):
        story = planned()
        data = {name: found for name, found in story.saga.data.items() if name != "failover_seconds"}
        story = replace(story, saga=replace(story.saga, data=data))
        assert [timer.seconds for timer in story.timers if timer.kind == "window"] == [30.0]

    def test_aborted_it_goes_on_too(self):
        story = planned().when(AbortSaga())
        assert story.events(of_root=True)[0] == BACK
        assert story.events(of_root=True)[1].outcome == "aborted"

    @pytest.mark.parametrize("verb", [PauseSaga(), SkipStep(step="fence"), ForceComplete()], ids=lambda verb: verb.type)
    def test_nobody_talks_it_out_of_the_proof(self, verb):
        planned().refused(verb, VerbNotAllowed)

    def test_a_late_word_of_what_was_heard_changes_nothing(self):
        story = planned()
        done = ReportStep(step="fence", attempt=1, outcome="done", result={})
        happens(story, SAID).nothing(done)
        story.when(AbortSaga()).nothing(done)

    def test_whoever_could_take_over_may_be_gone_meanwhile(self):
        story = happens(planned(), silent("db2"), silent("db3"), SAID)
        [over] = story.events(of_root=True)
        assert over.outcome == "refused"
        assert over.detail.startswith("promote: NoHealthyStandby: no member can take over: db1: recovering")
        assert (story.saga.ended, story.root.primary, story.root.gave_up) == (True, None, over.detail)

    def test_a_primary_that_had_ended_is_not_given_its_epoch_back(self):
        story = happens(planned(), silent("db2"), silent("db3"), SAID)
        assert GroupReclaimed not in of_root(story)
        assert story.root.ownership.epoch == 1


class TestComparing:
    def ended(self, *positions):
        return happens(begun(*led(max_lag=10), position("db1", 100)), *positions, SAID)

    def test_the_candidates_are_asked_how_far_their_copies_reach(self):
        story = self.ended()
        assert (story.step, waits(story)) == ("compare", ["db2, db3 to say how far their copies reach"])
        story = happens(story, position("db2", 95))
        assert waits(story) == ["db3 to say how far their copies reach"]
        [promoted] = happens(story, position("db3", 99)).events(of_root=True)
        assert promoted.member == "db2"
        assert happens(story, position("db3", 99)).saga.results["compare"] == {
            "positions": {"db1": 100, "db2": 95, "db3": 99}
        }

    def test_one_that_is_too_far_behind_is_passed_over(self):
        [promoted] = self.ended(position("db2", 80), position("db3", 99)).events(of_root=True)[-1:]
        assert promoted.member == "db3"
        assert "db2" in {told.member for told in promoted.passed_over if "20 behind" in told.why}

    def test_one_that_is_silent_is_waited_for_only_so_long(self):
        story = happens(self.ended(), position("db3", 99))
        assert story.step == "compare"
        [promoted] = story.runs_out("wait").events(of_root=True)
        assert promoted.member == "db3"

    def test_if_nobody_reaches_far_enough_it_is_given_up_and_the_group_waits(self):
        story = happens(self.ended(), position("db2", 50), position("db3", 60))
        [over] = story.events(of_root=True)
        assert (over.outcome, story.root.primary) == ("refused", None)
        assert "DataLossRefused" in over.detail

    def test_the_primary_that_was_to_stop_does_not_come_back_because_it_is_ready_first(self):
        story = happens(planned(max_lag=10), SAID, ready("db1"))
        assert waits(story) == ["db1, db2, db3 to say how far their copies reach"]
        story = happens(story, position("db1", 100), position("db2", 95), position("db3", 95))
        [promoted] = story.events(of_root=True)
        assert promoted.member == "db2"
        [db1] = [told.why for told in promoted.passed_over if told.member == "db1"]
        assert db1 == "db2 comes first: the failover leads away from it"

    def test_an_operator_may_accept_that(self):
        story = begun(*led(max_lag=10), position("db1", 100), accept_data_loss=True)
        story = happens(story, SAID, position("db2", 50), position("db3", 60))
        [promoted] = story.events(of_root=True)
        assert (promoted.member, promoted.lossy) == ("db3", True)

    def test_in_a_synchronous_group_the_recorded_set_decides(self):
        grown = InSyncChanged(member="db1", epoch=1, version=2, in_sync=("db1", "db3"), cause="caught_up")
        [_, promoted] = begun(*led(in_sync=("db1",), synchronous=True), grown, SAID, automatic=True).events(
            of_root=True
        )
        assert (promoted.member, promoted.in_sync) == ("db3", ("db3",))


class TestBehindThePivot:
    def test_the_new_primary_says_that_it_serves(self):
        story = happens(planned(), SAID)
        assert waits(story) == ["db2 to serve: its promote hook is not done"]
        story = happens(story, SERVES)
        assert story.events(of_root=True) == [FailoverEnded(failover=SECOND, outcome="completed", detail="")]
        assert story.events()[-1] == SagaCompleted()
        assert (story.root.failover, story.root.serving) == (None, True)

    def test_one_that_ends_before_it_serves_is_lost_and_the_next_is_due(self):
        story = happens(planned(), SAID)
        story = happens(story, ended("db2", 2))
        assert story.events(of_root=True) == [
            FailoverEnded(failover=SECOND, outcome="lost", detail="the new primary ended before it served")
        ]
        assert begun_again(story).events(of_root=True)[-1].member == "db3"

    def test_a_hook_that_takes_long_holds_up_nobody(self):
        story = happens(planned(), SAID).runs_out("wait")
        assert story.events(of_root=True)[0].outcome == "completed"
        assert not story.root.serving

    def test_there_is_no_way_back(self):
        happens(planned(), SAID).refused(AbortSaga(), VerbNotAllowed)

    @pytest.mark.parametrize("verb", [SkipStep(step="activate"), ForceComplete()], ids=lambda verb: verb.type)
    def test_an_operator_may_stop_to_wait_for_its_hook(self, verb):
        story = happens(planned(), SAID).when(verb)
        assert story.saga.ended
        assert not [told for told in story.events() if isinstance(told, SagaBlocked)]

    def test_the_window_is_over_with_the_promotion(self):
        assert {timer.kind for timer in happens(planned(), SAID).timers} == {"wait"}


def begun_again(story):
    _, told = begin(Failover(automatic=True), root("group/db", story.root, group), GROUP_FAILOVER)
    return Story(INITIAL, story.root, group, DEFINITIONS).after(told)


def test_settings_may_change_while_it_is_under_way():
    story = happens(planned(), GroupSettingsChanged(settings=GroupRules(fencing="unfenced")))
    [promoted] = story.events(of_root=True)
    assert (promoted.member, promoted.ended) == ("db2", None)
    assert not any(isinstance(told, PrimaryEnded) for told in story.events(of_root=True))
