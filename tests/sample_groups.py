"""One plausible message of every kind about failover groups, in the order of the catalogue."""

from typing import Final

from domain.groups import commands as c
from domain.groups import member as m
from domain.groups import state as s
from domain.message import Event
from muster.wire.command import Command

GROUP: Final = "group/db"
FAILOVER: Final = "group/db/failover/3"
SETTINGS: Final = s.GroupRules(max_lag=16_777_216, synchronous=True, service="postgres")
_STEP: Final = {"failover": FAILOVER, "epoch": 4}
_MEMBER: Final = {"member": "db1", "incarnation": 7}

EVENTS: Final[tuple[Event, ...]] = (
    s.GroupCreated(settings=SETTINGS, epoch=3, failovers=2, set_version=6),
    s.GroupSettingsChanged(settings=s.GroupRules(threshold=5, lease_seconds=4.0, fencing="unfenced", preempt=True)),
    s.GroupDeleted(),
    s.GroupPaused(),
    s.GroupResumed(),
    m.MemberAdded(member="db1", priority=10),
    m.MemberRemoved(member="db3"),
    m.MemberJoined(member="db1", process="db1-31f7", address="10.0.0.7:5432"),
    m.MemberReady(member="db1"),
    m.MemberFailed(member="db1", failure="check", why="exit code 2: no connection"),
    m.MemberRecovering(member="db1"),
    m.MemberLeft(member="db2"),
    m.MemberSuspected(member="db1", evidence="its instance is unhealthy: 503 from /health"),
    m.MemberTrusted(member="db1"),
    m.PositionReported(member="db2", epoch=4, position=83_886_080),
    m.InSyncChanged(member="db1", epoch=4, version=8, in_sync=("db1", "db2"), cause="caught_up"),
    m.FencingFailed(member="db2", primary="db1", epoch=4, attempt=1, why="fence hook: exit code 1: no such volume"),
    s.FailoverStarted(
        failover=FAILOVER,
        cause="ended",
        evidence="db1 has ended (seen): killed by signal 9",
        epoch=4,
        was="db1",
        to=None,
        lossy=False,
    ),
    s.GroupFenced(**_STEP),
    m.PrimaryEnded(member="db1", epoch=4, how="seen", detail="killed by signal 9"),
    m.MemberPromoted(
        member="db2",
        **{**_STEP, "epoch": 5},
        incarnation=9,
        lease_seconds=2.0,
        was="db1",
        ended="seen",
        in_sync=("db2",),
        passed_over=(
            m.PassedOver("db1", "recovering: it was the primary and has stopped"),
            m.PassedOver("db3", "it is not in the in-sync set db1, db2"),
        ),
        lossy=False,
    ),
    m.GroupReclaimed(member="db1", **{**_STEP, "epoch": 5}, incarnation=7),
    m.GroupServing(member="db2", epoch=5),
    s.FailoverEnded(failover=FAILOVER, outcome="completed", detail=""),
)

COMMANDS: Final[tuple[Command, ...]] = (
    c.CreateGroup(
        members=(c.NewMember("db1", 10), c.NewMember("db2")), max_lag=16_777_216, synchronous=True, service="postgres"
    ),
    c.SetGroup(threshold=5, lease_seconds=4.0, preempt=True),
    c.DeleteGroup(force=True),
    c.PauseGroup(),
    c.ResumeGroup(),
    c.AddMember(member="db3", priority=5),
    c.RemoveMember(member="db3"),
    c.Failover(to="db2", accept_data_loss=True),
    m.JoinGroup(member="db1", process="db1-31f7", address="10.0.0.7:5432"),
    m.RenewMember(**_MEMBER, epoch=4),
    m.ReportMember(**_MEMBER, outcome="failed", failure="hook", why="promote: exit code 1"),
    m.ReportEnded(**_MEMBER, epoch=4, how="seen", detail="killed by signal 9"),
    m.ReportFenced(**_MEMBER, epoch=4, attempt=1, outcome="failed", detail="fence hook: exit code 1: no such volume"),
    m.ReportServing(**_MEMBER, epoch=4),
    m.ReportPosition(**_MEMBER, epoch=4, position=83_886_080),
    m.ChangeInSync(**_MEMBER, epoch=4, version=7, in_sync=("db1", "db2"), cause="caught_up"),
)

INTERNAL_COMMANDS: Final[tuple[Command, ...]] = (
    c.StartFailover(**_STEP, cause="ended", evidence="db1 has ended (seen): killed by signal 9"),
    c.FenceGroup(**_STEP),
    c.PromoteMember(**_STEP, to="db2"),
    c.ReclaimGroup(**_STEP),
    c.EndFailover(**_STEP, outcome="completed"),
    m.SuspectMember(member="db1", evidence="its instance is unhealthy: 503 from /health"),
)
"""Those that one controller may give to another; `ExpireMember` never leaves its partition."""
