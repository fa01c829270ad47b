"""Who leads each failover group, and who could? One row per group."""

from dataclasses import fields
from typing import Final

from domain.groups.choice import candidates
from domain.groups.fencing import fencer, fencers
from domain.groups.group import DECIDER
from domain.groups.member import GroupMember
from domain.groups.state import INITIAL, FailoverGroup, GroupEvent, evolve
from domain.message import Recorded
from muster.wire.error import GroupNotFound
from muster.wire.groups import answers
from muster.wire.stream import name_of
from muster.wire.value import value
from projections.projection import Key, Projection


@value
class GroupRow:
    """A group as the decider knows it, and what readers see of it."""

    group: str
    state: FailoverGroup
    shown: answers.GroupState


def degraded(group: FailoverGroup) -> str | None:
    """What is amiss with the group, in a sentence; None: it is led, and somebody could take over."""
    primary = group.primary
    able, unfit, lack = candidates(group)
    # Who leads is no candidate as long as it does: to name it as one would read as if it were to stop.
    others = {name: why for name, why in (unfit | lack).items() if primary is None or name != primary.name}
    nobody = "; ".join(f"{name}: {others[name]}" for name in sorted(others)) or "it has no other member"
    if primary is None:
        why = f"nobody leads: {group.ended_detail}" if group.ended_detail else "nobody leads"
        if group.gave_up is not None:
            return f"{why}; the last failover was given up: {group.gave_up}"
        return why if able else f"{why}; nobody can take over: {nobody}"
    if group.ownership.fenced:
        return f"{primary.name} is to stop, and {group.failover or 'a failover'} waits for that"
    if primary.status == "failed":
        return f"{primary.name} leads, and has failed: {primary.why}"
    if not group.serving:
        return f"{primary.name} leads, and does not serve yet"
    if not able:
        return f"nobody can take over: {nobody}"
    # The lease ends its epoch all the same. But whoever has chosen hooks counts on less than that.
    lacks = group.settings is not None and group.settings.fencing == "hook" and not fencers(group)
    return f"nobody can fence {primary.name}: no other member runs with --fence" if lacks else None


def shown(name: str, group: FailoverGroup) -> answers.GroupState:
    """What readers see of the group, which is there."""
    own, settings, primary = group.ownership, group.settings, group.primary
    assert settings is not None, f"{name} has been deleted"
    by = fencer(group)
    return answers.GroupState(
        group=name,
        primary=own.holder,
        address=None if primary is None else group.address,
        epoch=own.epoch,
        serving=group.serving,
        fenced=own.fenced and primary is not None,
        since=group.since,
        ended=own.ended,
        degraded=degraded(group),
        paused=group.paused,
        failover=group.failover,
        members=tuple(_member(member, own.holder) for _, member in sorted(group.members.items())),
        in_sync=own.in_sync,
        in_sync_version=own.version,
        threshold=settings.threshold,
        heartbeat_seconds=settings.heartbeat_seconds,
        # Of the epoch while it lasts: a new length that was set meanwhile is no promise that its primary has been given.
        lease_seconds=settings.lease_seconds if primary is None else group.lease_seconds,
        fencing=settings.fencing,
        max_lag=settings.max_lag,
        synchronous=settings.synchronous,
        preempt=settings.preempt,
        hold_down_seconds=settings.hold_down_seconds,
        service=settings.service,
        version=group.version,
        failover_seconds=settings.failover_seconds,
        incarnation=None if primary is None else group.incarnation,
        fencer=None if by is None else by.name,
    )


def _member(member: GroupMember, primary: str | None) -> answers.MemberState:
    return answers.MemberState(
        member=member.name,
        role="primary" if member.name == primary else "standby",
        status=member.status,
        priority=member.priority,
        address=member.address,
        incarnation=member.incarnation,
        why=member.why,
        suspect=member.suspect,
        position=member.position,
        since=member.since,
        fences=member.fences,
    )


def key_of(recorded: Recorded) -> Key:
    """(group,)."""
    return (name_of(recorded.stream),)


def fold(row: GroupRow | None, recorded: Recorded[GroupEvent]) -> GroupRow | None:
    """The group after the event: the decider's own fold, so a table cannot know another group than commands are decided on."""
    state = evolve(INITIAL if row is None else row.state, recorded)
    name = name_of(recorded.stream) if row is None else row.group
    return None if state.settings is None else GroupRow(name, state, shown(name, state))


def _missing(key: Key) -> GroupNotFound:
    return GroupNotFound(f"there is no failover group {key[0]}", group=key[0])


GROUPS: Final = Projection(
    name="groups",
    revision=2,
    row=GroupRow,
    key=("group",),
    events=frozenset(DECIDER.events),
    key_of=key_of,
    fold=fold,
    columns=tuple(f"shown.{field.name}" for field in fields(answers.GroupState) if field.name != "group"),
    served=answers.GROUPS,
    missing=_missing,
    summary="All failover groups: who leads them, and how it stands with their members",
    tag="groups",
)
