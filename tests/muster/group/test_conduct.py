"""What a member's process does next, says next and may do, told of its standing and the time."""

import math
from dataclasses import replace

import pytest

from muster.clock import elapsed_seconds
from muster.group.conduct import (
    ANSWER_SHARE,
    RENEW_SHARE,
    STOP_SHARE,
    Claim,
    Demote,
    End,
    Idle,
    Leave,
    Promote,
    SayMember,
    SayServing,
    Settle,
    fence_due,
    interruption,
    leads,
    next_step,
    next_word,
    position_due,
    renewal_epoch,
    renewal_seconds,
    role,
)
from muster.group.progress import MemberProgress
from muster.group.standing import (
    CheckAnswered,
    Demoted,
    DemotionBegan,
    Fell,
    FenceTried,
    Gone,
    GroupSeen,
    HookFailed,
    Leaving,
    Positioned,
    Promoted,
    PromotionBegan,
    RenewalRefused,
    Renewed,
    Settled,
    StoodStill,
    Told,
    rest_longest_seconds,
    steady_seconds,
)
from tests.muster.group.group_rows import INCARNATION, LEASE_SECONDS, after, member, primary, row, standby

NOW = 100.0


class TestFencing:
    ASKED = row("db2", 3, fenced=True, fencer="db1")

    def test_it_fences_when_the_group_asks_it_to(self) -> None:
        assert fence_due(standby(GroupSeen(self.ASKED)), NOW) == 3
        assert fence_due(after(GroupSeen(self.ASKED)), NOW) == 3, "also while it is still putting its own away"

    def test_not_where_another_one_is_to_or_nobody(self) -> None:
        for other in (None, "db2"):
            assert fence_due(standby(GroupSeen(replace(self.ASKED, fencer=other))), NOW) is None

    def test_not_for_a_process_that_is_none_of_its_groups_or_leaves(self) -> None:
        of_before = replace(self.ASKED, members=(member("db1", incarnation=INCARNATION - 1),))
        assert fence_due(standby(GroupSeen(of_before)), NOW) is None
        assert fence_due(standby(GroupSeen(self.ASKED), Leaving()), NOW) is None
        assert fence_due(standby(GroupSeen(self.ASKED), Gone("x")), NOW) is None

    def test_what_has_failed_is_tried_again_after_a_pause_that_doubles(self) -> None:
        standing = standby(GroupSeen(self.ASKED), FenceTried(3, NOW, False))
        assert (fence_due(standing, NOW + 0.9), fence_due(standing, NOW + 1.0)) == (None, 3)
        standing = after(FenceTried(3, NOW, False), standing=standing)
        assert (standing.fence_tries, fence_due(standing, NOW + 1.9), fence_due(standing, NOW + 2.0)) == (2, None, 3)

    def test_another_epoch_has_its_own_tries(self) -> None:
        standing = standby(GroupSeen(replace(self.ASKED, epoch=4)), FenceTried(3, NOW, False))
        assert fence_due(standing, NOW) == 4
        assert after(FenceTried(4, NOW, False), standing=standing).fence_tries == 1

    def test_what_is_done_is_not_done_again(self) -> None:
        assert fence_due(standby(GroupSeen(self.ASKED), FenceTried(3, NOW, True)), NOW + 1e9) is None


class TestTheWayToTheLead:
    def test_it_begins_when_it_has_seen_itself_in_the_group(self) -> None:
        assert next_step(after(), NOW) == Idle()
        assert next_step(after(GroupSeen(row())), NOW) == Settle()

    def test_a_row_that_is_older_than_its_join_is_not_about_this_process(self) -> None:
        old = row("db1", 3, members=(member("db1", incarnation=INCARNATION - 1),))
        assert next_step(after(GroupSeen(old)), NOW) == Idle()
        assert next_step(standby(GroupSeen(old)), NOW) == Idle()

    def test_an_epoch_that_it_is_given_is_claimed_first(self) -> None:
        assert next_step(standby(GroupSeen(row("db1", 1))), NOW) == Claim(1)

    def test_it_is_promoted_once_the_claim_was_accepted(self) -> None:
        assert next_step(standby(GroupSeen(row("db1", 1)), Renewed(1, NOW, LEASE_SECONDS)), NOW) == Promote(1)

    def test_a_claim_whose_answer_took_half_of_the_lease_is_made_again(self) -> None:
        claimed = standby(GroupSeen(row("db1", 1)), Renewed(1, NOW, LEASE_SECONDS))
        assert next_step(claimed, NOW + LEASE_SECONDS / 2) == Claim(1)

    def test_an_epoch_that_is_another_ones_or_fenced_is_not_claimed(self) -> None:
        assert next_step(standby(GroupSeen(row("db2", 1))), NOW) == Idle()
        assert next_step(standby(GroupSeen(row("db1", 1, fenced=True))), NOW) == Idle()

    def test_a_refused_claim_is_not_made_again_but_one_of_the_next_epoch_is(self) -> None:
        refused = standby(GroupSeen(row("db1", 1)), RenewalRefused(1, "it is an earlier process's"))
        assert next_step(refused, NOW) == Idle()
        assert next_step(after(GroupSeen(row("db1", 2)), standing=refused), NOW) == Claim(2)

    def test_an_older_row_of_a_controller_that_lags_changes_nothing(self) -> None:
        assert next_step(standby(GroupSeen(row("db2", 2)), GroupSeen(row("db1", 1))), NOW) == Idle()


class TestGivingTheLeadUp:
    def test_it_leads_on_as_long_as_renewals_are_accepted(self) -> None:
        assert next_step(primary(at=NOW), NOW) == Idle(NOW + LEASE_SECONDS / 2)
        renewed = primary(Renewed(1, NOW + 0.9, LEASE_SECONDS), at=NOW)
        assert next_step(renewed, NOW + 1.5) == Idle(NOW + 0.9 + LEASE_SECONDS / 2)

    def test_answers_that_overtake_each_other_do_not_shorten_the_lease(self) -> None:
        overtaken = primary(Renewed(1, NOW + 0.9, LEASE_SECONDS), Renewed(1, NOW + 0.5, LEASE_SECONDS), at=NOW)
        assert next_step(overtaken, NOW + 1.0) == Idle(NOW + 0.9 + LEASE_SECONDS / 2)

    def test_after_half_of_the_lease_without_renewal_it_stops(self) -> None:
        step = next_step(primary(at=NOW), NOW + LEASE_SECONDS / 2)
        assert step == Demote(1, "no renewal was accepted for 1.00 s of its lease of 2 s")

    def test_one_that_stood_still_hears_first_what_was_answered_meanwhile(self) -> None:
        # 1.1 s of its lease of 2 s have passed, and nothing was read for some of them.
        still = primary(StoodStill(NOW + 1.1), at=NOW)
        assert next_step(still, NOW + 1.1) == Idle(pytest.approx(NOW + 1.3))
        assert next_step(after(Renewed(1, NOW + 1.1, LEASE_SECONDS), standing=still), NOW + 1.3) == Idle(NOW + 2.1)
        assert isinstance(next_step(still, NOW + 1.31), Demote)

    def test_nor_does_its_promotion_end_for_that(self) -> None:
        claimed = standby(GroupSeen(row("db1", 1)), Renewed(1, NOW, LEASE_SECONDS), PromotionBegan(1))
        assert interruption(after(StoodStill(NOW + 1.1), standing=claimed), NOW + 1.1) is None
        assert interruption(claimed, NOW + 1.1) is not None

    def test_but_not_for_longer_than_its_lease_has_time_to_stop(self) -> None:
        assert next_step(primary(StoodStill(NOW + 1.35), at=NOW), NOW + 1.35) == Idle(NOW + 0.7 * LEASE_SECONDS)
        assert isinstance(next_step(primary(StoodStill(NOW + 1.4), at=NOW), NOW + 1.4), Demote)

    async def test_who_begins_to_wait_too_late_has_not_stood_still(self) -> None:
        # As behind an answer that took longer than the next renewal was due: the controllers were silent, and not this process.
        progress = MemberProgress(primary(at=NOW))
        await progress.sleep(elapsed_seconds() - 5.0)
        await progress.ring(elapsed_seconds() - 5.0)
        assert progress.standing.stood_until == -math.inf

    def test_nor_does_it_begin_with_less_than_half_of_a_lease(self) -> None:
        claimed = standby(GroupSeen(row("db1", 1)), Renewed(1, NOW, LEASE_SECONDS), StoodStill(NOW + 1.1))
        assert next_step(claimed, NOW + 1.1) == Claim(1)

    @pytest.mark.parametrize(
        ("seen", "why"),
        [
            (row("db1", 1, fenced=True, failover="group/db/failover/2", version=11), "group/db/failover/2"),
            (row("db2", 2), "db2 is the primary"),
            (row(None, 1, ended="lease", version=11), "ended (lease)"),
            (row("db1", 2), "db1 is the primary"),
        ],
        ids=["fenced", "another one's", "ended", "a later epoch of its own"],
    )
    def test_it_stops_when_the_group_says_so(self, seen: object, why: str) -> None:
        step = next_step(primary(GroupSeen(seen), at=NOW), NOW)  # type: ignore[arg-type]
        assert isinstance(step, Demote)
        assert step.epoch == 1
        assert why in step.why

    def test_it_stops_when_a_renewal_was_refused(self) -> None:
        assert next_step(primary(RenewalRefused(1, "epoch 1 is fenced"), at=NOW), NOW) == Demote(1, "epoch 1 is fenced")

    def test_it_stops_when_what_it_runs_has_ended(self) -> None:
        assert next_step(primary(Fell("exit code 3", NOW), at=NOW), NOW) == Demote(1, "exit code 3")

    def test_it_stops_when_another_process_runs_it_and_then_ends(self) -> None:
        gone = primary(Gone("another process has joined"), at=NOW)
        assert next_step(gone, NOW) == Demote(1, "another process has joined")
        assert next_step(after(DemotionBegan(), Demoted(NOW), standing=gone), NOW) == End("another process has joined")

    def test_what_was_given_up_is_never_claimed_again(self) -> None:
        given_up = primary(DemotionBegan(), Demoted(NOW), at=NOW)
        assert next_step(given_up, NOW) == Idle()
        late = after(Renewed(1, NOW + 1, LEASE_SECONDS), GroupSeen(row("db1", 1, version=12)), standing=given_up)
        assert next_step(late, NOW + 1) == Idle()

    def test_a_failed_promotion_is_taken_back(self) -> None:
        failed = standby(
            GroupSeen(row("db1", 1)), Renewed(1, NOW, LEASE_SECONDS), PromotionBegan(1), HookFailed("exit 1", NOW)
        )
        assert next_step(failed, NOW) == Demote(1, "exit 1")

    def test_it_leaves_after_it_has_stopped(self) -> None:
        leaving = primary(Leaving(), at=NOW)
        assert next_step(leaving, NOW) == Demote(1, "its runner stops")
        assert next_step(after(DemotionBegan(), Demoted(NOW), standing=leaving), NOW) == Leave()
        assert next_step(standby(Leaving()), NOW) == Leave()
        assert next_step(after(Leaving()), NOW) == Leave()


class TestAPromotionUnderWay:
    promoting = standby(GroupSeen(row("db1", 1)), Renewed(1, NOW, LEASE_SECONDS), PromotionBegan(1))

    def test_it_goes_on_while_all_is_well(self) -> None:
        assert interruption(self.promoting, NOW) is None

    def test_a_fence_lets_it_come_to_its_end_within_the_lease(self) -> None:
        fenced = after(GroupSeen(row("db1", 1, fenced=True, version=11)), standing=self.promoting)
        assert interruption(fenced, NOW) is None
        assert interruption(fenced, NOW + LEASE_SECONDS / 2) is not None

    @pytest.mark.parametrize("happening", [Leaving(), Gone("another process"), Fell("exit code 1", NOW)])
    def test_it_is_broken_off_when_there_is_nothing_to_promote_any_more(self, happening: object) -> None:
        assert interruption(after(happening, standing=self.promoting), NOW) is not None  # type: ignore[arg-type]


class TestTheLease:
    def test_it_leads_for_its_share_of_the_lease_from_before_the_renewal_was_sent(self) -> None:
        led = primary(at=NOW)
        assert leads(led, NOW + 0.89 * LEASE_SECONDS)
        assert not leads(led, NOW + 0.9 * LEASE_SECONDS)

    def test_it_leads_no_more_once_the_epoch_is_fenced_refused_ended_or_given_up(self) -> None:
        assert not leads(primary(GroupSeen(row("db1", 1, fenced=True, version=11)), at=NOW), NOW)
        assert not leads(primary(RenewalRefused(1, "over"), at=NOW), NOW)
        assert not leads(primary(Fell("exit code 1", NOW), at=NOW), NOW)
        assert not leads(primary(DemotionBegan(), Demoted(NOW), at=NOW), NOW)

    def test_a_standby_does_not_lead_though_its_claim_was_accepted(self) -> None:
        claimed = standby(GroupSeen(row("db1", 1)), Renewed(1, NOW, LEASE_SECONDS))
        assert not leads(claimed, NOW)
        assert role(claimed) == "standby"

    def test_it_renews_its_epoch_while_it_stops_of_its_own_will(self) -> None:
        assert renewal_epoch(standby()) is None
        assert renewal_epoch(primary(at=NOW)) == 1
        assert renewal_epoch(primary(Leaving(), DemotionBegan(), at=NOW)) == 1

    def test_it_does_not_renew_an_epoch_that_is_fenced_or_over(self) -> None:
        assert renewal_epoch(primary(GroupSeen(row("db1", 1, fenced=True, version=11)), at=NOW)) is None
        assert renewal_epoch(primary(Fell("exit code 1", NOW), at=NOW)) is None
        assert renewal_epoch(primary(DemotionBegan(), Demoted(NOW), at=NOW)) is None

    def test_it_renews_at_each_heartbeat_and_four_times_in_a_lease_and_six_times_as_the_primary(self) -> None:
        assert renewal_seconds(standby(GroupSeen(row(heartbeat_seconds=0.2)))) == 0.2
        assert renewal_seconds(standby(GroupSeen(row(heartbeat_seconds=5.0)))) == LEASE_SECONDS / 4
        assert renewal_seconds(primary(at=NOW)) == LEASE_SECONDS / 6
        # What it sends then is answered, or given up, when it has to stop.
        assert RENEW_SHARE + ANSWER_SHARE == STOP_SHARE


RECOVERING = row(members=(member("db1", "recovering"), member("db2")), version=3)
FAILED = row(members=(member("db1", "failed"), member("db2")), version=3)


class TestWhatItSays:
    def test_it_is_ready_when_its_check_says_so(self) -> None:
        joined = after(GroupSeen(RECOVERING), Settled())
        assert next_word(joined, NOW) is None
        assert next_word(after(CheckAnswered(True), standing=joined), NOW) == SayMember("ready")
        assert next_word(after(CheckAnswered(False, "full"), standing=joined), NOW) == SayMember(
            "failed", "check", "full"
        )

    def test_what_the_group_knows_is_not_said_again(self) -> None:
        assert next_word(standby(), NOW) is None
        assert next_word(standby(GroupSeen(FAILED), CheckAnswered(False, "full")), NOW) is None

    def test_what_was_said_is_not_said_again_before_it_is_seen(self) -> None:
        told = standby(GroupSeen(RECOVERING), Told(3))
        assert next_word(told, NOW) is None
        again = replace(RECOVERING, version=4)
        assert next_word(after(GroupSeen(again), standing=told), NOW) == SayMember("ready")

    def test_it_says_that_it_serves(self) -> None:
        promoted = standby(GroupSeen(row("db1", 1)), Renewed(1, NOW, LEASE_SECONDS), PromotionBegan(1), Promoted(NOW))
        assert next_word(promoted, NOW) == SayServing(1)
        assert next_word(primary(at=NOW), NOW) is None

    def test_a_primary_whose_check_fails_says_so(self) -> None:
        assert next_word(primary(CheckAnswered(False, "full"), at=NOW), NOW) == SayMember("failed", "check", "full")

    def test_a_failed_hook_is_said_and_rests_for_a_time_that_doubles(self) -> None:
        standing, pauses = standby(), []
        for epoch in range(1, 10):
            began = (GroupSeen(row("db1", epoch)), Renewed(epoch, NOW, LEASE_SECONDS), PromotionBegan(epoch))
            standing = after(*began, HookFailed("exit code 1", NOW), standing=standing)
            assert next_word(standing, NOW) == SayMember("failed", "hook", "exit code 1")
            pauses.append(standing.rests_until - NOW)
            over = replace(FAILED, epoch=epoch, version=10 * epoch + 5)
            standing = after(DemotionBegan(), Demoted(NOW), CheckAnswered(True), GroupSeen(over), standing=standing)
            assert next_word(standing, standing.rests_until - 0.01) is None
            assert next_word(standing, standing.rests_until) == SayMember("ready")
        assert pauses == [1, 2, 4, 8, 16, 32, rest_longest_seconds, rest_longest_seconds, rest_longest_seconds]

    def test_after_a_first_end_it_is_ready_as_soon_as_another_one_serves_or_has_ended_before(self) -> None:
        fell = primary(Fell("exit code 1", NOW), DemotionBegan(), Demoted(NOW), CheckAnswered(True), at=NOW)
        alone = after(GroupSeen(replace(RECOVERING, epoch=1, version=15)), standing=fell)
        assert next_word(alone, NOW) is None
        assert next_word(alone, alone.rests_until) == SayMember("ready")
        passed_on = replace(RECOVERING, primary="db2", epoch=2, version=25)
        # It claims its epoch just now, and would wait for this word.
        assert next_word(after(GroupSeen(replace(passed_on, serving=False)), standing=fell), NOW) is None
        for turn in (
            replace(passed_on, serving=True),
            replace(passed_on, primary=None),
            replace(passed_on, fenced=True),
        ):
            assert next_word(after(GroupSeen(turn), standing=fell), NOW) == SayMember("ready")

    def test_who_was_to_stop_for_a_failover_lets_the_others_come_first(self) -> None:
        fenced = GroupSeen(row("db1", 1, fenced=True, version=11))
        stopped = primary(fenced, DemotionBegan(), Demoted(NOW), CheckAnswered(True), at=NOW)
        ended = after(GroupSeen(replace(RECOVERING, epoch=1, version=15)), standing=stopped)
        assert next_word(ended, NOW) is None
        assert next_word(ended, NOW + 1) == SayMember("ready")
        led = replace(RECOVERING, primary="db2", epoch=2, serving=True, version=25)
        passed_on = after(GroupSeen(led), standing=stopped)
        assert next_word(passed_on, NOW) == SayMember("ready")

    def test_what_ends_again_and_again_leaves_the_lead_to_others_for_longer(self) -> None:
        once = primary(Fell("exit code 1", NOW), DemotionBegan(), Demoted(NOW), at=NOW)
        again = (
            GroupSeen(row("db1", 3)),
            Renewed(3, NOW, LEASE_SECONDS),
            PromotionBegan(3),
            Promoted(NOW),
            Fell("exit code 1", NOW),
        )
        twice = after(*again, DemotionBegan(), Demoted(NOW), CheckAnswered(True), standing=once)
        led = replace(RECOVERING, primary="db2", epoch=4, serving=True, version=45)
        passed_on = after(GroupSeen(led), standing=twice)
        assert next_word(passed_on, NOW) is None
        assert next_word(passed_on, NOW + 2) == SayMember("ready")

    def test_an_end_after_a_long_time_is_a_first_one(self) -> None:
        once = primary(Fell("exit code 1", NOW), DemotionBegan(), Demoted(NOW), at=NOW)
        again = (GroupSeen(row("db1", 3)), Renewed(3, NOW, LEASE_SECONDS), PromotionBegan(3), Promoted(NOW))
        assert after(*again, Fell("exit code 1", NOW + steady_seconds), standing=once).falls == 1

    def test_whether_it_is_fit_is_asked_again_after_a_demotion(self) -> None:
        assert primary(DemotionBegan(), Demoted(NOW), at=NOW).fit is None

    def test_who_leaves_says_nothing_more_of_itself(self) -> None:
        assert next_word(standby(GroupSeen(RECOVERING), Leaving()), NOW) is None


class TestPositions:
    ended = row(None, 1, max_lag=0, version=15)

    def test_a_standby_says_how_far_its_copy_reaches_when_the_primary_has_ended(self) -> None:
        assert position_due(standby(GroupSeen(row("db2", 1, max_lag=0))), NOW) is None
        assert position_due(standby(GroupSeen(self.ended)), NOW) == 1

    def test_it_says_so_once_in_an_epoch(self) -> None:
        assert position_due(standby(GroupSeen(self.ended), Positioned(1, NOW)), math.inf) is None

    def test_it_tries_again_soon_if_it_could_not_find_out(self) -> None:
        tried = standby(GroupSeen(self.ended), Positioned(0, NOW))
        assert position_due(tried, NOW) is None
        assert position_due(tried, NOW + 1) == 1

    def test_a_group_without_a_bound_does_not_ask(self) -> None:
        assert position_due(standby(GroupSeen(row(None, 1))), NOW) is None

    def test_a_primary_says_so_now_and_then(self) -> None:
        led = primary(GroupSeen(row("db1", 1, max_lag=0, serving=True, version=11)), at=NOW)
        assert position_due(led, NOW) == 1
        said = after(Positioned(1, NOW), standing=led)
        assert position_due(said, NOW + 9) is None
        assert position_due(said, NOW + 10) == 1
