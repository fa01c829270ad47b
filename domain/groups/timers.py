"""What runs out for a member of a group: the primary's lease, and a member's silence."""

from typing import Literal, NamedTuple

from domain.decider import Renewed
from domain.groups.member import ExpireMember, GroupMember, JoinGroup, RenewMember
from domain.groups.state import FailoverGroup
from muster.wire.command import Command


class MemberTimer(NamedTuple):
    """Something that runs out after `seconds`. A lease is an epoch's, whichever process runs the member meanwhile."""

    member: str
    kind: Literal["lease", "heartbeat"]
    incarnation: int
    epoch: int
    seconds: float
    name: str = ""


class MemberPart(NamedTuple):
    """A member as it stands in its group, which knows the primary's lease and how many heartbeats may be missed."""

    member: GroupMember
    group: FailoverGroup


def part_of(group: FailoverGroup, name: str) -> MemberPart | FailoverGroup | None:
    """The member in its group; the group as a whole without a name; None: it is no member."""
    if not name:
        return group
    member = group.members.get(name)
    return None if member is None or group.settings is None else MemberPart(member, group)


def timers(part: MemberPart | FailoverGroup) -> tuple[MemberTimer, ...]:
    """All that can run out for the member now; for the group as a whole, nothing."""
    if not isinstance(part, MemberPart):
        return ()
    member, group = part
    assert group.settings is not None, "a group without settings has no members"
    own, wanted = group.ownership, []
    # Also when another process has joined as this member meanwhile, and while the epoch is fenced: what runs out is what the
    # primary's process still holds of its lease.
    if own.holder == member.name:
        wanted.append(MemberTimer(member.name, "lease", group.incarnation, own.epoch, group.lease_seconds))
    if member.status in ("active", "recovering"):
        silence = group.settings.silence_seconds
        wanted.append(MemberTimer(member.name, "heartbeat", member.incarnation, 0, silence))
    return tuple(wanted)


def renews(command: Command) -> Renewed | None:
    """Which timers the command, once answered, gives their full length again; None: none at all."""
    match command:
        case RenewMember(epoch=None) | JoinGroup():
            # Without the epoch it says that the member is there, and not that it counts its lease as the primary anew.
            return lambda timer: timer.kind == "heartbeat"
        case RenewMember(epoch=epoch):
            return lambda timer: timer.kind == "heartbeat" or timer.epoch == epoch
        case _:
            return None


def expire(timer: MemberTimer) -> ExpireMember:
    """The command to give when the timer has run out."""
    return ExpireMember(member=timer.member, kind=timer.kind, incarnation=timer.incarnation, epoch=timer.epoch)
