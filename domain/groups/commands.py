"""What operators ask of a failover group, and what the steps of a failover do to it. Rules: `domain.groups.group`."""

from typing import Annotated, Final

from pydantic import Field, model_validator

from domain.groups.member import (
    ChangeInSync,
    Epoch,
    ExpireMember,
    JoinGroup,
    MemberCommand,
    Priority,
    RenewMember,
    ReportEnded,
    ReportFenced,
    ReportMember,
    ReportPosition,
    ReportServing,
    SuspectMember,
    Why,
)
from domain.groups.state import (
    DEFAULTS,
    Cause,
    FailoverId,
    FailoverSeconds,
    Fencing,
    HeartbeatSeconds,
    Lag,
    LeaseSeconds,
    Outcome,
    Seconds,
    Threshold,
)
from muster.wire.command import Command, Flag
from muster.wire.groups.answers import GROUP_SETTINGS, GroupSetting
from muster.wire.stream import Name
from muster.wire.value import value

members_max: Final = 100


@value
class NewMember:
    """A member that a group begins with. Of those that can take over, the highest priority does."""

    member: Name
    priority: Priority = 1


class CreateGroup(Command):
    """Have a failover group of these members. See `domain.groups.state.GroupRules` for the rest."""

    type = "muster.group.create.v1"
    members: Annotated[tuple[NewMember, ...], Field(max_length=members_max)] = ()
    threshold: Threshold = DEFAULTS.threshold
    heartbeat_seconds: HeartbeatSeconds = DEFAULTS.heartbeat_seconds
    lease_seconds: LeaseSeconds = DEFAULTS.lease_seconds
    fencing: Fencing = DEFAULTS.fencing
    max_lag: Lag | None = DEFAULTS.max_lag
    synchronous: Flag = DEFAULTS.synchronous
    preempt: Flag = DEFAULTS.preempt
    hold_down_seconds: Seconds = DEFAULTS.hold_down_seconds
    service: Name | None = DEFAULTS.service
    failover_seconds: FailoverSeconds = DEFAULTS.failover_seconds

    @model_validator(mode="after")
    def _distinct(self) -> "CreateGroup":
        if len({new.member for new in self.members}) < len(self.members):
            raise ValueError("members: one is named twice")
        return self


def _nothing(names: tuple[GroupSetting, ...]) -> bool:
    return not names


class SetGroup(Command):
    """Change what is given of the group's settings, and take back what `default` names to what a group has that says nothing of
    it: no `max_lag`, no `service`. The rest stays. A lease's new length holds from the next epoch on.
    """

    type = "muster.group.set.v1"
    threshold: Threshold | None = None
    heartbeat_seconds: HeartbeatSeconds | None = None
    lease_seconds: LeaseSeconds | None = None
    fencing: Fencing | None = None
    max_lag: Lag | None = None
    synchronous: Flag | None = None
    preempt: Flag | None = None
    hold_down_seconds: Seconds | None = None
    service: Name | None = None
    failover_seconds: FailoverSeconds | None = None
    # Named, and not a null, as with traffic. It came later: left out where nothing is taken back, so that a command that the log
    # remembers is known again, and a controller of before reads it.
    default: Annotated[tuple[GroupSetting, ...], Field(max_length=len(GROUP_SETTINGS), exclude_if=_nothing)] = ()

    @model_validator(mode="after")
    def _once(self) -> "SetGroup":
        if both := sorted(self.given().keys() & set(self.default)):
            raise ValueError(f"{both[0]}: it cannot be set and be taken back at once")
        return self

    def given(self) -> dict[str, object]:
        """The settings that are to become others, by name."""
        return self.model_dump(exclude_none=True, exclude={"default"})


class DeleteGroup(Command):
    """Have the group no more, once its primary has ended. While members run, that has to be said: `force`; they then stop."""

    type = "muster.group.delete.v1"
    force: Flag = False


class PauseGroup(Command):
    """Let failovers begin only when an operator asks for them."""

    type = "muster.group.pause.v1"


class ResumeGroup(Command):
    """Let failovers begin by themselves again."""

    type = "muster.group.resume.v1"


class AddMember(MemberCommand):
    """Have this member in the group, or give it another priority."""

    type = "muster.group.add_member.v1"
    priority: Priority = 1


class RemoveMember(MemberCommand):
    """Have the member in the group no more. The primary is refused: fail over first."""

    type = "muster.group.remove_member.v1"


class Failover(Command):
    """Let another member lead: `to`, or whoever comes first. `accept_data_loss`: although acknowledged writes may be missing.

    `automatic`: only if a failover is due by the group's own rules; controllers ask so.
    """

    type = "muster.group.failover.v1"
    to: Name | None = None
    accept_data_loss: Flag = False
    # A published command may say so too: it only makes the group look whether one is due.
    automatic: Flag = False


# The wish of whoever asked stands in the saga's facts, and comes again with each step that needs it.
class StepOfFailover(Command):
    """What all steps of a failover carry: `epoch` is the one that it ends."""

    failover: FailoverId
    epoch: Epoch


class StartFailover(StepOfFailover):
    """Take the group for a failover."""

    type = "muster.group.start_failover.v1"
    cause: Cause
    evidence: Why
    to: Name | None = None
    accept_data_loss: Flag = False


class FenceGroup(StepOfFailover):
    """Refuse the primary's renewals from here on."""

    type = "muster.group.fence.v1"


class PromoteMember(StepOfFailover):
    """Give the group its next primary, if the epoch has ended and nothing else has followed it."""

    type = "muster.group.promote.v1"
    to: Name | None = None
    accept_data_loss: Flag = False


class ReclaimGroup(StepOfFailover):
    """Let the primary go on, with another epoch, if it has not ended."""

    type = "muster.group.reclaim.v1"


class EndFailover(StepOfFailover):
    """The failover is over."""

    type = "muster.group.end_failover.v1"
    outcome: Outcome
    detail: Why = ""


RunnerCommands = (
    JoinGroup | RenewMember | ReportMember | ReportEnded | ReportFenced | ReportServing | ReportPosition | ChangeInSync
)
"""What the runner of a member says."""

Setting = CreateGroup | SetGroup | DeleteGroup | PauseGroup | ResumeGroup | AddMember | RemoveMember
"""What an operator arranges."""

PublicCommand = Setting | Failover | RunnerCommands
"""What anyone may ask of a group."""

FailoverStep = StartFailover | FenceGroup | PromoteMember | ReclaimGroup | EndFailover
"""What a failover does at its group, step by step."""

InternalCommand = FailoverStep | SuspectMember
"""What only controllers give."""

GroupCommand = PublicCommand | InternalCommand | ExpireMember
