"""What happens to a failover group: its events, and the state that they fold into.

    nobody ──MemberPromoted──▶ primary of epoch n ──GroupFenced──▶ fenced ──PrimaryEnded──▶ nobody ──MemberPromoted──▶ n + 1
                                   │                                 └──────GroupReclaimed──▶ the same primary, n + 1
                                   └──PrimaryEnded──▶ nobody

Of `MemberPromoted` and `GroupReclaimed` only one can follow an epoch: both are compare-and-set on it.
"""

from dataclasses import field, replace
from datetime import datetime
from typing import Annotated, Final, Literal, assert_never

from immutables import Map
from pydantic import Field, StringConstraints

from domain.decider import AsPairs
from domain.groups.member import (
    FencingFailed,
    GroupMember,
    GroupReclaimed,
    GroupServing,
    InSyncChanged,
    MemberAdded,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberPromoted,
    MemberReady,
    MemberRecovering,
    MemberRemoved,
    MemberSuspected,
    MemberTrusted,
    PassedOver,
    PositionReported,
    PrimaryEnded,
    ReportEvent,
    changed,
    stopped,
)
from domain.message import Event, Recorded, Text, event
from domain.ownership import Ownership, change_set, end, fence, pass_on
from muster.wire.stream import Name
from muster.wire.value import value

Cause = Literal["operator", "first", "ended", "failed", "suspected", "preferred"]
"""Why a failover begins: an operator asked; the group had no primary yet; the primary ended, says that it has failed, or is
suspected by two kinds of observers; or a member of higher priority is ready, and the group prefers it.
"""
Outcome = Literal["completed", "lost", "timeout", "aborted", "refused"]
Fencing = Literal["lease", "hook", "unfenced"]
FailoverId = Annotated[str, StringConstraints(max_length=400)]
Threshold = Annotated[int, Field(strict=True, ge=1, le=100)]
HeartbeatSeconds = Annotated[float, Field(strict=True, ge=0.1, le=600)]
LeaseSeconds = Annotated[float, Field(strict=True, ge=0.5, le=3_600)]
Seconds = Annotated[float, Field(strict=True, ge=0, le=86_400)]
FailoverSeconds = Annotated[float, Field(strict=True, ge=1, le=86_400)]
Lag = Annotated[int, Field(strict=True, ge=0, lt=1 << 63)]


FAILOVER_SECONDS: Final = 30.0
"""How long a failover may leave a group without a primary, unless the group says otherwise."""


def _is_usual(seconds: float) -> bool:
    return seconds == FAILOVER_SECONDS


@value(kw_only=True)
class GroupRules:
    """How a group fails over.

    A member that misses `threshold` heartbeats of `heartbeat_seconds` counts as failed. The primary's lease lasts for
    `lease_seconds`; with `fencing` `hook` another member's runner may end the epoch before that, by a hook that fences a primary
    which is not heard; with `unfenced` a failover does not wait for its end, and two primaries are possible.
    `max_lag`: how far, in units of the members' positions, a copy may be behind what is known of the primary's, to take over;
    `synchronous`: only members of the recorded in-sync set may. After a failover on suspicion the next one waits for
    `hold_down_seconds`, as does a member that is `preferred` by its priority. `service`: where the members are registered as
    instances, whose checks are listened to. A failover that has fenced the primary turns back if it has promoted nobody within
    `failover_seconds`.
    """

    threshold: int = 3
    heartbeat_seconds: float = 0.5
    lease_seconds: float = 2.0
    fencing: Fencing = "lease"
    max_lag: int | None = None
    synchronous: bool = False
    preempt: bool = False
    hold_down_seconds: float = 30.0
    service: str | None = None
    # It came later: left out where it is as usual, so that a record of before stays the same to the byte.
    failover_seconds: Annotated[float, Field(exclude_if=_is_usual)] = FAILOVER_SECONDS

    @property
    def silence_seconds(self) -> float:
        """For how long a member may be silent."""
        return self.threshold * self.heartbeat_seconds

    @property
    def compares(self) -> bool:
        """Whether positions decide who may take over."""
        return self.max_lag is not None


DEFAULTS: Final = GroupRules()
"""What holds for a group unless its creation says otherwise."""


@value
class FailoverGroup:
    """A group; without `settings` there is none. `incarnation` is the primary's process of this epoch, which is at `address`, and
    `lease_seconds` the lease that it was given; `serving`: its promote hook is done; `since`: since when it is the primary, or
    nobody is. `failover`: the one under way, of `failovers` so far. `gave_up`: why the last one turned back; nothing is tried
    again until a member changes.
    """

    version: int = 0
    settings: GroupRules | None = None
    members: Annotated[Map[str, GroupMember], AsPairs] = field(default_factory=Map)
    ownership: Ownership = field(default_factory=Ownership)
    incarnation: int = 0
    address: str = ""
    lease_seconds: float = 0.0
    serving: bool = False
    since: datetime | None = None
    promoted_for: Cause | None = None
    failover: str | None = None
    failover_cause: Cause | None = None
    failovers: int = 0
    paused: bool = False
    gave_up: str | None = None
    ended_detail: str = ""

    @property
    def primary(self) -> GroupMember | None:
        """The member that is the primary: its epoch has not ended."""
        holder = self.ownership.holder
        return None if holder is None else self.members.get(holder)


INITIAL: Final = FailoverGroup()


@event
class GroupCreated(Event):
    """There is a failover group, without members. A deleted group of this name had come to this `epoch`, this many `failovers`
    and this version of its in-sync set: they go on from there, so no token of before is higher than a new one.
    """

    type = "muster.group.created.v1"
    settings: GroupRules
    epoch: int
    failovers: int
    set_version: int


@event
class GroupSettingsChanged(Event):
    """The group fails over by other rules. A new length of leases holds from the next epoch on."""

    type = "muster.group.settings_changed.v1"
    settings: GroupRules


@event
class GroupDeleted(Event):
    """The group is gone. What a group of the same name has to go on from is remembered."""

    type = "muster.group.deleted.v1"


@event
class GroupPaused(Event):
    """Failovers begin only when an operator asks for them."""

    type = "muster.group.paused.v1"


@event
class GroupResumed(Event):
    """Failovers begin by themselves again."""

    type = "muster.group.resumed.v1"


@event
class FailoverStarted(Event):
    """A failover is under way."""

    type = "muster.group.failover_started.v1"
    failover: FailoverId
    cause: Cause
    evidence: Text
    epoch: int
    was: Name | None
    to: Name | None
    lossy: bool


@event
class GroupFenced(Event):
    """The primary is to acknowledge nothing any more: its renewals are refused from here on."""

    type = "muster.group.fenced.v1"
    failover: FailoverId
    epoch: int


@event
class FailoverEnded(Event):
    """The failover is over."""

    type = "muster.group.failover_ended.v1"
    failover: FailoverId
    outcome: Outcome
    detail: Text


OfOwnership = MemberPromoted | GroupReclaimed | GroupFenced | InSyncChanged | PrimaryEnded
GroupEvent = (
    GroupCreated
    | GroupSettingsChanged
    | GroupDeleted
    | GroupPaused
    | GroupResumed
    | MemberAdded
    | MemberRemoved
    | MemberJoined
    | MemberReady
    | MemberFailed
    | MemberRecovering
    | MemberLeft
    | MemberSuspected
    | MemberTrusted
    | PositionReported
    | InSyncChanged
    | FencingFailed
    | FailoverStarted
    | GroupFenced
    | PrimaryEnded
    | MemberPromoted
    | GroupReclaimed
    | GroupServing
    | FailoverEnded
)
"""All that can happen to a group."""

Chances = (
    MemberJoined
    | MemberReady
    | MemberFailed
    | PrimaryEnded
    | MemberTrusted
    | MemberAdded
    | InSyncChanged
    | PositionReported
    | GroupSettingsChanged
    | GroupResumed
)
"""What may make a failover possible, or needed, that was given up before."""


def evolve(state: FailoverGroup, recorded: Recorded[GroupEvent]) -> FailoverGroup:
    """The group after the event."""
    event = recorded.event
    # What a failover had given up for may have changed: the next one may find somebody.
    tried = state if not isinstance(event, Chances) else replace(state, gave_up=None)
    return replace(_evolved(tried, recorded), version=recorded.version + 1)


def _evolved(state: FailoverGroup, recorded: Recorded[GroupEvent]) -> FailoverGroup:
    event = recorded.event
    if isinstance(event, ReportEvent):
        return _with(state, changed(_member(state, event.member), event, recorded.version, recorded.at))
    if isinstance(event, OfOwnership):
        return _owned(state, recorded.at, event)
    match event:
        case GroupCreated():
            assert state.settings is None, "the group was created twice"
            own = Ownership(event.epoch, version=event.set_version)
            return FailoverGroup(settings=event.settings, ownership=own, failovers=event.failovers, since=recorded.at)
        case GroupSettingsChanged():
            return replace(state, settings=event.settings)
        case GroupDeleted():
            # What a group of the same name goes on from: without it a token of before could be higher than a new one.
            left = Ownership(state.ownership.epoch, version=state.ownership.version)
            return FailoverGroup(ownership=left, failovers=state.failovers)
        case GroupPaused() | GroupResumed():
            return replace(state, paused=isinstance(event, GroupPaused))
        case MemberAdded():
            known = state.members.get(event.member) or GroupMember(event.member, event.priority)
            return _with(state, replace(known, priority=event.priority))
        case MemberRemoved():
            return replace(state, members=state.members.delete(event.member))
        case FailoverStarted() | FailoverEnded():
            return _failing_over(state, event)
        case GroupServing():
            assert event.epoch == state.ownership.epoch, f"epoch {event.epoch} serves at {state.ownership.epoch}"
            return replace(state, serving=True)
        case _:
            assert_never(event)


def _failing_over(state: FailoverGroup, event: FailoverStarted | FailoverEnded) -> FailoverGroup:
    match event:
        case FailoverStarted():
            assert state.failover is None, f"{event.failover} started while {state.failover} was under way"
            # The count gives the next failover its number, and with that a stream of its own.
            count = state.failovers + 1
            return replace(state, failover=event.failover, failover_cause=event.cause, failovers=count)
        case FailoverEnded():
            assert state.failover == event.failover, f"{event.failover} ended, but {state.failover} is under way"
            # Lost: the chosen one has ended, which makes the next failover due by itself. The rest would only recur.
            gave_up = None if event.outcome in ("completed", "lost") else event.detail
            return replace(state, failover=None, failover_cause=None, gave_up=gave_up)
        case _:
            assert_never(event)


def _owned(state: FailoverGroup, at: datetime, event: OfOwnership) -> FailoverGroup:
    ownership = state.ownership
    match event:
        case InSyncChanged():
            assert event.version == ownership.version + 1, f"set {event.version} after {ownership.version}"
            return replace(state, ownership=change_set(ownership, event.in_sync))
        case GroupFenced():
            assert event.epoch == ownership.epoch, f"epoch {event.epoch} fenced at {ownership.epoch}"
            return replace(state, ownership=fence(ownership))
        case PrimaryEnded():
            assert (event.epoch, event.member) == (ownership.epoch, ownership.owner), "an epoch ended that is none"
            ended = replace(state, ownership=end(ownership, event.how), serving=False, since=at)
            # It is no candidate until its runner says that it is ready again: what has just ended may end again.
            return _with(replace(ended, ended_detail=event.detail), stopped(_member(state, event.member), at))
        case MemberPromoted():
            # A promotion over a primary that has not ended is only for groups that were set so; the decider judges it.
            assert ownership.holder is None or state.failover_cause is not None, "promoted without a failover"
            own = pass_on(ownership, event.epoch, event.member, event.in_sync)
            return replace(
                state,
                ownership=own,
                incarnation=event.incarnation,
                # As it is now: another process that joins as this member later is not the primary.
                address=_member(state, event.member).address,
                lease_seconds=event.lease_seconds,
                serving=False,
                since=at,
                promoted_for=state.failover_cause,
                ended_detail="",
            )
        case GroupReclaimed():
            # The epoch grows although the primary stays: a promotion of the same failover that comes too late finds another one.
            own = pass_on(ownership, event.epoch, event.member, ownership.in_sync)
            # It may have stopped already: it says again that it serves, with the new epoch.
            return replace(state, ownership=own, incarnation=event.incarnation, serving=False, since=at)
        case _:
            assert_never(event)


def _member(state: FailoverGroup, name: str) -> GroupMember:
    member = state.members.get(name)
    assert member is not None, f"{name} is no member of the group"
    return member


def _with(state: FailoverGroup, member: GroupMember) -> FailoverGroup:
    return replace(state, members=state.members.set(member.name, member))


__all__ = ["INITIAL", "FailoverGroup", "GroupRules", "PassedOver", "evolve"]
