"""Strategies for any sequence of commands to a failover group: few members, processes and epochs, so that they get entangled."""

from typing import Any, Final

from hypothesis import strategies as st

from domain.groups import commands as c
from domain.groups import member as m
from muster.wire.command import Command

_LATER: Final = 3
"""Histories that are decided without sagas need incarnations and epochs that somebody has: small numbers are."""

members = st.sampled_from(["db1", "db2", "db3"])
processes = st.sampled_from(["p1", "p2"])
epochs = st.integers(0, _LATER)
incarnations = st.integers(0, 12)
texts = st.sampled_from(["", "exit code 137", "k\u00e4se"])
failovers = st.sampled_from([f"group/db/failover/{number}" for number in range(1, 4)])
_said: dict[str, Any] = {"member": members, "incarnation": incarnations}
_step: dict[str, Any] = {"failover": failovers, "epoch": epochs}

creations: st.SearchStrategy[Command] = st.builds(
    c.CreateGroup,
    members=st.just((c.NewMember("db1", 3), c.NewMember("db2", 2), c.NewMember("db3"))),
    max_lag=st.sampled_from([None, 10]),
    synchronous=st.booleans(),
    fencing=st.sampled_from(["lease", "lease", "unfenced"]),
)
settings: st.SearchStrategy[Command] = st.one_of(
    creations,
    st.builds(
        c.SetGroup,
        threshold=st.sampled_from([None, 5]),
        lease_seconds=st.sampled_from([None, 4.0]),
        default=st.sampled_from([(), (), ("max_lag", "synchronous")]),
    ),
    st.builds(c.DeleteGroup, force=st.booleans()),
    st.sampled_from([c.PauseGroup(), c.ResumeGroup()]),
    st.builds(c.AddMember, member=members, priority=st.integers(0, 3)),
    st.builds(c.RemoveMember, member=members),
)
reports: st.SearchStrategy[Command] = st.one_of(
    st.builds(m.JoinGroup, member=members, process=processes, address=st.sampled_from(["", "10.0.0.7:5432"])),
    st.builds(m.RenewMember, **_said, epoch=st.none() | epochs),
    st.builds(m.ReportMember, **_said, outcome=st.sampled_from(["ready", "failed", "left"]), why=texts),
    st.builds(m.ReportEnded, **_said, epoch=epochs, how=st.sampled_from(["said", "seen"]), detail=texts),
    st.builds(m.ReportServing, **_said, epoch=epochs),
    st.builds(m.ReportPosition, **_said, epoch=epochs, position=st.integers(0, 40)),
    st.builds(
        m.ChangeInSync,
        **_said,
        epoch=epochs,
        version=st.integers(0, 5),
        in_sync=st.lists(members, min_size=1, unique=True).map(tuple),
        cause=st.sampled_from(["caught_up", "lost"]),
    ),
)
inside: st.SearchStrategy[Command] = st.one_of(
    st.builds(m.SuspectMember, member=members, evidence=st.none() | texts),
    st.builds(
        m.ExpireMember,
        member=members,
        kind=st.sampled_from(["lease", "heartbeat"]),
        incarnation=incarnations,
        epoch=epochs,
    ),
)
steps: st.SearchStrategy[Command] = st.one_of(
    st.builds(c.StartFailover, **_step, cause=st.sampled_from(["first", "ended", "operator"]), evidence=texts),
    st.builds(c.FenceGroup, **_step),
    st.builds(c.PromoteMember, **_step, accept_data_loss=st.booleans()),
    st.builds(c.ReclaimGroup, **_step),
    st.builds(c.EndFailover, **_step, outcome=st.sampled_from(["completed", "aborted", "timeout"]), detail=texts),
)
commands = st.one_of(settings, reports, inside, steps)
OF_GROUPS = st.tuples(st.sampled_from(["group/db", "group/cache"]), commands)
"""Commands with the group that they are for."""
