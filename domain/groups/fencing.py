"""Who is to fence a primary that is not heard, in a group whose epochs a hook may end. Pure.

Only the process that leads has to be silent: what is heard is asked to stop, and does. So a switch that an operator asks for
powers off no healthy host, and a primary that is heard again is left alone.
"""

from domain.groups.member import GroupMember
from domain.groups.state import FailoverGroup


def unheard(group: FailoverGroup) -> bool:
    """Whether nothing is heard of the process that holds the epoch."""
    primary = group.primary
    if primary is None:
        return False
    silent = primary.status == "failed" and primary.failure == "silent"
    # Another process may run the member by now. It speaks for itself, and not for the one that leads.
    return silent or primary.incarnation != group.incarnation


def fencers(group: FailoverGroup) -> list[GroupMember]:
    """The members that can fence the primary: whoever has failed least often at this epoch comes first, then by name."""
    if group.settings is None or group.settings.fencing != "hook":
        return []
    able = (member for member in group.members.values() if member.name != group.ownership.holder and _can(member))
    return sorted(able, key=lambda member: (tries(member, group.ownership.epoch), member.name))


def _can(member: GroupMember) -> bool:
    # One that is not fit to lead may still fence; one that is not heard would keep everybody waiting.
    return member.fences and member.status != "inactive" and member.failure != "silent"


def tries(member: GroupMember, epoch: int) -> int:
    """How often the member has tried in vain to fence the primary of this epoch."""
    return member.fence_tries if member.fence_epoch == epoch else 0


def fencer(group: FailoverGroup) -> GroupMember | None:
    """Who is to fence the primary now; None: nobody is."""
    if not group.ownership.fenced or not unheard(group):
        return None
    return next(iter(fencers(group)), None)
