"""Who leads next and why the others do not, and whether it is time to: by every cause, and held down by every brake."""

import pytest

from domain.groups.choice import Due, candidates, choose, due
from domain.groups.member import (
    GroupReclaimed,
    GroupServing,
    MemberAdded,
    MemberFailed,
    MemberLeft,
    MemberTrusted,
    PassedOver,
)
from domain.groups.state import GroupDeleted, GroupPaused, GroupResumed, GroupRules, GroupSettingsChanged
from muster.wire.error import DataLossRefused, MemberNotFound, NoHealthyStandby
from tests.domain.groups.beginnings import (
    LEASE_OVER,
    MEMBERS,
    SECOND,
    at,
    created,
    ended,
    evolved,
    fenced,
    finished,
    folded,
    here,
    joined,
    led,
    position,
    promoted,
    ready,
    silent,
    started,
    suspected,
)

ASKED = "it is the primary that steps down"
SERVES = GroupServing(member="db2", epoch=1)
STOPPED = "recovering: it was the primary and has stopped"


def ill(member, failure="check"):
    return MemberFailed(member=member, failure=failure, why="no connection")


def passed(group, **how):
    """Why the others were not chosen."""
    return {told.member: told.why for told in choose(group, **how).passed_over}


class TestWhoComesFirst:
    def test_the_highest_priority(self):
        chosen = choose(folded(*here()))
        assert chosen.member.name == "db1"
        assert chosen.passed_over == (
            PassedOver("db2", "db1 comes first: priority 3, not 2"),
            PassedOver("db3", "db1 comes first: priority 3, not 1"),
        )
        assert not chosen.lossy

    def test_then_the_longest_copy_then_the_one_that_has_been_active_for_longest_then_the_first_name(self):
        same = [MemberAdded(member=name, priority=1) for name in MEMBERS]
        group = folded(*here(), *same)
        assert choose(group).member.name == "db1"
        assert passed(group) == dict.fromkeys(("db2", "db3"), "db1 comes first: by name")
        older = folded(*created(), *same, (5.0, joined("db1")), (5.0, ready("db1")), joined("db3"), ready("db3"))
        assert choose(older).member.name == "db3"
        assert passed(older)["db1"] == "db3 comes first: it has been active for longer"
        longer = evolved(older, position("db1", 7, 0))
        assert choose(longer).member.name == "db1"
        assert passed(longer)["db3"] == "db1 comes first: its copy reaches 7, not None"

    def test_whoever_is_asked_for(self):
        group = folded(*led())
        chosen = choose(group, to="db3")
        assert chosen.member.name == "db3"
        assert passed(group, to="db3") == {"db1": ASKED, "db2": "db3 was asked for"}

    @pytest.mark.parametrize("cause", ["operator", "failed", "suspected"])
    def test_the_primary_that_a_failover_has_stopped_comes_last_though_it_is_fit_again(self, cause):
        asked = started(SECOND, 1, "db1", cause), fenced(), ended(how="said"), ready("db1")
        group = folded(*led(), *asked)
        assert choose(group).member.name == "db2"
        assert passed(group)["db1"] == "db2 comes first: the failover leads away from it"
        assert choose(group, to="db1").member.name == "db1"
        assert choose(folded(*led(), *asked, silent("db2"), silent("db3"))).member.name == "db1"

    def test_a_primary_that_ended_by_itself_is_a_member_like_all_others(self):
        again = ended(), ready("db1")
        assert choose(folded(*led(), *again, started(SECOND, 1, "db1", "ended"))).member.name == "db1"
        # The operator found nobody who led, so there is nobody to lead away from.
        assert choose(folded(*led(), *again, started(SECOND, 1, "db1", "operator"))).member.name == "db1"

    def test_a_stranger_cannot_be_asked_for(self):
        with pytest.raises(MemberNotFound) as caught:
            choose(folded(*led()), to="db9")
        assert caught.value.context == {"member": "db9"}


class TestWhoIsPassedOver:
    @pytest.mark.parametrize(
        ("events", "why"),
        [
            ((MemberLeft(member="db2"),), "inactive: its runner has stopped"),
            ((joined("db2", "p2"),), "recovering: its runner has joined and has not said that it is ready"),
            ((silent("db2"),), "failed: it was not heard for 1.5 s"),
            ((ill("db2"),), "failed: no connection"),
            ((ill("db2", "hook"),), "failed: no connection"),
            ((suspected("db2"),), "suspected: its instance is unhealthy: 503"),
        ],
        ids=["left", "recovering", "silent", "its check", "its hook", "its instance's checks"],
    )
    def test_whoever_is_not_well(self, events, why):
        group = folded(*led(), *events)
        chosen = choose(group)
        assert chosen.member.name == "db3"
        assert passed(group) == {"db1": ASKED, "db2": why}

    def test_whoever_leads_and_steps_down_but_not_after_its_end(self):
        assert passed(folded(*led()))["db1"] == ASKED
        stopped = folded(*led(), ended())
        assert passed(stopped)["db1"] == STOPPED
        assert choose(evolved(stopped, ready("db1"))).member.name == "db1"

    def test_whoever_was_never_seen(self):
        group = folded(*created(), joined("db3"), ready("db3"))
        assert passed(group)["db1"] == "inactive: its runner has not joined"

    def test_if_that_is_everybody_each_has_a_reason(self):
        group = folded(*led(), silent("db2"), suspected("db3"))
        with pytest.raises(NoHealthyStandby) as caught:
            choose(group)
        assert caught.value.context == {
            "members": f"db1: {ASKED}; db2: failed: it was not heard for 1.5 s; "
            "db3: suspected: its instance is unhealthy: 503"
        }

    def test_an_empty_group_says_so(self):
        with pytest.raises(NoHealthyStandby, match="the group has no other member"):
            choose(folded(created()[0]))


class TestCopies:
    def test_in_a_synchronous_group_only_members_of_the_recorded_set(self):
        group = folded(*led(in_sync=("db1", "db3"), synchronous=True))
        assert choose(group).member.name == "db3"
        assert passed(group)["db2"] == "it is not in the in-sync set db1, db3"
        # The set says nothing where nobody keeps it.
        assert choose(folded(*led(in_sync=("db1", "db3")))).member.name == "db2"

    def test_else_acknowledged_writes_could_be_lost_and_an_operator_may_accept_that(self):
        group = folded(*led(in_sync=("db1",), synchronous=True), position("db3", 9), position("db2", 8))
        with pytest.raises(DataLossRefused) as caught:
            choose(group)
        assert caught.value.context["missing"] == (
            f"db1: {ASKED}; db2: it is not in the in-sync set db1; db3: it is not in the in-sync set db1"
        )
        chosen = choose(group, accept_data_loss=True)
        # The longest copy then comes before the highest priority.
        assert (chosen.member.name, chosen.lossy) == ("db3", True)
        assert passed(group, accept_data_loss=True)["db2"] == "db3 comes first: priority 1, not 2"

    def test_data_loss_is_accepted_only_where_it_is_the_only_way(self):
        chosen = choose(folded(*led(in_sync=("db1", "db3"), synchronous=True)), accept_data_loss=True)
        assert (chosen.member.name, chosen.lossy) == ("db3", False)

    def test_then_it_is_taken_from_whoever_holds_most_though_a_failover_leads_away_from_it(self):
        held = position("db1", 100, 0), position("db2", 95, 0)
        group = folded(*led(max_lag=10), *held, started(SECOND, 1, "db1", "operator"), fenced(), ended(), ready("db1"))
        chosen = choose(group, accept_data_loss=True, compared=True)
        assert (chosen.member.name, chosen.lossy) == ("db1", True)

    def test_nobody_who_is_ill_leads_whatever_is_accepted(self):
        with pytest.raises(NoHealthyStandby):
            choose(
                folded(*led(in_sync=("db1",), synchronous=True), silent("db2"), silent("db3")), accept_data_loss=True
            )

    def test_before_the_copies_were_compared_a_position_says_nothing(self):
        group = folded(*led(max_lag=10), position("db1", 100), position("db2", 5))
        assert choose(group).member.name == "db2"

    @pytest.mark.parametrize(("reaches", "leads"), [(100, "db2"), (90, "db2"), (89, "db3")])
    def test_compared_a_copy_may_be_so_far_behind_the_longest_one_known(self, reaches, leads):
        group = folded(*led(max_lag=10), position("db1", 100), ended(), position("db2", reaches), position("db3", 95))
        chosen = choose(group, compared=True)
        assert chosen.member.name == leads
        if leads == "db3":
            why = "its copy is 11 behind the longest one known; at most 10 is allowed"
            assert passed(group, compared=True)["db2"] == why

    @pytest.mark.parametrize("told", [(), (position("db2", 100, 0),)], ids=["nothing", "in another epoch"])
    def test_compared_a_copy_that_has_not_said_how_far_it_reaches_is_passed_over(self, told):
        group = folded(*led(max_lag=10), *told, ended(), position("db3", 95))
        assert choose(group, compared=True).member.name == "db3"
        assert passed(group, compared=True)["db2"] == "how far its copy reaches is not known"

    def test_where_nobody_knows_any_position_there_is_nothing_to_compare(self):
        assert choose(folded(*led(max_lag=10), ended()), compared=True).member.name == "db2"

    def test_candidates_are_told_apart_by_what_they_are_and_what_they_lack(self):
        found = candidates(folded(*led(in_sync=("db1", "db3"), synchronous=True)))
        assert [member.name for member in found.able] == ["db3"]
        assert (found.unfit.keys(), found.lack.keys()) == ({"db1"}, {"db2"})


class TestWhenItIsTime:
    def test_a_first_primary_at_once_when_everybody_is_there(self):
        assert due(folded(*here()), at(0)) == Due("first", "the group has had no primary yet")

    def test_else_after_the_others_had_as_long_as_a_silent_member(self):
        group = folded(*created(), (1.0, joined("db3")), (2.0, ready("db3")))
        assert due(group, at(3.4)) is None
        assert due(group, at(3.5)) == Due("first", "the group has had no primary yet")

    def test_not_without_anybody_who_could(self):
        assert due(folded(*created()), at(99)) is None
        assert due(folded(*created(), joined("db1")), at(99)) is None
        assert due(folded(*led(), ended(), silent("db2"), silent("db3")), at(99)) is None

    @pytest.mark.parametrize(("how", "detail"), [("said", ""), ("seen", "exit code 137"), ("lease", LEASE_OVER)])
    def test_a_proven_end_at_once_and_also_just_after_a_failover(self, how, detail):
        for cause in ("first", "suspected"):
            wanted = due(folded(*led(cause), (0.1, ended(how=how, detail=detail))), at(0.1))
            assert wanted == Due("ended", f"db1 has ended ({how})" + (f": {detail}" if detail else ""))

    def test_the_primarys_own_word_that_it_has_failed_at_once(self):
        wanted = due(folded(*led("suspected"), ill("db1")), at(0))
        assert wanted == Due("failed", "db1 says that it has failed: no connection")
        assert due(folded(*led(), ill("db1"), silent("db2"), silent("db3")), at(0)) is None

    def test_a_suspicion_of_two_kinds_of_observers(self):
        assert due(folded(*led(), silent("db1")), at(99)) is None
        assert due(folded(*led(), suspected("db1")), at(99)) is None
        both = folded(*led(), silent("db1"), suspected("db1"))
        evidence = "its runner: it was not heard for 1.5 s; its checks: its instance is unhealthy: 503"
        assert due(both, at(0)) == Due("suspected", evidence)
        assert due(evolved(both, MemberTrusted(member="db1")), at(99)) is None

    def test_a_suspicion_is_held_down_after_a_failover_that_rested_on_one(self):
        both = folded(*led("suspected"), silent("db1"), suspected("db1"))
        assert due(both, at(29.9)) is None
        assert due(both, at(30.0)).cause == "suspected"

    def test_a_preferred_member_when_it_has_been_ready_for_long_enough(self):
        # db2 leads, since db1 came later.
        first = *here(preempt=True), joined("db1", "p2"), started(), promoted("db2", 1)
        served = (*first, SERVES, finished(), (5.0, ready("db1")))
        assert due(folded(*served), at(34.9)) is None
        assert due(folded(*served), at(35)) == Due("preferred", "db1 has priority 3, db2 has 2")

    @pytest.mark.parametrize("brake", ["not asked for", "not serving", "not better", "lacks", "ill"])
    def test_not_one_that_is_not_preferred(self, brake):
        kept = {"synchronous": True} if brake == "lacks" else {}
        in_sync = ("db2",) if brake == "lacks" else ()
        first = (*here(preempt=brake != "not asked for", **kept), started(), promoted("db2", 1, in_sync=in_sync))
        group = folded(*first, *(() if brake == "not serving" else (SERVES,)), finished())
        if brake == "not better":
            group = evolved(group, MemberAdded(member="db1", priority=2))
        if brake == "ill":
            group = evolved(group, silent("db1"))
        assert due(group, at(999)) is None

    @pytest.mark.parametrize("paused", [True, False])
    def test_a_paused_group_waits_for_an_operator(self, paused):
        group = folded(*led(), ended(), GroupPaused(), *(() if paused else (GroupResumed(),)))
        assert (due(group, at(0)) is None) is paused

    def test_not_while_a_failover_is_under_way_nor_while_the_primary_is_fenced(self):
        assert due(folded(*led(), ended(), started(SECOND, 1)), at(0)) is None
        assert due(folded(*led(), ill("db1"), started(SECOND, 1), fenced(), finished(SECOND)), at(0)) is None

    def test_not_of_a_group_that_is_gone(self):
        assert due(folded(*here(), GroupDeleted()), at(99)) is None


class TestGivingUp:
    GAVE_UP = (*led(), ended(), started(SECOND, 1), finished(SECOND, "refused", "why"))

    def test_what_was_given_up_is_not_tried_again(self):
        assert due(folded(*self.GAVE_UP), at(999)) is None

    @pytest.mark.parametrize(
        "news",
        [
            joined("db3", "p2"),
            ready("db1"),
            MemberTrusted(member="db2"),
            MemberAdded(member="db4", priority=1),
            position("db2", 7),
            GroupSettingsChanged(settings=GroupRules(max_lag=7)),
            GroupResumed(),
        ],
        ids=lambda told: told.type,
    )
    def test_until_something_may_have_made_it_possible(self, news):
        assert due(folded(*self.GAVE_UP, news), at(0)).cause == "ended"

    @pytest.mark.parametrize("news", [MemberLeft(member="db3"), suspected("db3")], ids=lambda told: told.type)
    def test_not_by_what_makes_it_no_easier(self, news):
        assert due(folded(*self.GAVE_UP, news), at(0)) is None

    @pytest.mark.parametrize("outcome", ["aborted", "timeout", "refused"])
    def test_a_primary_that_goes_on_and_ends_or_fails_later_is_followed(self, outcome):
        back = GroupReclaimed(member="db1", failover=SECOND, epoch=2, incarnation=4)
        group = folded(*led(), started(SECOND, 1), fenced(), back, finished(SECOND, outcome, "why"))
        assert due(group, at(99)) is None
        assert due(evolved(group, ended(epoch=2)), at(99)).cause == "ended"
        assert due(evolved(group, ill("db1")), at(99)).cause == "failed"

    def test_one_that_was_lost_is_followed_at_once(self):
        lost = (*led(), ended(), started(SECOND, 1), promoted("db2", 2, SECOND), ended("db2", 2))
        assert due(folded(*lost, finished(SECOND, "lost", "why")), at(0)).cause == "ended"
