"""Fencing by a hook: who is to do it and when, what its word proves, and what is refused to it."""

import pytest
from pydantic import ValidationError

from domain.groups.choice import due
from domain.groups.fencing import fencer, tries
from domain.groups.member import (
    FencingFailed,
    GroupReclaimed,
    JoinGroup,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberRecovering,
    PrimaryEnded,
    ReportFenced,
)
from domain.groups.state import GroupRules, GroupSettingsChanged
from muster.wire.error import StaleEpoch, StaleIncarnation, VerbNotAllowed
from projections.groups import degraded, shown
from tests.domain.groups.beginnings import (
    MEMBERS,
    SECOND,
    at,
    created,
    ended,
    fenced,
    finished,
    folded,
    group_of,
    joined,
    led,
    promoted,
    ready,
    saying,
    silent,
    started,
    suspected,
)


def armed(*names, process="p1"):
    """These members run with a hook."""
    told = (MemberJoined(member=name, process=process, address=f"{name}:5432", fences=True) for name in names)
    return tuple(event for one, name in zip(told, names, strict=True) for event in (one, ready(name)))


def hooked(*names, **settings):
    """db1 leads, and these members can fence. Their runners have joined before the others."""
    settings = {"fencing": "hook", **settings}
    joins = [event for name in MEMBERS for event in (armed(name) if name in names else (joined(name), ready(name)))]
    return *created(**settings), *joins, started(), promoted("db1", 1), finished()


BOTH = ("db2", "db3")
CLOSED = (silent("db1"), started(SECOND, 1, "db1", "suspected"), fenced())


def failed(member="db2", attempt=1, epoch=1):
    return FencingFailed(member=member, primary="db1", epoch=epoch, attempt=attempt, why="no such volume")


def says(member="db2", outcome="done", epoch=1, attempt=1, detail="its power is off"):
    return saying(ReportFenced, member, epoch=epoch, attempt=attempt, outcome=outcome, detail=detail)


def name_of(member):
    return None if member is None else member.name


class TestJoining:
    def test_a_process_says_whether_it_can_fence(self):
        command = JoinGroup(member="db2", process="p1", address="db2:5432", fences=True)
        member = group_of(*created()).when(command).then(armed("db2")[0]).members["db2"]
        assert member.fences

    def test_the_next_process_of_the_member_speaks_for_itself(self):
        assert not folded(*hooked("db2"), joined("db2", "p2")).members["db2"].fences


class TestWhoFences:
    def test_whoever_comes_first_and_has_failed_least_often(self):
        assert name_of(fencer(folded(*hooked(*BOTH), *CLOSED))) == "db2"
        assert name_of(fencer(folded(*hooked(*BOTH), *CLOSED, failed("db2")))) == "db3"
        both = (failed("db2"), failed("db3"))
        assert name_of(fencer(folded(*hooked(*BOTH), *CLOSED, *both))) == "db2"
        assert name_of(fencer(folded(*hooked(*BOTH), *CLOSED, *both, failed("db2", 2)))) == "db3"

    def test_what_a_member_has_tried_at_another_epoch_does_not_count(self):
        group = folded(*hooked(*BOTH), *CLOSED, failed("db2", 4))
        assert (tries(group.members["db2"], 1), tries(group.members["db2"], 2)) == (4, 0)

    def test_a_new_process_counts_its_tries_from_the_beginning(self):
        group = folded(*hooked(*BOTH), *CLOSED, failed("db2", 4), *armed("db2", process="p2"))
        assert name_of(fencer(group)) == "db2"
        assert tries(group.members["db2"], 1) == 0

    @pytest.mark.parametrize(
        "news", [silent("db2"), MemberLeft(member="db2"), joined("db2", "p2")], ids=["silent", "left", "without a hook"]
    )
    def test_nobody_waits_for_one_that_cannot(self, news):
        assert name_of(fencer(folded(*hooked(*BOTH), *CLOSED, news))) == "db3"
        assert fencer(folded(*hooked("db2"), *CLOSED, news)) is None

    def test_who_is_not_fit_to_lead_may_fence_all_the_same(self):
        ill = MemberFailed(member="db2", failure="check", why="no connection")
        assert name_of(fencer(folded(*hooked("db2"), *CLOSED, ill))) == "db2"

    def test_the_primary_does_not_fence_itself(self):
        assert fencer(folded(*hooked("db1"), *CLOSED)) is None
        # Another process of it is on the same host.
        assert fencer(folded(*hooked("db1"), *CLOSED, *armed("db1", process="p2"))) is None

    @pytest.mark.parametrize(
        "events",
        [
            (silent("db1"),),
            (started(SECOND, 1, "db1", "operator"), fenced()),
            (*CLOSED, MemberRecovering(member="db1")),
            (*CLOSED, ended(how="lease")),
            (*CLOSED, GroupReclaimed(member="db1", failover=SECOND, epoch=2, incarnation=4)),
            (*CLOSED, GroupSettingsChanged(settings=GroupRules())),
        ],
        ids=["no failover yet", "it is heard", "it is heard again", "it has ended", "it goes on", "no hooks any more"],
    )
    def test_nobody_is_to_fence_where_it_is_not_wanted(self, events):
        assert fencer(folded(*hooked(*BOTH), *events)) is None

    def test_another_process_of_the_member_says_nothing_of_the_one_that_leads(self):
        assert name_of(fencer(folded(*hooked(*BOTH), *CLOSED, joined("db1", "p2"), ready("db1")))) == "db2"

    def test_the_row_says_who_and_whom(self):
        row = shown("db", folded(*hooked(*BOTH), *CLOSED))
        assert (row.fencer, row.primary, row.incarnation) == ("db2", "db1", 4)
        assert [member.member for member in row.members if member.fences] == ["db2", "db3"]
        assert shown("db", folded(*hooked(*BOTH))).fencer is None


class TestWhenItIsDue:
    def test_silence_is_enough_where_somebody_can_fence_and_nobody_else_looks(self):
        told = due(folded(*hooked(*BOTH), silent("db1")), at(0))
        assert told is not None
        assert (told.cause, told.evidence) == (
            "suspected",
            "its runner: it was not heard for 1.5 s; db2 is to fence it",
        )

    @pytest.mark.parametrize(
        ("names", "settings", "events"),
        [
            ((), {}, (silent("db1"),)),
            (("db1",), {}, (silent("db1"),)),
            (BOTH, {"service": "db"}, (silent("db1"),)),
            (BOTH, {"fencing": "lease"}, (silent("db1"),)),
            (BOTH, {}, ()),
        ],
        ids=["nobody fences", "only itself", "its checks know better", "another fencing", "it is heard"],
    )
    def test_else_it_is_not(self, names, settings, events):
        assert due(folded(*hooked(*names, **settings), *events), at(0)) is None

    def test_with_a_service_its_checks_have_to_agree(self):
        assert due(folded(*hooked(*BOTH, service="db"), silent("db1"), suspected("db1")), at(0)) is not None


class TestWhatItProves:
    def test_the_epoch_has_ended(self):
        proof = PrimaryEnded(member="db1", epoch=1, how="hook", detail="db2 has fenced it: its power is off")
        state = group_of(*hooked(*BOTH), *CLOSED).when(says()).then(proof)
        assert (state.ownership.ended, state.primary) == ("hook", None)

    def test_a_failure_is_recorded_once_for_each_attempt(self):
        group = group_of(*hooked(*BOTH), *CLOSED)
        group.when(says(outcome="failed", detail="no such volume")).then(failed())
        group_of(*hooked(*BOTH), *CLOSED, failed("db2", 2)).when(says(outcome="failed", attempt=1)).nothing()
        group_of(*hooked(*BOTH), *CLOSED, failed("db2", 2)).when(
            says(outcome="failed", attempt=3, detail="no such volume")
        ).then(failed("db2", 3))

    @pytest.mark.parametrize("outcome", ["done", "failed"])
    def test_a_late_word_changes_nothing(self, outcome):
        group_of(*hooked(*BOTH), *CLOSED, ended(how="lease")).when(says(outcome=outcome)).nothing()
        goes_on = GroupReclaimed(member="db1", failover=SECOND, epoch=2, incarnation=4)
        group_of(*hooked(*BOTH), *CLOSED, goes_on).when(says(outcome=outcome)).nothing()

    def test_of_an_epoch_that_nobody_has_closed_it_proves_nothing(self):
        group_of(*hooked(*BOTH), silent("db1")).when(says()).refused(StaleEpoch, epoch=1, owner="db1")

    def test_of_an_epoch_that_is_yet_to_come_neither(self):
        group_of(*hooked(*BOTH), *CLOSED).when(says(epoch=2)).refused(StaleEpoch, epoch=1, owner="db1")

    @pytest.mark.parametrize("fencing", ["lease", "unfenced"])
    def test_nor_where_the_group_has_not_agreed_to_hooks(self, fencing):
        group_of(*hooked(*BOTH, fencing=fencing), *CLOSED).when(says()).refused(VerbNotAllowed, allowed="")

    def test_nor_of_the_primary_itself(self):
        group_of(*hooked("db1", *BOTH), *CLOSED).when(says("db1")).refused(VerbNotAllowed, allowed="")

    def test_nor_by_a_process_of_before(self):
        group_of(*hooked(*BOTH), *CLOSED, joined("db2", "p2")).when(says()).refused(StaleIncarnation, incarnation=16)

    def test_attempts_count_from_one(self):
        with pytest.raises(ValidationError):
            says(attempt=0)


def test_a_group_of_hooks_without_anybody_who_fences_is_degraded():
    assert degraded(folded(*led(fencing="hook"))) == "nobody can fence db1: no other member runs with --fence"
    assert degraded(folded(*led())) is None
