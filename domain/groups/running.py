"""What the runner of a member may say, and what its silence means. Pure."""

from typing import assert_never

from domain.groups.choice import settings_of
from domain.groups.commands import RunnerCommands
from domain.groups.fencing import tries
from domain.groups.member import (
    ChangeInSync,
    ExpireMember,
    FencingFailed,
    GroupMember,
    GroupServing,
    InSyncChanged,
    JoinGroup,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberReady,
    MemberRecovering,
    PositionReported,
    PrimaryEnded,
    RenewMember,
    ReportEnded,
    ReportFenced,
    ReportMember,
    ReportPosition,
    ReportServing,
    RunnerCommand,
)
from domain.groups.state import FailoverGroup, GroupEvent
from domain.ownership import check_current, check_set_change
from muster.wire.error import InvalidCommand, MemberNotFound, StaleEpoch, StaleIncarnation, VerbNotAllowed


def member_of(group: FailoverGroup, name: str) -> GroupMember:
    """The member. Raises GroupNotFound, MemberNotFound."""
    settings_of(group)
    member = group.members.get(name)
    if member is None:
        known = ", ".join(sorted(group.members)) or "it has none"
        raise MemberNotFound(f"the group has no member {name}; add it first (members: {known})", member=name)
    return member


def said(command: RunnerCommands, group: FailoverGroup) -> list[GroupEvent]:
    """What comes of a runner's word. Raises GroupNotFound, MemberNotFound, StaleIncarnation, StaleEpoch, VersionConflict."""
    member = member_of(group, command.member)
    if isinstance(command, JoinGroup):
        return _joined(command, member)
    # Of two processes that run one member the one that joined first is refused here: it stops when it hears that.
    if command.incarnation != member.incarnation:
        raise StaleIncarnation(
            f"{member.name} is at incarnation {member.incarnation}, not {command.incarnation}: another process has joined",
            incarnation=member.incarnation,
        )
    match command:
        case RenewMember():
            return _renewed(command, member, group)
        case ReportMember():
            return _reported(command, member, group)
        case ReportEnded():
            return _ended(command, group)
        case ReportFenced():
            return _fenced(command, member, group)
        case ReportServing():
            _check_primary(command, command.epoch, group)
            return [] if group.serving else [GroupServing(member=member.name, epoch=command.epoch)]
        case ReportPosition():
            return _positioned(command, member, group)
        case ChangeInSync():
            return _set_changed(command, group)
        case _:
            assert_never(command)


def _joined(command: JoinGroup, member: GroupMember) -> list[GroupEvent]:
    # A process that is known already joins again when it did not see the answer. A silent one begins anew.
    here = member.status in ("active", "recovering") or (member.status == "failed" and member.failure != "silent")
    if here and (member.process, member.address) == (command.process, command.address):
        return []
    return [MemberJoined(member=member.name, process=command.process, address=command.address, fences=command.fences)]


def _renewed(command: RenewMember, member: GroupMember, group: FailoverGroup) -> list[GroupEvent]:
    if member.status == "inactive":
        raise StaleIncarnation(f"{member.name} has left; join again", incarnation=member.incarnation)
    if command.epoch is not None:
        _check_primary(command, command.epoch, group)
    silent = member.status == "failed" and member.failure == "silent"
    # While all is well the log has nothing to say: the command itself renews the writer's timers (`timers.renews`).
    return [MemberRecovering(member=member.name)] if silent else []


def is_only_sign(command: RenewMember, group: FailoverGroup) -> bool:
    """Whether the renewal surely changes nothing: its process runs a member that was heard, or leads and serves.

    What it says no to is decided: all that is to be recorded or refused, and the claim of a primary that has yet to serve, on
    which a promotion waits.
    """
    member, epoch, own = group.members.get(command.member), command.epoch, group.ownership
    if member is None or member.incarnation != command.incarnation or member.status not in ("active", "recovering"):
        return False
    if epoch is None:
        return True
    leads = (own.holder, own.epoch, group.incarnation) == (command.member, epoch, command.incarnation)
    return leads and group.serving and not own.fenced


def _reported(command: ReportMember, member: GroupMember, group: FailoverGroup) -> list[GroupEvent]:
    match command.outcome:
        case "ready":
            return [] if member.status in ("active", "inactive") else [MemberReady(member=member.name)]
        case "failed":
            failed = MemberFailed(member=member.name, failure=command.failure, why=command.why or "it gave no reason")
            same = (member.status, member.failure, member.why) == ("failed", failed.failure, failed.why)
            return [] if same or member.status == "inactive" else [failed]
        case "left":
            # What it runs as the primary has to end first. A runner that just went would leave its lease to run out.
            if group.ownership.holder == member.name and group.incarnation == member.incarnation:
                raise StaleEpoch(
                    f"{member.name} is the primary: report that it has ended, then leave",
                    epoch=group.ownership.epoch,
                    owner=member.name,
                )
            return [] if member.status == "inactive" else [MemberLeft(member=member.name)]
        case _:
            assert_never(command.outcome)


def _ended(command: ReportEnded, group: FailoverGroup) -> list[GroupEvent]:
    own = group.ownership
    _check_known(command.epoch, group)
    current = (command.epoch, command.member, command.incarnation) == (own.epoch, own.holder, group.incarnation)
    # A late word about an epoch that is over: nothing depends on it any more.
    if not current:
        return []
    return [PrimaryEnded(member=command.member, epoch=command.epoch, how=command.how, detail=command.detail)]


def _check_known(epoch: int, group: FailoverGroup) -> None:
    # An epoch that is yet to come cannot have ended; the caller mixes up two groups, or two clusters.
    own = group.ownership
    if epoch > own.epoch:
        raise StaleEpoch(f"there is no epoch {epoch} yet", epoch=own.epoch, owner=own.holder)


def _fenced(command: ReportFenced, member: GroupMember, group: FailoverGroup) -> list[GroupEvent]:
    own, holder = group.ownership, group.ownership.holder
    _check_known(command.epoch, group)
    # A late word: the epoch has ended otherwise, or was given back to its primary, and another one has followed it.
    if command.epoch < own.epoch or holder is None:
        return []
    # A hook proves only what the group has agreed to, of an epoch that it has closed, and of somebody else.
    if settings_of(group).fencing != "hook" or member.name == holder:
        raise VerbNotAllowed(f"{member.name} cannot end epoch {own.epoch} of {holder} by fencing it", allowed="")
    if not own.fenced:
        raise StaleEpoch(f"no failover has closed epoch {own.epoch} of {holder}", epoch=own.epoch, owner=holder)
    if command.outcome == "done":
        detail = f"{member.name} has fenced it" + (f": {command.detail}" if command.detail else "")
        return [PrimaryEnded(member=holder, epoch=own.epoch, how="hook", detail=detail[:1_024])]
    if command.attempt <= tries(member, own.epoch):
        return []
    why = command.detail or "it gave no reason"
    return [FencingFailed(member=member.name, primary=holder, epoch=own.epoch, attempt=command.attempt, why=why)]


def _positioned(command: ReportPosition, member: GroupMember, group: FailoverGroup) -> list[GroupEvent]:
    if command.epoch != group.ownership.epoch:
        raise StaleEpoch(
            f"the epoch is {group.ownership.epoch}, not {command.epoch}",
            epoch=group.ownership.epoch,
            owner=group.ownership.holder,
        )
    if (member.position, member.position_epoch) == (command.position, command.epoch):
        return []
    return [PositionReported(member=member.name, epoch=command.epoch, position=command.position)]


def _set_changed(command: ChangeInSync, group: FailoverGroup) -> list[GroupEvent]:
    own = group.ownership
    # In one order, so that the same set is the same text, whoever names it.
    wanted = tuple(sorted(set(command.in_sync)))
    # Its own change, heard of twice: the first answer was lost.
    if own.holder == command.member and (own.version, own.in_sync) == (command.version + 1, wanted):
        return []
    check_set_change(own, command.epoch, command.version)
    _check_primary(command, command.epoch, group)
    if command.member not in wanted:
        raise InvalidCommand(f"in_sync: the primary {command.member} holds all that it acknowledges", field="in_sync")
    for name in wanted:
        member_of(group, name)
    if wanted == own.in_sync:
        return []
    change = InSyncChanged(
        member=command.member, epoch=command.epoch, version=own.version + 1, in_sync=wanted, cause=command.cause
    )
    return [change]


def _check_primary(command: RunnerCommand, epoch: int, group: FailoverGroup) -> None:
    """Raises StaleEpoch unless this process is the primary of this epoch, and may go on being it."""
    check_current(group.ownership, epoch)
    if (group.ownership.owner, group.incarnation) != (command.member, command.incarnation):
        raise StaleEpoch(
            f"{command.member} is not the primary of epoch {epoch}", epoch=epoch, owner=group.ownership.holder
        )


def expired(command: ExpireMember, group: FailoverGroup) -> list[GroupEvent]:
    """What comes of a timer that has run out; nothing, if it was of an earlier incarnation or epoch."""
    member = group.members.get(command.member)
    if group.settings is None or member is None:
        return []
    match command.kind:
        case "lease":
            own = group.ownership
            # The process is not compared: whichever has joined since, the lease is the epoch's, and it has not been renewed.
            if (own.holder, own.epoch) != (member.name, command.epoch):
                return []
            detail = f"its lease of {group.lease_seconds:g} s was not renewed"
            return [PrimaryEnded(member=member.name, epoch=own.epoch, how="lease", detail=detail)]
        case "heartbeat":
            heard = member.status in ("active", "recovering") and member.incarnation == command.incarnation
            why = f"it was not heard for {group.settings.silence_seconds:g} s"
            return [MemberFailed(member=member.name, failure="silent", why=why)] if heard else []
        case _:
            assert_never(command.kind)
