"""A member of a failover group: what it is, what it says of itself, and what happens to it. Rules: `domain.groups.group`.

                  MemberJoined                 MemberReady
inactive ──────────────────────▶ recovering ──────────────▶ active
    ▲ MemberLeft                     ▲ MemberRecovering        │ MemberFailed
    └──────────── all                └────────────── failed ◀──┘
"""

import operator
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Literal, assert_never

from pydantic import Field, StringConstraints

from domain.message import Event, Text, event
from domain.ownership import EndedBy
from muster.wire.command import Command, Flag, Whole
from muster.wire.groups.answers import POSITION_BITS
from muster.wire.stream import Name
from muster.wire.value import value

Status = Literal["active", "inactive", "failed", "recovering"]
Failure = Literal["silent", "check", "hook"]
"""Why a member counts as failed: it was not heard (a suspicion), or it says itself that its check or its hook has failed."""
Priority = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
Position = Annotated[int, Field(strict=True, ge=0, lt=1 << POSITION_BITS)]
Epoch = Annotated[int, Field(strict=True, ge=0, lt=1 << 63)]
Process = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Address = Annotated[str, StringConstraints(max_length=300)]
Why = Annotated[str, StringConstraints(max_length=1_024)]


@value
class GroupMember:
    """A member. `incarnation` is the version of the stream at which its runner's process joined, 0 before the first one;
    `since`: when its status last changed; `position`: how far its copy reached when it last said so, in units of its own;
    `suspect`: why checks of its instance say that it is ill. `fences`: its runner can fence a primary that is not heard; for the
    epoch `fence_epoch` it has tried that in vain `fence_tries` times.
    """

    name: str
    priority: int
    status: Status = "inactive"
    incarnation: int = 0
    process: str = ""
    address: str = ""
    failure: Failure | None = None
    why: str = "its runner has not joined"
    since: datetime | None = None
    position: int | None = None
    position_epoch: int = 0
    suspect: str | None = None
    fences: bool = False
    fence_tries: int = 0
    fence_epoch: int = 0


class MemberCommand(Command):
    """What all commands to a member carry."""

    member: Name


class JoinGroup(MemberCommand):
    """Run the member: this process does so from now on, and what another one says is refused. `address` is told to clients;
    `fences`: the process can fence a primary that is not heard.
    """

    type = "muster.group.join.v1"
    process: Process
    address: Address = ""
    fences: Flag = False


class RunnerCommand(MemberCommand):
    """What the runner of a member says; `incarnation` is the one that it joined with."""

    incarnation: Annotated[int, Field(strict=True, ge=0)]


class RenewMember(RunnerCommand):
    """Still here. `epoch`: I am the primary of this epoch, and count my lease anew from when I sent this. Never recorded."""

    type = "muster.group.renew.v1"
    # Without it a process that runs the primary could renew a lease of which it does not know that it is over.
    epoch: Epoch | None = None


class ReportMember(RunnerCommand):
    """How it stands with the member: fit to be the primary, failed (its check, or a hook), or leaving."""

    type = "muster.group.report_member.v1"
    outcome: Literal["ready", "failed", "left"]
    failure: Literal["check", "hook"] = "check"
    why: Why = ""


class ReportEnded(RunnerCommand):
    """The primary of the epoch acknowledges nothing any more: it was stopped (`said`), or its end was `seen`."""

    type = "muster.group.report_ended.v1"
    epoch: Epoch
    how: Literal["said", "seen"]
    detail: Why = ""


class ReportFenced(RunnerCommand):
    """What came of fencing the primary of the epoch: it acknowledges nothing any more (`done`), or that is not sure. `attempt` is
    counted by the process, for each epoch.
    """

    type = "muster.group.report_fenced.v1"
    epoch: Epoch
    attempt: Annotated[int, Field(strict=True, ge=1)]
    outcome: Literal["done", "failed"]
    detail: Why = ""


class ReportServing(RunnerCommand):
    """The primary of the epoch serves: its promote hook is done."""

    type = "muster.group.report_serving.v1"
    epoch: Epoch


class ReportPosition(RunnerCommand):
    """How far the member's copy reaches, in units of its own, at this epoch of the group."""

    type = "muster.group.report_position.v1"
    epoch: Epoch
    position: Position


class ChangeInSync(RunnerCommand):
    """The primary of the epoch asks that acknowledgements rest on these members; before it acknowledges anything under the new
    set. `version` is the one of the set that it knows.
    """

    type = "muster.group.change_in_sync.v1"
    epoch: Epoch
    version: Annotated[int, Field(strict=True, ge=0)]
    in_sync: Annotated[tuple[Name, ...], Field(min_length=1, max_length=100)]
    cause: Literal["caught_up", "lagging", "lost", "leaving"]


class SuspectMember(MemberCommand):
    """What the checks of the member's instance say: why it is ill, or None, that it is not."""

    type = "muster.group.suspect.v1"
    evidence: Why | None = None


class ExpireMember(MemberCommand):
    """The primary's lease has run out, or too many renewals of a member were missed."""

    type = "muster.group.expire_member.v1"
    # What the timer was armed for: one that runs out late says nothing about what has come since.
    kind: Literal["lease", "heartbeat"]
    incarnation: Whole
    epoch: Whole


@event
class MemberEvent(Event):
    """Something about one member."""

    member: Name


@event
class MemberAdded(MemberEvent):
    """The group has another member; of those that can take over, the highest priority does."""

    type = "muster.group.member_added.v1"
    priority: int


@event
class MemberRemoved(MemberEvent):
    """The member belongs to the group no more."""

    type = "muster.group.member_removed.v1"


@event
class MemberJoined(MemberEvent):
    """A process runs the member; whatever another one says for it is too late."""

    type = "muster.group.member_joined.v1"
    process: str
    address: str
    # It came later, and stands there only when it says something.
    fences: Annotated[bool, Field(exclude_if=operator.not_)] = False


@event
class MemberReady(MemberEvent):
    """The member is fit to be the primary."""

    type = "muster.group.member_ready.v1"


@event
class MemberFailed(MemberEvent):
    """The member cannot be the primary: it was not heard, or says so itself."""

    type = "muster.group.member_failed.v1"
    failure: Failure
    why: Text


@event
class MemberRecovering(MemberEvent):
    """A member that was silent is heard again, and has yet to say that it is ready."""

    type = "muster.group.member_recovering.v1"


@event
class MemberLeft(MemberEvent):
    """Nobody runs the member any more, by its own word."""

    type = "muster.group.member_left.v1"


@event
class MemberSuspected(MemberEvent):
    """The checks of the member's instance say that it is ill: a suspicion, and no proof."""

    type = "muster.group.member_suspected.v1"
    evidence: Text


@event
class MemberTrusted(MemberEvent):
    """The checks have nothing against the member any more."""

    type = "muster.group.member_trusted.v1"


@event
class PositionReported(MemberEvent):
    """How far the member's copy reaches."""

    type = "muster.group.position_reported.v1"
    epoch: int
    position: int


@event
class InSyncChanged(MemberEvent):
    """Acknowledgements of the primary rest on these members from now on."""

    type = "muster.group.in_sync_changed.v1"
    epoch: int
    version: int
    in_sync: tuple[Name, ...]
    cause: str


@event
class PrimaryEnded(MemberEvent):
    """The primary acknowledges nothing any more, and this is how that is known."""

    type = "muster.group.primary_ended.v1"
    epoch: int
    how: EndedBy
    detail: Text


@event
class FencingFailed(MemberEvent):
    """The member could not fence the primary of the epoch: whether that has ended is as open as before."""

    type = "muster.group.fencing_failed.v1"
    primary: Name
    epoch: int
    attempt: int
    why: Text


@value
class PassedOver:
    """A member that was not chosen, and why."""

    member: Name
    why: Text


@event
class MemberPromoted(MemberEvent):
    """The member is the primary, with the next epoch. `was`: who was it before, and `ended` how that is known to be over;
    `lossy`: an operator has accepted that acknowledged writes may be missing.
    """

    type = "muster.group.member_promoted.v1"
    failover: Text
    epoch: int
    incarnation: int
    # In the event, since the primary counts by it: a length that is set later must not hold for a lease that is running.
    lease_seconds: float
    was: Name | None
    ended: EndedBy | None
    in_sync: tuple[Name, ...]
    passed_over: tuple[PassedOver, ...]
    lossy: bool


@event
class GroupReclaimed(MemberEvent):
    """The failover was given up: the primary goes on, with the next epoch."""

    type = "muster.group.reclaimed.v1"
    failover: Text
    epoch: int
    incarnation: int


@event
class GroupServing(MemberEvent):
    """The primary serves."""

    type = "muster.group.serving.v1"
    epoch: int


StatusEvent = MemberJoined | MemberReady | MemberFailed | MemberRecovering | MemberLeft
"""What changes a member's status."""

ReportEvent = StatusEvent | MemberSuspected | MemberTrusted | PositionReported | FencingFailed
"""What changes a member, and nothing else of its group."""


def changed(member: GroupMember, event: ReportEvent, version: int, at: datetime) -> GroupMember:
    """The member after the event, which has this version in its stream."""
    match event:
        case MemberJoined():
            joined = replace(member, incarnation=version, process=event.process, address=event.address)
            # Its tries are those of the process: another one counts from the beginning.
            joined = replace(joined, fences=event.fences, fence_tries=0, fence_epoch=0)
            return _stands(joined, at, "recovering", "its runner has joined and has not said that it is ready")
        case MemberReady():
            return _stands(member, at, "active", "")
        case MemberFailed():
            return replace(_stands(member, at, "failed", event.why), failure=event.failure)
        case MemberRecovering():
            return _stands(member, at, "recovering", "it is heard again and has not said that it is ready")
        case MemberLeft():
            return _stands(member, at, "inactive", "its runner has stopped")
        case MemberSuspected():
            # Beside the status and not part of it: runners speak for themselves, checks from outside, and both are shown.
            return replace(member, suspect=event.evidence)
        case MemberTrusted():
            return replace(member, suspect=None)
        case PositionReported():
            return replace(member, position=event.position, position_epoch=event.epoch)
        case FencingFailed():
            return replace(member, fence_tries=event.attempt, fence_epoch=event.epoch)
        case _:
            assert_never(event)


def stopped(member: GroupMember, at: datetime) -> GroupMember:
    """The member after the end of what it ran as the primary: its runner has yet to say that it is ready for another time."""
    # One that has failed stays so: it is the better reason not to choose it.
    if member.status != "active":
        return member
    return _stands(member, at, "recovering", "it was the primary and has stopped")


def _stands(member: GroupMember, at: datetime, status: Status, why: str) -> GroupMember:
    return replace(member, status=status, why=why, failure=None, since=at)
