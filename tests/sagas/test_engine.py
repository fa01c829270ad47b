"""The engine's rules, each as a sentence, on a saga that is not a migration."""

from dataclasses import replace
from functools import reduce

import pytest

from domain import saga as saga_decider
from domain.registry import service
from domain.registry.instance import (
    InstanceDeregistered,
    InstanceDrainStarted,
    InstanceMaintenanceCleared,
    InstanceMaintenanceSet,
    InstanceMetadataChanged,
)
from domain.saga import (
    INITIAL,
    AbortSaga,
    CompensationStarted,
    ForceComplete,
    PauseSaga,
    ReportProgress,
    ReportStep,
    ResumeSaga,
    RetryStep,
    SagaBlocked,
    SagaCompensated,
    SagaCompleted,
    SagaForced,
    SagaPaused,
    SagaResumed,
    SagaStarted,
    SagaUpgraded,
    SkipStep,
    StepFailed,
    StepRetried,
    StepSkipped,
    StepStalled,
    StepSucceeded,
    UpgradeSaga,
)
from domain.stage import Blocked, StepUnderWay
from muster.wire.error import VerbNotAllowed
from sagas.engine import timers
from sagas.engine.decide import start
from sagas.engine.definition import Ask, Definition, Delegate, Heard, Step, Wait, newest, table
from sagas.engine.timers import renews
from sagas.engine.wanted import pause_seconds, pending, task_id
from tests.given import after
from tests.sagas import rolling_restart as saga
from tests.sagas.story import Story, expire
from tests.sample import evolved, registered

ID = "service/orders/restart/1"
OUT = InstanceMaintenanceSet(instance="a")
BACK = InstanceMaintenanceCleared(instance="a")
ANNOUNCED = InstanceMetadataChanged(instance="a", metadata={"release": "2"})


def restart(*, hold=False, definitions=saga.DEFINITIONS):
    """The saga as it has just started."""
    root = reduce(evolved, [registered("a", metadata={"release": "1"})], service.INITIAL)
    data = saga.facts("a", "h1", "10.0.0.7", 8080, "1", "2", hold)
    told = start(ID, data, saga.root_of(root), newest(definitions, saga.NAME))
    return Story(INITIAL, root, service, definitions).after(told)


def fetched(**how):
    """At `restart`, or with a hold at `approve`."""
    return restart(**how).done()


def announced():
    """Behind the pivot, at `warm_up`."""
    return fetched().done(release="2")


def observed():
    return announced().done()


def reverting():
    """Turned back from `restart`, at `revert`."""
    return fetched().when(AbortSaga())


def blocked():
    """A compensation that failed for good."""
    return reverting().fails().runs_out("retry").fails()


def done(step, attempt=1, next=None, **result):
    return StepSucceeded(step=step, attempt=attempt, result=result, next=next)


def failed(story, step, error, attempt=1, again=True):
    seconds = pause_seconds(story.saga, story.definition.step(step)) if again else None
    return StepFailed(step=step, attempt=attempt, error=error, retry_seconds=seconds)


class TestGoingForward:
    def test_it_starts_at_its_first_step_with_name_and_version_pinned(self):
        story = restart()
        [started] = story.events()
        assert isinstance(started, SagaStarted)
        assert (started.saga, started.definition, started.version, started.step) == (ID, saga.NAME, 1, "fetch")

    def test_what_it_wants_is_a_function_of_its_state(self):
        task, listening = restart().pending
        assert task == Delegate("h1", "fetch", {"instance": "a", "release": "2"})
        assert listening.command is None

    def test_steps_that_need_nobody_are_gone_through_at_once(self):
        restart().done().then(
            done("fetch", next="approve"),
            done("approve", next="quiesce"),
            OUT,
            done("quiesce", next="restart"),
        )

    def test_the_pivot_is_in_the_same_decision_as_the_roots_event(self):
        story = fetched().done(release="2")
        story.then(done("restart", next="announce", release="2"), ANNOUNCED, done("announce", next="warm_up"))
        assert story.events(of_root=True) == [ANNOUNCED]

    def test_a_wait_ends_when_its_time_has_passed(self):
        observed().runs_out("wait").then(done("observe", next="admit"), BACK, done("admit"), SagaCompleted())

    def test_what_steps_were_answered_is_kept_by_name(self):
        assert dict(announced().saga.results)["restart"] == {"release": "2"}

    def test_a_saga_that_has_ended_wants_nothing_and_waits_for_nothing(self):
        story = observed().runs_out("wait")
        assert (story.saga.ended, story.pending, story.timers, story.allowed) == (True, (), (), ())

    def test_a_refusal_of_the_first_step_is_the_answer_and_there_is_no_saga(self):
        restart().refused(SkipStep(step="fetch"), VerbNotAllowed)

    def test_steps_that_wait_for_an_operator_stay(self):
        story = fetched(hold=True).then(done("fetch", next="approve"))
        assert story.pending == (Wait("an operator has to approve"),)
        assert story.timers == ()


class TestAttempts:
    def test_a_failed_attempt_is_repeated_after_a_pause(self):
        story = restart()
        after = story.fails("no disk").then(failed(story, "fetch", "no disk"))
        assert after.pending == ()
        after.runs_out("retry").then(StepRetried(step="fetch", attempt=2, by_hand=False))

    def test_an_attempt_that_takes_too_long_has_failed(self):
        story = restart()
        story.runs_out("timeout").then(failed(story, "fetch", "no answer within 30 s"))

    def test_every_attempt_has_another_id(self):
        story = restart()
        assert task_id(story.saga) == f"{ID}/fetch/1"
        assert task_id(story.fails().runs_out("retry").saga) == f"{ID}/fetch/2"

    def test_the_pauses_double_within_their_jitter(self):
        story, pauses = restart(), []
        for tried in range(1, 12):
            pauses.append(pause_seconds(_tried(story.saga, tried), story.definition.step("fetch")))
        for number, pause in enumerate(pauses):
            whole = min(10.0, 0.2 * 2**number)
            assert whole / 2 <= pause <= whole

    def test_the_jitter_is_the_same_for_the_same_attempt_and_differs_between_sagas(self):
        story = restart()
        step = story.definition.step("fetch")
        assert pause_seconds(story.saga, step) == pause_seconds(restart().saga, step)
        others = {pause_seconds(_of(story.saga, f"service/orders/restart/{number}"), step) for number in range(20)}
        assert len(others) > 10

    def test_an_error_that_is_final_is_not_tried_again(self):
        story = restart()
        story.fails("disk gone", final=True).then(
            failed(story, "fetch", "disk gone", again=False),
            CompensationStarted(step="fetch", cause="fetch: disk gone", undo=()),
            SagaCompensated(cause="fetch: disk gone"),
        )

    def test_behind_the_last_attempt_it_turns_back(self):
        story = restart().fails().runs_out("retry").fails().runs_out("retry")
        story.fails("again").then(
            failed(story, "fetch", "again", 3, again=False),
            CompensationStarted(step="fetch", cause="fetch: again", undo=()),
            SagaCompensated(cause="fetch: again"),
        )

    def test_a_result_that_the_step_does_not_take_is_final(self):
        story = fetched()
        wrong = "it runs 1, not 2"
        story.done(release="1").then(
            failed(story, "restart", wrong, again=False),
            CompensationStarted(step="restart", cause=f"restart: {wrong}", undo=("revert", "settle", "readmit")),
        )

    def test_a_very_long_error_is_cut(self):
        after = restart().when(
            ReportStep(step="fetch", attempt=1, node="h1", outcome="failed", error="x" * 2_000, final=True)
        )
        assert len(after.saga.cause) == 2_000

    def test_progress_gives_an_attempt_its_time_again_and_is_no_event(self):
        story = restart()
        [timer] = [timer for timer in story.timers if timer.kind == "timeout"]
        first, second = (renews(ReportProgress(step="fetch", attempt=attempt)) for attempt in (1, 2))
        assert first is not None
        assert first(timer)
        assert second is not None
        assert not second(timer)
        assert renews(ReportStep(step="fetch", attempt=1, outcome="done")) is None
        story.nothing(ReportProgress(step="fetch", attempt=1, node="h1"))


class TestRepliesThatChangeNothing:
    def test_a_duplicate(self):
        story = restart()
        story.done().nothing(story.report("done", "h1"))

    def test_one_of_an_earlier_attempt(self):
        story = restart()
        late = story.report("done", "h1")
        story.fails().runs_out("retry").nothing(late)

    def test_one_of_a_step_that_is_over(self):
        story = restart()
        late = story.report("failed", "h1", final=True)
        announced().nothing(late)

    def test_one_of_somebody_who_was_not_asked(self):
        restart().nothing(
            restart().report("done", "h2"), ReportStep(step="approve", attempt=1, node="h1", outcome="done")
        )

    def test_one_of_somebody_who_only_assists(self):
        fetched().nothing(fetched().report("done", "spare", result={"release": "2"}))

    def test_one_of_nobody_where_a_participant_was_asked(self):
        fetched().nothing(ReportStep(step="restart", attempt=1, outcome="done", result={"release": "2"}))

    def test_one_of_nobody_where_an_operator_was_asked(self):
        fetched(hold=True).nothing(ReportStep(step="approve", attempt=1, outcome="done"))

    def test_a_failure_while_it_pauses_between_attempts(self):
        story = restart()
        story.fails().nothing(story.report("failed", "h1", error="broken"), story.report("failed", "h1", final=True))

    def test_a_wrong_result_while_it_pauses_between_attempts(self):
        story = fetched()
        story.fails().nothing(story.report("done", "h1", result={"release": "1"}))

    def test_any_once_it_has_ended(self):
        observed().runs_out("wait").nothing(restart().report("done", "h1"), expire("wait", "observe"))

    @pytest.mark.parametrize("kind", ["timeout", "retry", "wait", "stalled"])
    def test_a_timer_of_another_step(self, kind):
        restart().nothing(expire(kind, "warm_up"))

    @pytest.mark.parametrize("kind", ["timeout", "retry", "wait"])
    def test_a_timer_of_another_attempt(self, kind):
        restart().fails().runs_out("retry").nothing(expire(kind, "fetch", 1))

    def test_a_timer_of_the_window_outside_of_it(self):
        restart().nothing(expire("window", "quiesce"))
        announced().nothing(expire("window", "quiesce"))


class TestRepliesThatComeInTime:
    def test_a_late_success_is_taken_as_long_as_no_other_attempt_is_under_way(self):
        story = restart()
        story.fails().when(story.report("done", "h1")).until("restart")

    def test_a_late_success_takes_a_compensation_out_of_its_block(self):
        story = blocked()
        after = story.when(story.report("done", "h1"))
        assert (after.step, after.saga.at) == ("settle", StepUnderWay("settle"))


class TestThePivot:
    def test_an_abort_before_it_turns_back(self):
        assert reverting().saga.phase == "compensating"

    def test_an_abort_behind_it_is_refused(self):
        announced().refused(AbortSaga(), VerbNotAllowed, allowed="pause, skip, force-complete")

    def test_a_final_error_behind_it_blocks(self):
        story = announced()
        after = story.fails("ill", final=True).then(
            failed(story, "warm_up", "ill", again=False), SagaBlocked(step="warm_up", attempt=1, error="ill")
        )
        assert (after.saga.phase, after.saga.standing) == ("forward", "blocked")

    def test_behind_it_the_last_attempt_blocks(self):
        story = announced().fails().runs_out("retry")
        story.fails("ill").then(
            failed(story, "warm_up", "ill", 2, again=False), SagaBlocked(step="warm_up", attempt=2, error="ill")
        )


class TestTurningBack:
    def test_its_scope_is_written_in_the_event_that_begins_it(self):
        fetched().when(AbortSaga()).then(
            CompensationStarted(step="restart", cause="aborted", undo=("revert", "settle", "readmit"))
        )

    def test_what_was_not_begun_is_not_undone(self):
        fetched(hold=True).when(AbortSaga()).then(
            CompensationStarted(step="approve", cause="aborted", undo=()), SagaCompensated(cause="aborted")
        )

    def test_it_undoes_in_reverse_order_and_ends_compensated(self):
        reverting().done().then(done("revert", next="settle")).runs_out("wait").then(
            done("settle", next="readmit"), BACK, done("readmit"), SagaCompensated(cause="aborted")
        )

    def test_what_is_left_to_undo_shrinks_step_by_step(self):
        story = reverting()
        assert [story.saga.stage.undo, story.done().saga.stage.undo] == [
            ("revert", "settle", "readmit"),
            ("settle", "readmit"),
        ]

    def test_an_apply_that_was_refused_is_not_undone_but_what_stood_before_it_is(self):
        gone = InstanceDeregistered(instance="a", incarnation=0, cause="requested", health="healthy")
        story = restart()
        story = Story(story.saga, evolved(story.root, gone), service, story.definitions)
        after = story.done()
        [*_, turned, _] = after.events()
        assert isinstance(turned, CompensationStarted)
        assert (turned.step, turned.undo) == ("quiesce", ())
        assert turned.cause.startswith("quiesce: ServiceNotFound: ")
        assert after.events(of_root=True) == []

    def test_a_compensation_is_tried_again_like_any_step(self):
        story = reverting()
        story.fails("no").then(failed(story, "revert", "no")).runs_out("retry").done().until("settle")

    def test_a_compensation_that_fails_is_blocked_and_says_why(self):
        story = blocked()
        assert (story.saga.at.standing, story.pending, story.timers) == (Blocked("broken"), (), ())
        assert story.allowed == ("retry", "skip")

    def test_it_is_never_aborted_twice(self):
        reverting().nothing(AbortSaga())

    def test_the_window_turns_it_back_by_itself(self):
        fetched().runs_out("window").then(
            CompensationStarted(
                step="restart",
                cause="the cut-over took longer than 20 s",
                undo=("revert", "settle", "readmit"),
            )
        )

    def test_the_window_goes_on_while_attempts_come_and_go(self):
        story = fetched()
        [window] = [timer for timer in story.timers if timer.kind == "window"]
        assert window in story.fails().timers
        assert window in story.fails().runs_out("retry").timers
        assert window not in announced().timers
        story.fails().when(timers.expire(window)).until("revert")

    def test_a_late_answer_to_the_step_that_was_given_up_changes_nothing(self):
        reverting().nothing(fetched().report("done", "h1", result={"release": "2"}))


class TestPausing:
    def test_a_paused_saga_wants_nothing_and_nothing_runs_out(self):
        story = restart().when(PauseSaga()).then(SagaPaused())
        assert (story.pending, story.timers) == ((), ())
        story.nothing(expire("timeout", "fetch"))

    def test_what_was_under_way_may_still_be_answered(self):
        story = restart()
        after = story.when(PauseSaga()).when(story.report("done", "h1")).then(done("fetch", next="approve"))
        assert after.pending == ()

    def test_resumed_it_goes_on_where_it_was_with_the_same_ids(self):
        story = restart()
        after = story.when(PauseSaga()).when(ResumeSaga()).then(SagaResumed())
        assert (after.pending[0], task_id(after.saga)) == (story.pending[0], task_id(story.saga))

    def test_resumed_it_goes_through_what_needs_nobody(self):
        story = restart()
        story.when(PauseSaga()).when(story.report("done", "h1")).when(ResumeSaga()).until("restart")

    def test_a_failure_meanwhile_waits_for_its_pause_once_resumed(self):
        story = restart()
        after = story.when(PauseSaga()).when(story.report("failed", "h1"))
        assert after.timers == ()
        assert "retry" in {timer.kind for timer in after.when(ResumeSaga()).timers}

    def test_a_step_that_must_not_be_paused_is_not(self):
        fetched().refused(PauseSaga(), VerbNotAllowed, allowed="abort")

    def test_resuming_passes_a_step_that_is_held(self):
        fetched(hold=True).when(ResumeSaga()).until("restart")

    def test_resuming_a_paused_one_passes_the_hold_too_so_that_a_repeat_changes_nothing(self):
        story = restart(hold=True)
        story = story.when(PauseSaga()).when(story.report("done", "h1")).until("approve")
        story.when(ResumeSaga()).until("restart")

    @pytest.mark.parametrize(
        ("verb", "then"), [(AbortSaga(), "revert"), (SkipStep(step="settle"), "readmit")], ids=["abort", "skip"]
    )
    def test_a_verb_that_goes_on_resumes(self, verb, then):
        story = restart().when(PauseSaga()).when(AbortSaga())
        assert (story.saga.ended, story.saga.paused) == (True, True)
        paused = reverting().when(PauseSaga())
        after = paused.when(SkipStep(step="revert"))
        assert (after.step, after.saga.paused) == ("settle", False)


def _quiet(service):
    """Whether the root says that nobody calls the instance any more; without the instance nobody can ever say so."""
    found = service.instances.get("a")
    if found is None:
        return Heard(error="a is gone")
    return Heard(result={"quiet": True}) if found.draining else None


LISTENING = Definition(
    saga.NAME,
    1,
    (
        Step("listen", lambda _: (Ask("service/orders", heard=_quiet),), harmless="it only listens", attempts_max=1),
        Step("announce", saga.V1.steps[2].act, pivot=True),
    ),
)
"""A saga that waits for what its own root's state says."""


class TestListeningToItsRoot:
    def listening(self, *before):
        root = saga.root_of(reduce(evolved, [registered("a"), *before], service.INITIAL))
        told = start(ID, {"instance": "a"}, root, LISTENING)
        states = reduce(evolved, [registered("a"), *before], service.INITIAL)
        return Story(INITIAL, states, service, table(LISTENING)).after(told)

    def goes_on(self, story, *events):
        return replace(story, root=reduce(evolved, events, story.root))

    def test_what_the_root_says_already_is_heard_in_the_decision_that_begins_it(self):
        story = self.listening(InstanceDrainStarted(instance="a"))
        [_, heard, *_] = story.events()
        assert (heard, story.saga.phase) == (done("listen", next="announce", quiet=True), "completed")
        assert story.events(of_root=True) == [OUT]

    def test_what_it_does_not_say_yet_is_waited_for(self):
        story = self.listening()
        assert (story.step, story.saga.standing) == ("listen", "running")

    def test_what_it_says_later_is_heard_in_any_decision_of_the_saga(self):
        story = self.goes_on(self.listening(), InstanceDrainStarted(instance="a"))
        assert story.when(expire("wait", "elsewhere")).saga.phase == "completed"
        paused = self.listening().when(PauseSaga())
        assert self.goes_on(paused, InstanceDrainStarted(instance="a")).when(ResumeSaga()).saga.phase == "completed"

    def test_an_error_that_it_tells_is_final(self):
        gone = InstanceDeregistered(instance="a", incarnation=0, cause="requested", health="healthy")
        story = self.goes_on(self.listening().when(PauseSaga()), gone).when(ResumeSaga())
        story.then(
            SagaResumed(),
            failed(story, "listen", "a is gone", again=False),
            CompensationStarted(step="listen", cause="listen: a is gone", undo=()),
            SagaCompensated(cause="listen: a is gone"),
        )

    def test_while_it_is_paused_nothing_is_heard(self):
        story = self.goes_on(self.listening().when(PauseSaga()), InstanceDrainStarted(instance="a"))
        story.nothing(expire("wait", "listen"))


class TestVerbs:
    def test_a_retry_has_all_attempts_again(self):
        story = blocked().when(RetryStep()).then(StepRetried(step="revert", attempt=3, by_hand=True))
        assert (story.saga.at.tried, story.saga.standing) == (1, "running")
        assert story.fails().saga.standing == "retrying"

    def test_a_retry_shortens_the_pause_between_attempts(self):
        restart().fails().when(RetryStep()).then(StepRetried(step="fetch", attempt=2, by_hand=True))

    def test_a_retry_while_it_runs_changes_nothing(self):
        restart().nothing(RetryStep())

    def test_a_step_that_can_be_left_out_is(self):
        announced().when(SkipStep(step="warm_up")).then(StepSkipped(step="warm_up", next="observe"))

    def test_a_failed_compensation_can_be_left_out(self):
        blocked().when(SkipStep(step="revert")).then(StepSkipped(step="revert", next="settle"))

    def test_a_skip_leaves_nothing_among_the_results(self):
        assert "warm_up" not in announced().when(SkipStep(step="warm_up")).saga.results

    def test_a_repeated_skip_does_not_skip_the_next_one_too(self):
        announced().when(SkipStep(step="warm_up")).nothing(SkipStep(step="warm_up"))

    def test_only_the_step_that_is_named_is_left_out(self):
        announced().refused(SkipStep(step="observe"), VerbNotAllowed)
        blocked().refused(SkipStep(step="settle"), VerbNotAllowed)
        blocked().refused(SkipStep(step="nonsense"), VerbNotAllowed)

    def test_a_step_that_cannot_be_left_out_is_not(self):
        restart().refused(SkipStep(step="fetch"), VerbNotAllowed, allowed="pause, abort")

    def test_forcing_leaves_out_all_that_can_be_left_out(self):
        announced().when(ForceComplete()).then(
            SagaForced(),
            StepSkipped(step="warm_up", next="observe"),
            StepSkipped(step="observe", next="admit"),
            BACK,
            done("admit"),
            SagaCompleted(),
        )

    def test_forcing_takes_a_blocked_saga_out_of_its_block(self):
        story = announced().fails(final=True)
        assert story.saga.standing == "blocked"
        assert story.when(ForceComplete()).saga.phase == "completed"

    def test_forcing_does_not_wait_for_the_pause_between_attempts(self):
        assert announced().fails().when(ForceComplete()).saga.phase == "completed"

    def test_forcing_before_the_pivot_is_refused(self):
        restart().refused(ForceComplete(), VerbNotAllowed, allowed="pause, abort")

    def test_a_definition_can_rule_a_verb_out(self):
        once = replace(saga.V1, verbs=("pause", "resume", "retry"))
        story = restart(definitions=table(once))
        assert (restart().allowed, story.allowed) == (("pause", "abort"), ("pause",))
        story.refused(AbortSaga(), VerbNotAllowed, allowed="pause")

    def test_a_refusal_lists_what_is_allowed_and_says_where_the_saga_stands(self):
        with pytest.raises(VerbNotAllowed) as refused:
            restart().decided(ResumeSaga()) or restart().decided(SkipStep(step="fetch"))
        assert refused.value.detail == (
            "skip fetch is not allowed while the restart is forward, running at fetch; allowed now: pause, abort"
        )

    def test_once_it_has_ended_nothing_is_allowed(self):
        ended = observed().runs_out("wait")
        for verb in (PauseSaga(), ResumeSaga(), RetryStep(), AbortSaga()):
            ended.refused(verb, VerbNotAllowed, allowed="")
        ended.nothing(ForceComplete(), SkipStep(step="observe"))

    @pytest.mark.parametrize(
        ("story", "verbs"),
        [
            (restart, ("pause", "abort")),
            (lambda: restart().fails(), ("pause", "retry", "abort")),
            (lambda: restart().when(PauseSaga()), ("resume", "abort")),
            (lambda: fetched(hold=True), ("pause", "resume", "skip", "abort")),
            (fetched, ("abort",)),
            (announced, ("pause", "skip", "force-complete")),
            (lambda: announced().fails(final=True), ("retry", "skip", "force-complete")),
            (reverting, ("pause", "skip")),
            (blocked, ("retry", "skip")),
        ],
        ids=["running", "retrying", "paused", "held", "in the window", "behind", "blocked", "back", "back, blocked"],
    )
    def test_what_is_allowed_where(self, story, verbs):
        assert story().allowed == verbs


class TestStalled:
    def test_a_step_that_takes_too_long_is_said_to_be_stalled_once(self):
        story = restart().runs_out("stalled").then(StepStalled(step="fetch", attempt=1, seconds=60.0))
        assert story.saga.stalled == "fetch takes longer than 60 s"
        assert "stalled" not in {timer.kind for timer in story.timers}

    def test_attempts_that_come_and_go_do_not_hide_it(self):
        story = restart()
        [timer] = [timer for timer in story.timers if timer.kind == "stalled"]
        later = story.fails().runs_out("retry")
        assert timer in story.fails().timers
        assert timer in later.timers
        stalled = later.runs_out("stalled")
        assert stalled.fails().runs_out("retry").saga.stalled is not None

    def test_another_try_by_hand_begins_anew(self):
        story = restart().runs_out("stalled").fails().when(RetryStep())
        assert story.saga.stalled is None

    def test_the_next_step_is_not_stalled(self):
        assert restart().runs_out("stalled").done().saga.stalled is None

    def test_a_step_that_waits_is_not_stalled(self):
        assert {timer.kind for timer in observed().timers} == {"wait"}

    def test_one_that_is_paused_or_blocked_is_not_stalled(self):
        restart().when(PauseSaga()).nothing(expire("stalled", "fetch"))
        blocked().nothing(expire("stalled", "revert"))


class TestUpgrades:
    def test_a_later_version_takes_over_where_the_saga_waits(self):
        story = fetched(hold=True)
        story = Story(story.saga, story.root, story.decider, saga.LATER)
        after = story.when(UpgradeSaga(version=2)).then(SagaUpgraded(version=2))
        after.when(ResumeSaga()).then(done("approve", next="snapshot")).done().until("restart")

    def test_it_does_not_take_over_where_a_participant_is_at_work(self):
        running = _later(restart())
        running.refused(UpgradeSaga(version=2), VerbNotAllowed)

    def test_a_pause_is_no_wait_a_participant_may_still_be_at_work(self):
        _later(restart().when(PauseSaga())).refused(UpgradeSaga(version=2), VerbNotAllowed)

    def test_it_needs_to_know_the_step(self):
        _later(announced().when(PauseSaga())).refused(UpgradeSaga(version=2), VerbNotAllowed)

    def test_a_version_that_does_not_exist_or_is_older_does_not_take_over(self):
        _later(fetched(hold=True)).refused(UpgradeSaga(version=3), VerbNotAllowed)
        restart(hold=True, definitions=saga.LATER).done().refused(UpgradeSaga(version=1), VerbNotAllowed)

    def test_the_version_that_it_has_changes_nothing(self):
        _later(restart()).nothing(UpgradeSaga(version=1))

    def test_one_that_turns_back_keeps_its_version(self):
        _later(blocked()).refused(UpgradeSaga(version=2), VerbNotAllowed)

    def test_new_ones_get_the_newest_version_and_running_ones_keep_theirs(self):
        assert restart(definitions=saga.LATER).saga.definition_version == 2
        assert _later(restart()).done().saga.definition_version == 1


class TestAfterACrash:
    @pytest.mark.parametrize(
        "story", [restart, fetched, announced, observed, reverting, blocked], ids=lambda s: s.__name__
    )
    def test_refolded_it_wants_the_same_with_the_same_ids(self, story):
        live, again = story(), story()
        assert (live.saga, task_id(live.saga)) == (again.saga, task_id(again.saga))
        assert [action for action in live.pending if isinstance(action, Delegate)] == [
            action for action in again.pending if isinstance(action, Delegate)
        ]
        assert live.timers == again.timers

    @pytest.mark.parametrize(
        "story",
        [lambda: restart().when(PauseSaga()), lambda: restart().fails(), blocked, lambda: observed().runs_out("wait")],
        ids=["paused", "retrying", "blocked", "ended"],
    )
    def test_it_wants_nothing_while_it_stands(self, story):
        assert pending(story().saga, saga.V1) == ()


class TestImpossibleHistory:
    @pytest.mark.parametrize(
        ("event", "why"),
        [
            (done("fetch", 2), "the saga is at fetch/1"),
            (done("approve"), "the saga is at fetch/1"),
            (StepSkipped(step="approve", next=None), "the saga is at fetch"),
            (StepRetried(step="fetch", attempt=3, by_hand=False), "attempt 3 of fetch after 1"),
            (SagaCompleted(), "completed at fetch"),
            (restart().events()[0], "started twice"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_is_not_folded(self, event, why):
        with pytest.raises(AssertionError, match=why):
            after(saga_decider, restart().saga, event)

    def test_a_saga_turns_back_once_and_takes_everything_back(self):
        with pytest.raises(AssertionError, match="only once"):
            after(saga_decider, reverting().saga, CompensationStarted(step="revert", cause="c", undo=()))
        with pytest.raises(AssertionError, match="is left"):
            after(saga_decider, reverting().saga, SagaCompensated(cause="c"))
        with pytest.raises(AssertionError, match="never started"):
            after(saga_decider, INITIAL, SagaPaused())


def _later(story):
    return Story(story.saga, story.root, story.decider, saga.LATER)


def _tried(told, tried):
    return replace(told, stage=replace(told.stage, at=replace(told.at, tried=tried)))


def _of(told, id_):
    return replace(told, id=id_)
