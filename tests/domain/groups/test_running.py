"""What runners say of their members, what is refused, and what runs out: silence, and the primary's lease."""

import pytest
from pydantic import ValidationError

from domain.groups.commands import PauseGroup
from domain.groups.group import DECIDER
from domain.groups.member import (
    ChangeInSync,
    ExpireMember,
    GroupReclaimed,
    GroupServing,
    InSyncChanged,
    JoinGroup,
    MemberFailed,
    MemberLeft,
    MemberReady,
    MemberRecovering,
    RenewMember,
    ReportEnded,
    ReportMember,
    ReportPosition,
    ReportServing,
)
from domain.groups.running import is_only_sign
from domain.groups.timers import MemberTimer, expire, part_of, renews, timers
from muster.wire.error import InvalidCommand, MemberNotFound, StaleEpoch, StaleIncarnation, VersionConflict
from tests.domain.groups.beginnings import (
    INCARNATIONS,
    LEASE_OVER,
    SECOND,
    created,
    ended,
    fenced,
    group_of,
    here,
    joined,
    led,
    position,
    promoted,
    ready,
    saying,
    silent,
    started,
)

LEFT = MemberLeft(member="db2")
FENCED = (*led(), started(SECOND, 1, "db1", "operator"), fenced())
ANOTHER = joined("db1", "p2")
"""Another process has joined as db1; in `led` that is incarnation 14."""


def failed(failure="check", why="no connection", member="db2"):
    return MemberFailed(member=member, failure=failure, why=why)


class TestJoining:
    def test_a_process_joins_with_the_streams_version_as_its_incarnation(self):
        command = JoinGroup(member="db1", process="p1", address="db1:5432")
        member = group_of(*created()).when(command).then(joined("db1")).members["db1"]
        assert (member.incarnation, member.status, member.process, member.address) == (
            4,
            "recovering",
            "p1",
            "db1:5432",
        )

    @pytest.mark.parametrize(
        "status", [ready("db2"), failed(), failed("hook"), LEFT, silent("db2")], ids=lambda told: told.type
    )
    def test_the_same_process_joins_anew_only_when_it_had_left_or_was_not_heard(self, status):
        again = group_of(*here(), status).when(JoinGroup(member="db2", process="p1", address="db2:5432"))
        if status in (LEFT, silent("db2")):
            assert again.then(joined("db2")).members["db2"].incarnation == 11
        else:
            again.nothing()

    @pytest.mark.parametrize("change", [{"process": "p2"}, {"address": "other:5432"}], ids=str)
    def test_another_process_or_address_joins_anew(self, change):
        command = JoinGroup(**{"member": "db2", "process": "p1", "address": "db2:5432", **change})
        state = group_of(*here()).when(command)
        [told] = state.decider.decide(command, state.state)
        assert group_of(*here(), told).state.members["db2"].incarnation == 10

    def test_who_is_no_member_is_told_who_is(self):
        when = group_of(*created()).when(JoinGroup(member="db9", process="p1"))
        when.refused(MemberNotFound, member="db9")
        with pytest.raises(MemberNotFound, match="members: db1, db2, db3"):
            when.decider.decide(when.command, when.state)

    @pytest.mark.parametrize("fields", [{"process": ""}, {"address": "x" * 301}, {"member": "a/b"}], ids=str)
    def test_what_cannot_be_is_refused(self, fields):
        with pytest.raises(ValidationError):
            JoinGroup(**{"member": "db1", "process": "p1", **fields})


class TestOfTwoProcesses:
    @pytest.mark.parametrize(
        "word",
        [
            saying(RenewMember, epoch=1),
            saying(RenewMember),
            saying(ReportMember, outcome="ready"),
            saying(ReportEnded, epoch=1, how="said"),
            saying(ReportServing, epoch=1),
            saying(ReportPosition, epoch=1, position=7),
            saying(ChangeInSync, epoch=1, version=1, in_sync=("db1",), cause="lost"),
        ],
        ids=lambda word: type(word).__name__,
    )
    def test_the_one_that_joined_first_is_refused_whatever_it_says(self, word):
        group_of(*led(), ANOTHER).when(word).refused(StaleIncarnation, incarnation=14)

    def test_the_one_that_joined_later_is_not_the_primary_of_the_others_epoch(self):
        after = group_of(*led(), ANOTHER)
        late = {"member": "db1", "incarnation": 14, "epoch": 1}
        for word in (RenewMember(**late), ReportServing(**late)):
            after.when(word).refused(StaleEpoch, epoch=1, owner="db1")
        # Nor can it say how the other one has ended: it may have seen nothing of it.
        after.when(ReportEnded(**late, how="said")).nothing()


class TestRenewals:
    def test_they_are_no_events(self):
        group_of(*led()).when(saying(RenewMember, epoch=1)).nothing()
        group_of(*led()).when(saying(RenewMember, "db2")).nothing()

    def test_one_of_a_member_that_was_silent_is(self):
        told = MemberRecovering(member="db2")
        state = group_of(*led(), silent("db2")).when(saying(RenewMember, "db2")).then(told)
        assert (state.members["db2"].status, state.members["db2"].incarnation) == ("recovering", 6)
        group_of(*led(), failed()).when(saying(RenewMember, "db2")).nothing()

    def test_whoever_has_left_has_to_join_again(self):
        group_of(*led(), LEFT).when(saying(RenewMember, "db2")).refused(StaleIncarnation, incarnation=6)

    @pytest.mark.parametrize(
        ("events", "epoch", "context"),
        [
            (led(), 0, {"epoch": 1, "owner": "db1"}),
            (led(), 2, {"epoch": 1, "owner": "db1"}),
            (FENCED, 1, {"epoch": 1, "owner": "db1"}),
            ((*led(), ended()), 1, {"epoch": 1}),
            ((*FENCED, ended(), promoted("db2", 2)), 1, {"epoch": 2, "owner": "db2"}),
            ((*FENCED, ended(), promoted("db2", 2)), 2, {"epoch": 2, "owner": "db2"}),
        ],
        ids=["an earlier epoch", "one to come", "fenced", "ended", "another primary", "its epoch"],
    )
    def test_a_renewal_as_the_primary_is_refused_to_all_others(self, events, epoch, context):
        group_of(*events).when(saying(RenewMember, epoch=epoch)).refused(StaleEpoch, **context)


class TestSigns:
    @pytest.mark.parametrize(
        ("events", "member", "epoch"),
        [(led(), "db1", 1), (led(), "db1", None), (led(), "db2", None), (FENCED, "db2", None), (FENCED, "db1", None)],
    )
    def test_of_a_member_that_is_heard_a_renewal_changes_nothing(self, events, member, epoch):
        assert is_only_sign(saying(RenewMember, member, epoch=epoch), group_of(*events).state)

    @pytest.mark.parametrize(
        ("events", "member", "epoch"),
        [
            (led(), "db1", 0),
            (led(), "db1", 2),
            (led(), "db2", 1),
            (FENCED, "db1", 1),
            ((*led(), ended()), "db1", 1),
            ((*led(), silent("db1")), "db1", 1),
            ((*led(), silent("db2")), "db2", None),
            ((*led(), LEFT), "db2", None),
            ((*led(), ANOTHER), "db1", 1),
            ((*here(), started(), promoted("db1", 1)), "db1", 1),
            (created(), "db1", None),
        ],
    )
    def test_whatever_else_it_may_be_is_decided(self, events, member, epoch):
        assert not is_only_sign(saying(RenewMember, member, epoch=epoch), group_of(*events).state)

    def test_nobody_else_is_a_member(self):
        assert not is_only_sign(RenewMember(member="db9", incarnation=4), group_of(*led()).state)


class TestReports:
    @pytest.mark.parametrize("before", [joined("db2"), silent("db2"), failed(), failed("hook")], ids=str)
    def test_a_member_that_runs_becomes_ready(self, before):
        start = (*here(), before)
        incarnation = 10 if before == joined("db2") else 6
        word = ReportMember(member="db2", incarnation=incarnation, outcome="ready")
        member = group_of(*start).when(word).then(MemberReady(member="db2")).members["db2"]
        assert (member.status, member.why, member.failure) == ("active", "", None)

    def test_it_fails_with_a_reason_and_says_so_once(self):
        word = saying(ReportMember, "db2", outcome="failed", why="no connection")
        member = group_of(*here()).when(word).then(failed()).members["db2"]
        assert (member.status, member.failure, member.why) == ("failed", "check", "no connection")
        other = saying(ReportMember, "db2", outcome="failed", failure="hook")
        group_of(*here(), failed()).when(other).then(failed("hook", "it gave no reason"))

    def test_it_leaves_once(self):
        state = group_of(*here()).when(saying(ReportMember, "db2", outcome="left")).then(LEFT)
        assert state.members["db2"].status == "inactive"

    @pytest.mark.parametrize("outcome", ["ready", "failed", "left"])
    def test_of_whoever_has_left_nothing_is_news(self, outcome):
        group_of(*here(), LEFT).when(saying(ReportMember, "db2", outcome=outcome)).nothing()

    def test_the_primary_leaves_only_when_what_it_ran_has_ended(self):
        word = saying(ReportMember, outcome="left")
        group_of(*led()).when(word).refused(StaleEpoch, epoch=1, owner="db1")
        group_of(*led(), ended(how="said")).when(word).then(MemberLeft(member="db1"))

    def test_the_primary_serves_and_says_so_once(self):
        begun = (*here(), started(), promoted("db1", 1))
        state = group_of(*begun).when(saying(ReportServing, epoch=1)).then(GroupServing(member="db1", epoch=1))
        assert state.serving
        group_of(*begun).when(saying(ReportServing, "db2", epoch=1)).refused(StaleEpoch, epoch=1, owner="db1")
        group_of(*begun).when(saying(ReportServing, epoch=0)).refused(StaleEpoch, epoch=1, owner="db1")

    def test_a_position_is_one_of_the_current_epoch(self):
        word = saying(ReportPosition, "db2", epoch=1, position=40)
        member = group_of(*led()).when(word).then(position("db2", 40)).members["db2"]
        assert (member.position, member.position_epoch) == (40, 1)
        late = saying(ReportPosition, "db2", epoch=0, position=40)
        group_of(*led()).when(late).refused(StaleEpoch, epoch=1, owner="db1")
        # The same place in another epoch is news: it says that the copy has grown no further since.
        group_of(*led(), position("db2", 40), ended(), promoted("db2", 2)).when(
            saying(ReportPosition, "db2", epoch=2, position=40)
        ).then(position("db2", 40, 2))


class TestTheEndOfAnEpoch:
    @pytest.mark.parametrize(("how", "detail"), [("said", ""), ("seen", "exit code 137")])
    def test_its_primary_says_so_or_somebody_has_seen_it(self, how, detail):
        word = saying(ReportEnded, epoch=1, how=how, detail=detail)
        state = group_of(*led()).when(word).then(ended(how=how, detail=detail))
        assert (state.primary, state.ownership.ended, state.ended_detail, state.serving) == (None, how, detail, False)
        # What has just ended may end again: its runner has to say that it is ready.
        assert (state.members["db1"].status, state.members["db1"].incarnation) == ("recovering", 4)

    def test_also_of_a_fenced_one(self):
        assert (
            group_of(*FENCED)
            .when(saying(ReportEnded, epoch=1, how="said"))
            .then(ended(how="said", detail=""))
            .ownership.fenced
        )

    def test_one_that_has_failed_stays_failed(self):
        state = (
            group_of(*led(), failed(member="db1"))
            .when(saying(ReportEnded, epoch=1, how="said", detail=""))
            .then(ended(how="said", detail=""))
        )
        assert state.members["db1"].status == "failed"

    @pytest.mark.parametrize(
        ("events", "member", "epoch"),
        [
            (led(), "db1", 0),
            (led(), "db2", 1),
            ((*led(), ended()), "db1", 1),
            ((*FENCED, ended(), promoted("db2", 2)), "db1", 1),
        ],
        ids=["an earlier epoch", "a standby's", "it has ended", "another one leads"],
    )
    def test_a_late_word_or_one_of_a_standby_changes_nothing(self, events, member, epoch):
        group_of(*events).when(saying(ReportEnded, member, epoch=epoch, how="seen")).nothing()

    def test_an_epoch_that_nobody_has_begun_cannot_have_ended(self):
        group_of(*led()).when(saying(ReportEnded, epoch=2, how="seen")).refused(StaleEpoch, epoch=1, owner="db1")


class TestTheInSyncSet:
    KEPT = led(in_sync=("db1",), synchronous=True)
    GROWN = InSyncChanged(member="db1", epoch=1, version=2, in_sync=("db1", "db2"), cause="caught_up")

    def change(self, *names, version=1, epoch=1, cause="caught_up", member="db1"):
        return saying(ChangeInSync, member, epoch=epoch, version=version, in_sync=names, cause=cause)

    def test_the_primary_changes_it_version_by_version(self):
        state = group_of(*self.KEPT).when(self.change("db2", "db1", "db2")).then(self.GROWN)
        assert (state.ownership.in_sync, state.ownership.version) == (("db1", "db2"), 2)

    def test_an_equal_set_is_no_change(self):
        group_of(*self.KEPT).when(self.change("db1")).nothing()

    def test_a_late_one_is_refused_though_the_set_would_match(self):
        shrunk = InSyncChanged(member="db1", epoch=1, version=3, in_sync=("db1",), cause="lost")
        group_of(*self.KEPT, self.GROWN, shrunk).when(self.change("db1", "db2")).refused(VersionConflict, actual=3)

    def test_nobody_else_changes_it(self):
        standby = self.change("db1", "db2", member="db2")
        group_of(*self.KEPT).when(standby).refused(StaleEpoch, epoch=1, owner="db1")
        group_of(*self.KEPT).when(self.change("db1", "db2", epoch=2)).refused(StaleEpoch, epoch=1, owner="db1")

    @pytest.mark.parametrize("over", [(started(SECOND, 1), fenced()), (ended(),)], ids=["fenced", "ended"])
    def test_not_once_the_epoch_is_closed(self, over):
        late = group_of(*self.KEPT, *over).when(self.change("db1", "db2"))
        with pytest.raises(StaleEpoch):
            late.decider.decide(late.command, late.state)

    def test_it_holds_the_primary_itself_and_members_alone(self):
        group_of(*self.KEPT).when(self.change("db2")).refused(InvalidCommand, field="in_sync")
        group_of(*self.KEPT).when(self.change("db1", "db9")).refused(MemberNotFound, member="db9")


class TestWhatRunsOut:
    def lease(self, incarnation=4, epoch=1, member="db1"):
        return ExpireMember(member=member, kind="lease", incarnation=incarnation, epoch=epoch)

    def silence(self, incarnation=6, member="db2"):
        return ExpireMember(member=member, kind="heartbeat", incarnation=incarnation, epoch=0)

    def timers(self, events, member):
        return timers(part_of(group_of(*events).state, member))

    def test_the_lease_of_the_primary(self):
        group_of(*led()).when(self.lease()).then(ended(how="lease", detail=LEASE_OVER))
        group_of(*FENCED).when(self.lease()).then(ended(how="lease", detail=LEASE_OVER))

    @pytest.mark.parametrize(
        ("events", "epoch", "member"),
        [
            (led(), 0, "db1"),
            (led(), 1, "db2"),
            ((*led(), ended()), 1, "db1"),
            ((*FENCED, GroupReclaimed(member="db1", failover=SECOND, epoch=2, incarnation=4)), 1, "db1"),
            (created(), 0, "db1"),
            ((), 1, "db1"),
        ],
        ids=["another epoch", "a standby", "it has ended", "reclaimed", "nobody leads", "no group"],
    )
    def test_not_the_lease_of_another_epoch(self, events, epoch, member):
        group_of(*events).when(self.lease(epoch=epoch, member=member)).nothing()

    def test_also_when_another_process_has_joined_meanwhile(self):
        group_of(*led(), ANOTHER).when(self.lease()).then(ended(how="lease", detail=LEASE_OVER))

    @pytest.mark.parametrize("before", [(), (joined("db2"),)], ids=["active", "recovering"])
    def test_a_silent_member_has_failed(self, before):
        incarnation = 10 if before else 6
        state = group_of(*here(), *before).when(self.silence(incarnation)).then(silent("db2"))
        assert (state.members["db2"].status, state.members["db2"].failure) == ("failed", "silent")

    @pytest.mark.parametrize("before", [failed(), LEFT, joined("db2")], ids=lambda told: told.type)
    def test_not_one_of_whom_nothing_is_expected_or_another_process(self, before):
        group_of(*here(), before).when(self.silence()).nothing()

    def test_a_standby_has_one_timer_and_the_primary_two(self):
        heartbeat = MemberTimer("db2", "heartbeat", 6, 0, 1.5)
        assert self.timers(led(), "db2") == (heartbeat,)
        assert self.timers(led(), "db1") == (
            MemberTimer("db1", "lease", 4, 1, 2.0),
            MemberTimer("db1", "heartbeat", 4, 0, 1.5),
        )
        assert expire(heartbeat) == self.silence()

    def test_the_lease_is_the_epochs_whoever_joins_and_however_it_stands(self):
        lease = MemberTimer("db1", "lease", 4, 1, 2.0)
        for more in ((), (ANOTHER,), (failed(member="db1"),), (silent("db1"),), (started(SECOND, 1), fenced())):
            assert lease in self.timers((*led(), *more), "db1")
        assert [timer.kind for timer in self.timers((*led(), ended()), "db1")] == ["heartbeat"]
        again = (*FENCED, GroupReclaimed(member="db1", failover=SECOND, epoch=2, incarnation=4))
        assert MemberTimer("db1", "lease", 4, 2, 2.0) in self.timers(again, "db1")

    @pytest.mark.parametrize("before", [failed(), silent("db2"), LEFT], ids=str)
    def test_of_whoever_has_failed_or_left_no_sign_is_expected(self, before):
        assert self.timers((*here(), before), "db2") == ()

    def test_without_a_member_or_a_group_there_is_none(self):
        state = group_of(*led()).state
        assert (part_of(state, "db9"), timers(part_of(state, ""))) == (None, ())
        assert list(DECIDER.parts.items(state)) == ["db1", "db2", "db3"]

    def test_what_renews_what(self):
        lease, heartbeat = self.timers(led(), "db1")

        def renewed(word):
            which = renews(word)
            return () if which is None else tuple(timer.kind for timer in (lease, heartbeat) if which(timer))

        assert renewed(saying(RenewMember, epoch=1)) == ("lease", "heartbeat")
        assert renewed(saying(RenewMember, epoch=2)) == ("heartbeat",)
        assert renewed(saying(RenewMember)) == ("heartbeat",)
        assert renewed(JoinGroup(member="db1", process="p1")) == ("heartbeat",)
        for word in (saying(ReportMember, outcome="ready"), saying(ReportServing, epoch=1), PauseGroup()):
            assert renewed(word) == ()

    def test_an_answer_names_the_incarnation_of_its_member(self):
        state = group_of(*led(), ready("db2")).state
        parts = DECIDER.parts
        assert parts.incarnation(parts.part(state, "db2")) == INCARNATIONS["db2"]
        assert parts.incarnation(parts.part(state, "")) is None
        assert parts.version(parts.part(state, "db2")) == parts.version(parts.part(state, "")) == state.version - 1
        assert parts.version(parts.part(state, "db9")) is None
