"""The aggregate of a failover group: its members, who of them is the primary, and with which epoch; stream `group/<name>`.

Commands   CreateGroup · SetGroup · DeleteGroup · PauseGroup · ResumeGroup · AddMember · RemoveMember · Failover; from runners:
           JoinGroup · RenewMember · ReportMember · ReportEnded · ReportServing · ReportPosition · ChangeInSync; from a failover:
           StartFailover · FenceGroup · PromoteMember · ReclaimGroup · EndFailover; from inside: SuspectMember · ExpireMember
Events     see `domain.groups.state`
State      `FailoverGroup`

`Failover` is answered by the saga that it starts (`sagas.group_failover`); the commands from a failover are its steps here.
A member that is the primary keeps a lease by its renewals: they are no events, losing the lease is. Nobody is promoted before
the epoch of the one before has ended: by its own word, by somebody who saw its process end, or by its lease.
"""

from dataclasses import replace
from typing import Final, assert_never, get_args

from domain.decider import Decider, Parts
from domain.groups.choice import choose, settings_of, unheard
from domain.groups.commands import (
    AddMember,
    CreateGroup,
    DeleteGroup,
    EndFailover,
    Failover,
    FailoverStep,
    FenceGroup,
    GroupCommand,
    InternalCommand,
    PauseGroup,
    PromoteMember,
    PublicCommand,
    ReclaimGroup,
    RemoveMember,
    ResumeGroup,
    RunnerCommands,
    SetGroup,
    Setting,
    StartFailover,
    members_max,
)
from domain.groups.member import (
    ExpireMember,
    GroupReclaimed,
    MemberAdded,
    MemberPromoted,
    MemberRemoved,
    MemberSuspected,
    MemberTrusted,
    RenewMember,
    SuspectMember,
)
from domain.groups.running import expired, is_only_sign, said
from domain.groups.state import (
    DEFAULTS,
    INITIAL,
    FailoverEnded,
    FailoverGroup,
    FailoverStarted,
    GroupCreated,
    GroupDeleted,
    GroupEvent,
    GroupFenced,
    GroupPaused,
    GroupResumed,
    GroupRules,
    GroupSettingsChanged,
    evolve,
)
from domain.groups.timers import MemberPart, expire, part_of, renews, timers
from muster.wire.error import StaleEpoch, TooLarge, VerbNotAllowed, VersionConflict
from muster.wire.stream import GROUP

__all__ = ["DECIDER", "INITIAL", "FailoverGroup", "decide", "evolve"]


def decide(command: GroupCommand, state: FailoverGroup) -> list[GroupEvent]:
    """What the command makes happen. Raises a `Refused`; an empty list: already so."""
    if isinstance(command, RunnerCommands):
        return said(command, state)
    if isinstance(command, FailoverStep):
        return _stepped(command, state)
    match command:
        case ExpireMember():
            return expired(command, state)
        case SuspectMember():
            return _suspected(command, state)
        case Failover():
            # The machine gives this command to the engine of sagas, which asks for `StartFailover` here.
            raise AssertionError("a failover is started as a saga; see sagas.catalogue")
        case _:
            return _asked(command, state)


def _suspected(command: SuspectMember, state: FailoverGroup) -> list[GroupEvent]:
    member = state.members.get(command.member)
    if state.settings is None or member is None or member.suspect == command.evidence:
        return []
    if command.evidence is None:
        return [MemberTrusted(member=member.name)]
    return [MemberSuspected(member=member.name, evidence=command.evidence)]


def _asked(command: Setting, state: FailoverGroup) -> list[GroupEvent]:
    match command:
        case CreateGroup():
            return _create(command, state)
        case SetGroup():
            settings = settings_of(state)
            # Only what is given: two operators who set different things do not undo each other's.
            wanted = command.given() | {name: getattr(DEFAULTS, name) for name in command.default}
            changed = replace(settings, **wanted)  # type: ignore[arg-type] # the command has the same settings and types
            return [] if changed == settings else [GroupSettingsChanged(settings=changed)]
        case DeleteGroup():
            return _delete(command, state)
        case PauseGroup():
            settings_of(state)
            return [] if state.paused else [GroupPaused()]
        case ResumeGroup():
            settings_of(state)
            return [GroupResumed()] if state.paused else []
        case AddMember():
            return _add(command, state)
        case RemoveMember():
            return _remove(command, state)
        case _:
            assert_never(command)


def _create(command: CreateGroup, state: FailoverGroup) -> list[GroupEvent]:
    wanted = GroupRules(**command.model_dump(exclude={"members"}))
    if state.settings is not None:
        # Members are not compared: they come and go, and a repeat of the creation is no wish to have the first ones again.
        if state.settings == wanted:
            return []
        raise VersionConflict("the group is there with other settings; change them with SetGroup (`muster group set`)")
    members = [MemberAdded(member=new.member, priority=new.priority) for new in command.members]
    own = state.ownership
    created = GroupCreated(settings=wanted, epoch=own.epoch, failovers=state.failovers, set_version=own.version)
    return [created, *members]


def _delete(command: DeleteGroup, state: FailoverGroup) -> list[GroupEvent]:
    if state.settings is None:
        return []
    here = sorted(member.name for member in state.members.values() if member.status != "inactive")
    if here and not command.force:
        raise VerbNotAllowed(
            f"members run: {', '.join(here)}; stop them first, or delete by force (`--force`)", allowed=""
        )
    # A failover without its group could neither go on nor turn back.
    if state.failover is not None:
        raise VerbNotAllowed(f"{state.failover} is under way; wait for its end, or abort it", allowed="")
    # Also by force: a group made anew has no primary and would elect one, while the lease of this one still runs.
    if (holder := state.ownership.holder) is not None:
        raise VerbNotAllowed(f"{holder} is the primary; pause the group, stop {holder}, and delete it then", allowed="")
    return [GroupDeleted()]


def _add(command: AddMember, state: FailoverGroup) -> list[GroupEvent]:
    settings_of(state)
    known = state.members.get(command.member)
    if known is not None and known.priority == command.priority:
        return []
    if known is None and len(state.members) >= members_max:
        raise TooLarge(f"a group has at most {members_max} members", members_max=members_max)
    return [MemberAdded(member=command.member, priority=command.priority)]


def _remove(command: RemoveMember, state: FailoverGroup) -> list[GroupEvent]:
    settings_of(state)
    if command.member not in state.members:
        return []
    if command.member == state.ownership.holder:
        raise VerbNotAllowed(f"{command.member} is the primary; let another one take over first", allowed="failover")
    if command.member in state.ownership.in_sync:
        raise VerbNotAllowed(
            f"{command.member} is in the in-sync set; the primary takes it out when it is gone", allowed=""
        )
    return [MemberRemoved(member=command.member)]


def _stepped(command: FailoverStep, state: FailoverGroup) -> list[GroupEvent]:
    settings_of(state)
    if isinstance(command, StartFailover):
        return _start(command, state)
    if state.failover != command.failover:
        # The end itself takes the failover off the group, so a repeat of it comes here.
        if isinstance(command, EndFailover):
            return []
        raise StaleEpoch(f"{command.failover} is not under way", epoch=state.ownership.epoch)
    match command:
        case FenceGroup():
            _check_epoch(command, state)
            # Nobody holds the epoch: there is nobody whose renewals would have to be refused.
            closed = state.ownership.fenced or state.ownership.holder is None
            return [] if closed else [GroupFenced(failover=command.failover, epoch=command.epoch)]
        case PromoteMember():
            return _promote(command, state)
        case ReclaimGroup():
            return _reclaim(command, state)
        case EndFailover():
            return [FailoverEnded(failover=command.failover, outcome=command.outcome, detail=command.detail)]
        case _:
            assert_never(command)


def _start(command: StartFailover, state: FailoverGroup) -> list[GroupEvent]:
    if state.failover is not None:
        raise VerbNotAllowed(f"{state.failover} is under way; wait for its end, or abort it", allowed="")
    _check_epoch(command, state)
    # Before the primary is disturbed: nobody would be served by a failover that ends without another one.
    # Who asks is told at once if what all have said already forbids it, and not only by the failover that then turns back.
    own = state.ownership
    compared = command.cause == "operator" and own.owner is not None and own.holder is None and not unheard(state)
    choice = choose(state, to=command.to, accept_data_loss=command.accept_data_loss, compared=compared)
    started = FailoverStarted(
        failover=command.failover,
        cause=command.cause,
        evidence=command.evidence,
        epoch=command.epoch,
        was=state.ownership.owner,
        to=command.to,
        lossy=choice.lossy,
    )
    return [started]


def _promote(command: PromoteMember, state: FailoverGroup) -> list[GroupEvent]:
    own, settings = state.ownership, settings_of(state)
    # A repeat: the next epoch is this failover's own.
    if own.epoch == command.epoch + 1:
        return []
    # The compare-and-set: a failover that was given up first has raised the epoch.
    _check_epoch(command, state)
    if own.holder is not None and not (own.fenced and settings.fencing == "unfenced"):
        raise StaleEpoch(f"epoch {own.epoch} of {own.holder} has not ended", epoch=own.epoch, owner=own.holder)
    compared = settings.compares and own.owner is not None
    choice = choose(state, to=command.to, accept_data_loss=command.accept_data_loss, compared=compared)
    promoted = MemberPromoted(
        member=choice.member.name,
        failover=command.failover,
        epoch=own.epoch + 1,
        incarnation=choice.member.incarnation,
        lease_seconds=settings.lease_seconds,
        was=own.owner,
        ended=own.ended,
        # The new primary alone holds what it will acknowledge, until it asks for others.
        in_sync=(choice.member.name,) if settings.synchronous else (),
        passed_over=choice.passed_over,
        lossy=choice.lossy,
    )
    return [promoted]


def _reclaim(command: ReclaimGroup, state: FailoverGroup) -> list[GroupEvent]:
    own = state.ownership
    # It has ended, or this has lifted the fence already: the group stands as it is, with or without a primary.
    if own.holder is None or not own.fenced:
        return []
    _check_epoch(command, state)
    reclaimed = GroupReclaimed(
        member=own.holder, failover=command.failover, epoch=own.epoch + 1, incarnation=state.incarnation
    )
    return [reclaimed]


def _check_epoch(command: FailoverStep, state: FailoverGroup) -> None:
    own = state.ownership
    if command.epoch != own.epoch:
        raise StaleEpoch(f"the epoch is {own.epoch}, not {command.epoch}", epoch=own.epoch, owner=own.holder)


DECIDER: Final[Decider[FailoverGroup, GroupCommand, GroupEvent]] = Decider(
    stream=GROUP,
    commands=get_args(PublicCommand),
    internal=get_args(InternalCommand),
    own=(ExpireMember,),
    events=get_args(GroupEvent),
    initial=INITIAL,
    decide=decide,
    evolve=evolve,
    parts=Parts(
        item=lambda message: getattr(message, "member", ""),
        items=lambda state: sorted(state.members),
        part=part_of,
        version=lambda part: (
            None if part is None else (part.group if isinstance(part, MemberPart) else part).version - 1
        ),
        incarnation=lambda part: part.member.incarnation if isinstance(part, MemberPart) else None,
        timers=timers,
        renews=renews,
        expire=expire,
        signs={RenewMember: is_only_sign},
    ),
    state=FailoverGroup,
    listener=lambda group: group.failover,
)
