"""Rows of a group, and the standing of one of its members, for tests that say only what matters to them."""

from dataclasses import fields, replace
from typing import Any

from muster.group.standing import (
    CheckAnswered,
    GroupSeen,
    Happening,
    MemberStanding,
    Promoted,
    PromotionBegan,
    Renewed,
    Settled,
    evolve,
)
from muster.wire.groups.answers import GroupState, MemberState

LEASE_SECONDS = 2.0
INCARNATION = 5


def member(name: str, status: str = "active", **about: Any) -> MemberState:
    given: dict[str, Any] = dict.fromkeys((field.name for field in fields(MemberState)), None)
    given |= {"role": "standby", "priority": 1, "address": "", "incarnation": INCARNATION, "why": ""}
    return MemberState(**given | {"member": name, "status": status} | about)


def row(primary: str | None = None, epoch: int = 0, **about: Any) -> GroupState:
    """The group `db` of db1 and db2; its version is ten times its epoch unless another one is given."""
    given: dict[str, Any] = dict.fromkeys((field.name for field in fields(GroupState)), None)
    given |= {"group": "db", "serving": False, "fenced": False, "members": (member("db1"), member("db2"))}
    given |= {"heartbeat_seconds": 0.5, "lease_seconds": LEASE_SECONDS, "version": 10 * epoch}
    return GroupState(**given | {"primary": primary, "epoch": epoch} | about)


def after(*happenings: Happening, standing: MemberStanding | None = None) -> MemberStanding:
    """The standing of db1, or of whatever is given, after all that."""
    now = MemberStanding(member="db1", incarnation=INCARNATION) if standing is None else standing
    for happening in happenings:
        now = evolve(now, happening)
    return now


def standby(*happenings: Happening) -> MemberStanding:
    """db1 as a standby that is fit, in a group that has had no primary yet."""
    return after(GroupSeen(row()), Settled(), CheckAnswered(True), *happenings)


def primary(*happenings: Happening, epoch: int = 1, at: float = 100.0) -> MemberStanding:
    """db1 as the primary of the epoch, by a renewal that was sent at that instant."""
    seen = GroupSeen(replace(row("db1", epoch), serving=True))
    led = (seen, Renewed(epoch, at, LEASE_SECONDS), PromotionBegan(epoch), Promoted(at))
    return standby(*led, *happenings)
