"""Who leads next, and whether it is time to: pure functions of a group, recorded with each failover.

A member can take over if it is active, its checks say nothing against it, and its copy is good enough: in the in-sync set, where
the group keeps one; within `max_lag` of the longest copy known, where positions are compared. Of those the highest priority
leads, then the longest copy, then the one that has been active for longest, then the first name. The primary that a
failover has stopped comes after all others, unless it is asked for by name: it may be fit again before another one is chosen.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from domain.groups.fencing import fencers
from domain.groups.member import GroupMember, PassedOver
from domain.groups.state import Cause, FailoverGroup, GroupRules
from muster.wire.error import DataLossRefused, GroupNotFound, MemberNotFound, NoHealthyStandby

_NEVER: Final = datetime.max.replace(tzinfo=UTC)


class Choice(NamedTuple):
    """Who leads next, and who does not, and why. `lossy`: acknowledged writes may be missing there, which was accepted."""

    member: GroupMember
    passed_over: tuple[PassedOver, ...]
    lossy: bool


def settings_of(group: FailoverGroup) -> GroupRules:
    """The group's settings. Raises GroupNotFound."""
    if group.settings is None:
        raise GroupNotFound("there is no such group; create it first")
    return group.settings


def unfit(member: GroupMember) -> str | None:
    """Why the member cannot lead, whatever its copy holds; None: it can."""
    if member.status != "active":
        return f"{member.status}: {member.why}" if member.why else member.status
    return f"suspected: {member.suspect}" if member.suspect is not None else None


def missing(group: FailoverGroup, member: GroupMember, *, compared: bool) -> str | None:
    """What the member's copy may lack of what was acknowledged; None: nothing that the group minds.

    `compared`: the members have said how far their copies reach since the epoch was fenced; before that a position that is
    unknown, or old, says nothing.
    """
    settings = settings_of(group)
    in_sync = group.ownership.in_sync
    # An empty set: nobody has been the primary yet, so nothing was acknowledged that could be missing.
    if settings.synchronous and in_sync and member.name not in in_sync:
        return f"it is not in the in-sync set {', '.join(in_sync)}"
    if settings.max_lag is None or not compared:
        return None
    # The old primary's own last word counts too: it may have acknowledged what no other copy holds.
    known = max((other.position for other in group.members.values() if other.position is not None), default=None)
    if known is None:
        return None
    # What a copy held in an earlier epoch says little: it may have followed another primary since, or none.
    if member.position is None or member.position_epoch != group.ownership.epoch:
        return "how far its copy reaches is not known"
    lag = known - member.position
    if lag <= settings.max_lag:
        return None
    return f"its copy is {lag} behind the longest one known; at most {settings.max_lag} is allowed"


def unheard(group: FailoverGroup) -> list[str]:
    """The members that could take over and have not said how far their copies reach since the epoch ended, where that counts."""
    own, settings = group.ownership, settings_of(group)
    if own.owner is None or not settings.compares:
        return []
    able = (member for member in group.members.values() if member.name != own.holder and unfit(member) is None)
    return sorted(member.name for member in able if member.position_epoch != own.epoch)


class Candidates(NamedTuple):
    """The members that can take over, and why the others cannot: whatever their copies hold, or for what these `lack`."""

    able: list[GroupMember]
    unfit: dict[str, str]
    lack: dict[str, str]


def candidates(group: FailoverGroup, *, to: str | None = None, compared: bool = False) -> Candidates:
    """Who can take over, by name; only `to`, if somebody is asked for."""
    able, why, lack = list[GroupMember](), dict[str, str](), dict[str, str]()
    for name, member in sorted(group.members.items()):
        # The primary steps down, as long as it is one; after its end it is a member like all others.
        reason = "it is the primary that steps down" if name == group.ownership.holder else unfit(member)
        if reason is None and to is not None and name != to:
            reason = f"{to} was asked for"
        if reason is not None:
            why[name] = reason
        elif (lacks := missing(group, member, compared=compared)) is not None:
            lack[name] = lacks
        else:
            able.append(member)
    return Candidates(able, why, lack)


def choose(
    group: FailoverGroup, *, to: str | None = None, accept_data_loss: bool = False, compared: bool = False
) -> Choice:
    """Who leads next: `to`, if it can. Raises MemberNotFound, NoHealthyStandby (with a reason per member), DataLossRefused."""
    if to is not None and to not in group.members:
        raise MemberNotFound(f"the group has no member {to}", member=to)
    able, why, lacks = candidates(group, to=to, compared=compared)
    # Accepting a loss is the last resort, and no wish for it: whoever lacks nothing still comes first.
    lossy = not able and bool(lacks) and accept_data_loss
    if lossy:
        able = [group.members[name] for name in lacks]
    if not able:
        _refuse(why, lacks)
    # Where writes may be missing, the longest copy counts for more than whose it is.
    leaves = None if lossy else _left(group)
    order = _most_data_first if lossy else _preferred_first
    chosen = min(able, key=lambda member: (member.name == leaves, order(member)))
    left = {
        member.name: f"{chosen.name} comes first: "
        + ("the failover leads away from it" if member.name == leaves else _rank(member, chosen))
        for member in able
        if member is not chosen
    }
    others = {**why, **({} if lossy else lacks), **left}
    return Choice(chosen, tuple(PassedOver(name, others[name]) for name in sorted(others)), lossy)


def _left(group: FailoverGroup) -> str | None:
    """The member that a failover leads away from: the primary that it has fenced, even if that is fit again by now."""
    return group.ownership.owner if group.ownership.fenced else None


def _refuse(why: dict[str, str], lacks: dict[str, str]) -> None:
    # Every member is named, with its reason: who reads this has to decide which of them to mend.
    every = {**why, **lacks}
    reasons = "; ".join(f"{name}: {every[name]}" for name in sorted(every)) or "the group has no other member"
    if lacks:
        raise DataLossRefused(
            f"acknowledged writes could be lost: {reasons}; an operator may accept that (`--accept-data-loss`)",
            missing=reasons,
        )
    raise NoHealthyStandby(f"no member can take over: {reasons}", members=reasons)


def _preferred_first(member: GroupMember) -> tuple[int, int, datetime, str]:
    return -member.priority, -(member.position or 0), member.since or _NEVER, member.name


def _most_data_first(member: GroupMember) -> tuple[int, int, datetime, str]:
    return -(member.position or 0), -member.priority, member.since or _NEVER, member.name


def _rank(member: GroupMember, chosen: GroupMember) -> str:
    if member.priority != chosen.priority:
        return f"priority {chosen.priority}, not {member.priority}"
    if (member.position or 0) != (chosen.position or 0):
        return f"its copy reaches {chosen.position}, not {member.position}"
    return "it has been active for longer" if member.since != chosen.since else "by name"


class Due(NamedTuple):
    """A failover that is to begin by itself, and what it rests on."""

    cause: Cause
    evidence: str


def due(group: FailoverGroup, now: datetime) -> Due | None:
    """Whether a failover is to begin by itself now.

    A proven end, or the primary's own word that it has failed, is acted on at once. Suspicion needs two kinds of observers,
    and is held down for a while after the last failover that rested on suspicion: it cannot make a group flap.
    """
    if group.settings is None or group.paused or group.failover is not None or group.gave_up is not None:
        return None
    able = [member for member in group.members.values() if unfit(member) is None]
    primary = group.primary
    if primary is None:
        return _of_none(group, able, now)
    able = [member for member in able if member is not primary]
    # Without anybody to take over, a primary that is ill is better than none.
    if not able or group.ownership.fenced:
        return None
    # Its own word is no suspicion, so it is not held down: that would only keep what is known to be broken.
    if primary.status == "failed" and primary.failure != "silent":
        return Due("failed", f"{primary.name} says that it has failed: {primary.why}")
    return _of_suspicion(group, primary, now) or _of_preference(group, primary, able, now)


def _of_none(group: FailoverGroup, able: list[GroupMember], now: datetime) -> Due | None:
    if not able:
        return None
    if group.ownership.owner is not None:
        detail = f": {group.ended_detail}" if group.ended_detail else ""
        return Due("ended", f"{group.ownership.owner} has ended ({group.ownership.ended}){detail}")
    # The first primary: the others get as long to come as a silent member has, so that the one of highest priority leads.
    first = min(member.since or _NEVER for member in able)
    everybody = len(able) == len(group.members)
    return (
        Due("first", "the group has had no primary yet")
        if everybody or _past(first, _settle_seconds(group), now)
        else None
    )


def _settle_seconds(group: FailoverGroup) -> float:
    return settings_of(group).silence_seconds


def _of_suspicion(group: FailoverGroup, primary: GroupMember, now: datetime) -> Due | None:
    if primary.status != "failed" or _held_down(group, now):
        return None
    # Two kinds of observers see it from different places. One alone may be the one that is cut off.
    if primary.suspect is not None:
        return Due("suspected", f"its runner: {primary.why}; its checks: {primary.suspect}")
    # Without a service nobody else looks. But whoever is to fence it sees to it that it has ended, if it has not.
    able = fencers(group) if settings_of(group).service is None else []
    return Due("suspected", f"its runner: {primary.why}; {able[0].name} is to fence it") if able else None


def _of_preference(group: FailoverGroup, primary: GroupMember, able: list[GroupMember], now: datetime) -> Due | None:
    settings = settings_of(group)
    best = min(able, key=_preferred_first)
    # Not before the present primary serves: a group would else go back and forth between two that never come up.
    if not (settings.preempt and group.serving) or best.priority <= primary.priority:
        return None
    if not _past(best.since, settings.hold_down_seconds, now) or missing(group, best, compared=False) is not None:
        return None
    return Due("preferred", f"{best.name} has priority {best.priority}, {primary.name} has {primary.priority}")


def _held_down(group: FailoverGroup, now: datetime) -> bool:
    return group.promoted_for == "suspected" and not _past(group.since, settings_of(group).hold_down_seconds, now)


def _past(since: datetime | None, seconds: float, now: datetime) -> bool:
    return since is not None and now - since >= timedelta(seconds=seconds)
