"""The group's decider: what operators arrange, and what the steps of a failover do."""

import pytest
from pydantic import ValidationError

from domain.groups import group
from domain.groups.commands import (
    AddMember,
    CreateGroup,
    DeleteGroup,
    EndFailover,
    Failover,
    FenceGroup,
    NewMember,
    PauseGroup,
    PromoteMember,
    ReclaimGroup,
    RemoveMember,
    ResumeGroup,
    SetGroup,
    StartFailover,
    members_max,
)
from domain.groups.member import (
    GroupReclaimed,
    InSyncChanged,
    MemberAdded,
    MemberRemoved,
    MemberSuspected,
    MemberTrusted,
    PassedOver,
    SuspectMember,
)
from domain.groups.state import (
    FailoverEnded,
    FailoverStarted,
    GroupCreated,
    GroupDeleted,
    GroupPaused,
    GroupResumed,
    GroupRules,
    GroupSettingsChanged,
)
from domain.ownership import Ownership
from muster.wire.error import (
    DataLossRefused,
    GroupNotFound,
    MemberNotFound,
    NoHealthyStandby,
    StaleEpoch,
    TooLarge,
    VerbNotAllowed,
    VersionConflict,
)
from muster.wire.groups.answers import GROUP_SETTINGS
from tests.domain.groups.beginnings import (
    FIRST,
    INCARNATIONS,
    SECOND,
    created,
    ended,
    fenced,
    finished,
    group_of,
    here,
    joined,
    led,
    promoted,
    ready,
    started,
)
from tests.domain.test_catalogue import SAMPLE_COMMANDS

STEP = {"failover": SECOND, "epoch": 1}
START = StartFailover(**STEP, cause="operator", evidence="why")
UNDER_WAY = (*led(), started(SECOND, 1, "db1", "operator"))
CLOSED = (*UNDER_WAY, fenced())
OPEN = (*CLOSED, ended(how="said", detail=""))
OTHER = {"failover": "group/db/failover/9", "epoch": 1}


class TestCreation:
    def test_a_group_has_its_members_and_settings(self):
        command = CreateGroup(members=(NewMember("db1", 3), NewMember("db2", 2), NewMember("db3")), threshold=5)
        state = group_of().when(command).then(*created(threshold=5))
        assert sorted((member.name, member.priority, member.status) for member in state.members.values()) == [
            ("db1", 3, "inactive"),
            ("db2", 2, "inactive"),
            ("db3", 1, "inactive"),
        ]
        assert (state.ownership, state.primary, state.settings.silence_seconds) == (Ownership(), None, 2.5)

    def test_the_same_again_is_no_wish_to_have_the_first_members_again(self):
        group_of(*created(), MemberRemoved(member="db3")).when(CreateGroup(members=(NewMember("db3"),))).nothing()

    def test_other_settings_are_not_taken_by_the_way(self):
        group_of(*created()).when(CreateGroup(threshold=9)).refused(VersionConflict)

    def test_what_was_deleted_goes_on_with_epochs_failovers_and_versions_of_the_set(self):
        over = (*led(in_sync=("db1",)), ended(how="said"), GroupDeleted())
        again = GroupCreated(settings=GroupRules(), epoch=1, failovers=1, set_version=1)
        state = group_of(*over).when(CreateGroup()).then(again)
        assert (state.ownership, state.failovers, dict(state.members)) == (Ownership(epoch=1, version=1), 1, {})

    @pytest.mark.parametrize(
        "fields",
        [
            {"members": (NewMember("a"), NewMember("a"))},
            {"members": tuple(NewMember(f"m{number}") for number in range(members_max + 1))},
            {"threshold": 0},
            {"heartbeat_seconds": 0.01},
            {"lease_seconds": 0.1},
            {"max_lag": -1},
            {"fencing": "stonith"},
            {"service": "a/b"},
            {"hold_down_seconds": -1},
            {"failover_seconds": 0.5},
        ],
        ids=lambda fields: next(iter(fields)),
    )
    def test_what_cannot_be_is_refused(self, fields):
        with pytest.raises(ValidationError):
            CreateGroup(**fields)

    @pytest.mark.parametrize(
        "command",
        [
            command
            for command in SAMPLE_COMMANDS
            if isinstance(command, group.DECIDER.all_commands)
            and not isinstance(command, (CreateGroup, DeleteGroup, SuspectMember, Failover))
        ]
        + [START, FenceGroup(**STEP), PromoteMember(**STEP), ReclaimGroup(**STEP), EndFailover(**STEP, outcome="lost")],
        ids=lambda command: command.type,
    )
    def test_without_a_group_there_is_nobody_to_ask(self, command):
        group_of().when(command).refused(GroupNotFound)
        group_of(*created(), GroupDeleted()).when(command).refused(GroupNotFound)


class TestSettings:
    def test_what_is_given_changes_and_the_rest_stays(self):
        changed = GroupSettingsChanged(settings=GroupRules(threshold=5, lease_seconds=4.0, preempt=True))
        command = SetGroup(threshold=5, preempt=True)
        state = group_of(*created(lease_seconds=4.0)).when(command).then(changed)
        assert state.settings == changed.settings

    def test_what_is_named_is_taken_back_to_what_a_new_group_has(self):
        set_before = created(max_lag=10, service="db", threshold=5, preempt=True)
        group_of(*set_before).when(SetGroup(preempt=False, default=("max_lag", "service", "threshold"))).then(
            GroupSettingsChanged(settings=GroupRules())
        )
        group_of(*created()).when(SetGroup(default=("max_lag",))).then()

    def test_nothing_is_set_and_taken_back_at_once(self):
        with pytest.raises(ValidationError, match="max_lag: it cannot be set and be taken back at once"):
            SetGroup(max_lag=1, default=("max_lag",))

    def test_a_command_that_takes_nothing_back_is_what_it_was_before_there_was_taking_back(self):
        assert "default" not in SetGroup(threshold=5).model_dump()

    def test_what_can_be_set_has_one_list_of_names(self):
        settings = tuple(GroupRules.__dataclass_fields__)
        assert settings == GROUP_SETTINGS == tuple(name for name in SetGroup.model_fields if name != "default")

    def test_a_lease_of_another_length_holds_from_the_next_epoch_on(self):
        state = (
            group_of(*led())
            .when(SetGroup(lease_seconds=9))
            .then(GroupSettingsChanged(settings=GroupRules(lease_seconds=9.0)))
        )
        assert state.lease_seconds == 2.0
        after = group_of(*OPEN, GroupSettingsChanged(settings=GroupRules(lease_seconds=9.0))).when(
            PromoteMember(**STEP)
        )
        [told] = after.decider.decide(after.command, after.state)
        assert told.lease_seconds == 9.0

    def test_pausing_and_resuming_are_events_once(self):
        paused = group_of(*created()).when(PauseGroup()).then(GroupPaused())
        assert paused.paused
        assert not group_of(*created(), GroupPaused()).when(ResumeGroup()).then(GroupResumed()).paused
        group_of(*created()).when(ResumeGroup()).nothing()


class TestDeletion:
    def test_a_group_whose_members_do_not_run_goes_and_is_remembered(self):
        state = group_of(*created()).when(DeleteGroup()).then(GroupDeleted())
        assert (state.settings, dict(state.members)) == (None, {})

    def test_while_members_run_that_has_to_be_said(self):
        group_of(*here()).when(DeleteGroup()).refused(VerbNotAllowed, allowed="")
        group_of(*here()).when(DeleteGroup(force=True)).then(GroupDeleted())

    def test_the_primary_has_to_have_ended_because_a_group_made_anew_knows_nothing_of_its_lease(self):
        group_of(*led()).when(DeleteGroup(force=True)).refused(VerbNotAllowed, allowed="")
        group_of(*led(), ended()).when(DeleteGroup(force=True)).then(GroupDeleted())

    def test_not_while_a_failover_is_under_way(self):
        group_of(*OPEN).when(DeleteGroup(force=True)).refused(VerbNotAllowed, allowed="")


class TestMembers:
    def test_a_member_is_added_once_and_takes_another_priority(self):
        state = group_of(*created()).when(AddMember(member="db4")).then(MemberAdded(member="db4", priority=1))
        assert state.members["db4"].status == "inactive"
        state = group_of(*here()).when(AddMember(member="db3", priority=9)).then(MemberAdded(member="db3", priority=9))
        assert (state.members["db3"].priority, state.members["db3"].status) == (9, "active")

    def test_there_is_a_limit(self):
        many = [MemberAdded(member=f"m{number}", priority=1) for number in range(members_max - 3)]
        full = group_of(*created(), *many)
        full.when(AddMember(member="one-more")).refused(TooLarge, members_max=members_max)
        full.when(AddMember(member="db1", priority=9)).then(MemberAdded(member="db1", priority=9))

    def test_a_member_is_removed_but_not_the_primary_nor_one_of_the_set(self):
        state = group_of(*led()).when(RemoveMember(member="db3")).then(MemberRemoved(member="db3"))
        assert "db3" not in state.members
        group_of(*led()).when(RemoveMember(member="db1")).refused(VerbNotAllowed, allowed="failover")
        grown = InSyncChanged(member="db1", epoch=1, version=2, in_sync=("db1", "db2"), cause="caught_up")
        kept = group_of(*led(in_sync=("db1",), synchronous=True), grown)
        kept.when(RemoveMember(member="db2")).refused(VerbNotAllowed, allowed="")
        kept.when(RemoveMember(member="db3")).then(MemberRemoved(member="db3"))

    def test_after_its_end_the_primary_is_a_member_like_all_others(self):
        group_of(*led(), ended()).when(RemoveMember(member="db1")).then(MemberRemoved(member="db1"))

    def test_what_checks_say_is_a_suspicion_and_is_taken_back(self):
        ill = SuspectMember(member="db1", evidence="503")
        told = MemberSuspected(member="db1", evidence="503")
        state = group_of(*led()).when(ill).then(told)
        assert (state.members["db1"].suspect, state.members["db1"].status) == ("503", "active")
        well = SuspectMember(member="db1")
        assert group_of(*led(), told).when(well).then(MemberTrusted(member="db1")).members["db1"].suspect is None
        group_of(*led()).when(well).nothing()
        group_of(*led()).when(SuspectMember(member="db9", evidence="503")).nothing()
        group_of().when(ill).nothing()


class TestStepsOfAFailover:
    def test_it_takes_the_group(self):
        begun = FailoverStarted(
            failover=SECOND, cause="operator", evidence="why", epoch=1, was="db1", to=None, lossy=False
        )
        state = group_of(*led()).when(START).decider.decide(START, group_of(*led()).state)
        assert state == [begun]
        after = group_of(*led(), begun).state
        assert (after.failover, after.failover_cause, after.failovers) == (SECOND, "operator", 2)

    def test_only_one_is_under_way(self):
        group_of(*UNDER_WAY).when(StartFailover(**OTHER, cause="operator", evidence="")).refused(
            VerbNotAllowed, allowed=""
        )

    def test_it_does_not_begin_where_it_could_not_end(self):
        alone = (*created(), joined("db1"), ready("db1"), started(), promoted("db1", 1), finished())
        reasons = "db1: it is the primary that steps down; " + "; ".join(
            f"{name}: inactive: its runner has not joined" for name in ("db2", "db3")
        )
        group_of(*alone).when(START).refused(NoHealthyStandby, members=reasons)
        group_of(*led()).when(START.model_copy(update={"to": "db9"})).refused(MemberNotFound, member="db9")
        kept = group_of(*led(in_sync=("db1",), synchronous=True))
        with pytest.raises(DataLossRefused) as caught:
            kept.decider.decide(START, kept.state)
        assert "db2: it is not in the in-sync set db1" in caught.value.context["missing"]
        [begun] = kept.decider.decide(START.model_copy(update={"accept_data_loss": True}), kept.state)
        assert begun.lossy

    def test_it_begins_at_the_epoch_that_it_has_seen(self):
        late = StartFailover(failover=SECOND, epoch=0, cause="operator", evidence="")
        group_of(*led()).when(late).refused(StaleEpoch, epoch=1, owner="db1")

    def test_the_fence_refuses_the_primary_from_here_on(self):
        state = group_of(*UNDER_WAY).when(FenceGroup(**STEP)).then(fenced())
        assert (state.ownership.fenced, state.ownership.holder) == (True, "db1")

    def test_where_nobody_holds_the_epoch_there_is_nobody_to_be_fenced(self):
        group_of(*led(), ended(), started(SECOND, 1, "db1", "ended")).when(FenceGroup(**STEP)).nothing()

    def test_of_another_epoch_there_is_no_fence(self):
        group_of(*UNDER_WAY).when(FenceGroup(failover=SECOND, epoch=2)).refused(StaleEpoch, epoch=1, owner="db1")

    @pytest.mark.parametrize("step", [FenceGroup, PromoteMember, ReclaimGroup], ids=lambda step: step.__name__)
    def test_a_failover_that_is_not_under_way_changes_nothing(self, step):
        group_of(*OPEN).when(step(**OTHER)).refused(StaleEpoch, epoch=1)
        group_of(*led()).when(step(**STEP)).refused(StaleEpoch, epoch=1)

    def test_it_gives_the_next_epoch_to_whoever_comes_first(self):
        over = (
            PassedOver("db1", "recovering: it was the primary and has stopped"),
            PassedOver("db3", "db2 comes first: priority 2, not 1"),
        )
        told = promoted("db2", 2, SECOND, was="db1", ended="said", passed_over=over)
        state = group_of(*OPEN).when(PromoteMember(**STEP)).then(told)
        assert (state.ownership, state.incarnation) == (Ownership(2, "db2", version=2), INCARNATIONS["db2"])
        assert (state.serving, state.promoted_for, state.ended_detail) == (False, "operator", "")

    def test_a_synchronous_group_begins_with_the_new_primary_alone_in_its_set(self):
        kept = (*led(in_sync=("db1", "db2"), synchronous=True), started(SECOND, 1, "db1"), fenced(), ended(how="said"))
        [told] = group.decide(PromoteMember(**STEP), group_of(*kept).state)
        assert (told.member, told.in_sync, told.lossy) == ("db2", ("db2",), False)
        assert PassedOver("db3", "it is not in the in-sync set db1, db2") in told.passed_over

    @pytest.mark.parametrize("before", [UNDER_WAY, CLOSED], ids=["open", "fenced"])
    def test_nobody_is_promoted_before_the_epoch_has_ended(self, before):
        group_of(*before).when(PromoteMember(**STEP)).refused(StaleEpoch, epoch=1, owner="db1")

    def test_where_nobody_wants_to_wait_a_fence_is_enough(self):
        begun = (*led(fencing="unfenced"), started(SECOND, 1, "db1"))
        group_of(*begun).when(PromoteMember(**STEP)).refused(StaleEpoch, epoch=1, owner="db1")
        [told] = group.decide(PromoteMember(**STEP), group_of(*begun, fenced()).state)
        assert (told.member, told.was, told.ended) == ("db2", "db1", None)

    def test_a_failover_of_another_epoch_promotes_nobody(self):
        late = PromoteMember(failover=SECOND, epoch=4)
        group_of(*OPEN).when(late).refused(StaleEpoch, epoch=1)

    def test_who_can_lead_is_judged_when_it_is_promoted(self):
        gone = (*OPEN, *(MemberSuspected(member=name, evidence="ill") for name in ("db2", "db3")))
        reasons = "db1: recovering: it was the primary and has stopped; db2: suspected: ill; db3: suspected: ill"
        group_of(*gone).when(PromoteMember(**STEP)).refused(NoHealthyStandby, members=reasons)

    def test_given_up_the_primary_goes_on_with_another_epoch(self):
        told = GroupReclaimed(member="db1", **{**STEP, "epoch": 2}, incarnation=4)
        state = group_of(*CLOSED).when(ReclaimGroup(**STEP)).then(told)
        assert state.ownership == Ownership(2, "db1", version=2)
        assert (state.incarnation, state.lease_seconds, state.serving) == (4, 2.0, False)

    @pytest.mark.parametrize("before", [UNDER_WAY, OPEN], ids=["not fenced", "ended"])
    def test_what_was_not_taken_from_it_is_not_given_back(self, before):
        group_of(*before).when(ReclaimGroup(**STEP)).nothing()

    @pytest.mark.parametrize("first", [PromoteMember, ReclaimGroup], ids=lambda step: step.__name__)
    def test_of_both_only_one_can_follow_an_epoch(self, first):
        second = ReclaimGroup if first is PromoteMember else PromoteMember
        before = OPEN if first is PromoteMember else CLOSED
        [told] = group.decide(first(**STEP), group_of(*before).state)
        group_of(*before, told).when(second(**STEP)).nothing()

    def test_it_ends_once(self):
        told = FailoverEnded(failover=SECOND, outcome="completed", detail="")
        state = group_of(*OPEN, promoted("db2", 2, SECOND)).when(EndFailover(**STEP, outcome="completed")).then(told)
        assert (state.failover, state.gave_up) == (None, None)
        group_of(*led()).when(EndFailover(**STEP, outcome="completed")).nothing()

    @pytest.mark.parametrize(
        ("outcome", "kept"), [("timeout", "why"), ("aborted", "why"), ("refused", "why"), ("lost", None)]
    )
    def test_one_that_turned_back_says_why(self, outcome, kept):
        state = (
            group_of(*OPEN)
            .when(EndFailover(**STEP, outcome=outcome, detail="why"))
            .then(finished(SECOND, outcome, "why"))
        )
        assert state.gave_up == kept

    def test_a_failover_is_a_saga_and_not_the_groups_to_decide(self):
        with pytest.raises(AssertionError, match="started as a saga"):
            group.decide(Failover(), group_of(*led()).state)


class TestImpossibleHistories:
    @pytest.mark.parametrize(
        "events",
        [
            (*created(), created()[0]),
            (*led(), promoted("db2", 3)),
            (*led(), promoted("db2", 2)),
            (*CLOSED, fenced()),
            (*OPEN, ended()),
            (*led(), ended(member="db2")),
            (*led(), ended(epoch=7)),
            (*led(), InSyncChanged(member="db1", epoch=1, version=9, in_sync=("db1",), cause="lost")),
            (*led(), finished(FIRST)),
            (*UNDER_WAY, started("group/db/failover/3", 1)),
            (*led(), ready("db9")),
        ],
        ids=[
            "created twice",
            "a gap of epochs",
            "promoted while another one leads",
            "fenced twice",
            "ended twice",
            "the end of a standby",
            "the end of another epoch",
            "a gap of versions",
            "the end of no failover",
            "two failovers",
            "a word of a stranger",
        ],
    )  # fmt: skip
    def test_they_are_noticed(self, events):
        with pytest.raises(AssertionError):
            group_of(*events)
