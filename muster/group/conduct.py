"""What a member's process does next, says next and may do: pure functions of its standing and the time.

All that the group wants stands in its row as a level, so nothing is remembered of how it came: a process that has missed ten
changes does the same as one that has seen them all. Three rules make two primaries impossible, as long as clocks run:

* it becomes the primary only after a renewal for the epoch was accepted, and counts the lease from before that was sent;
* without another accepted renewal it begins to stop after half of the lease, whatever it has heard or not heard, or a little
  later if its process has just stood still;
* once an epoch is given up, nothing brings it back; the group may give the next one.
"""

import math
from typing import Final, Literal, assert_never

from muster.group.standing import MemberStanding
from muster.wire.groups.answers import Role
from muster.wire.value import value

RENEW_SHARE: Final = 1 / 6
"""A primary renews each time that this share of the lease has passed."""
ANSWER_SHARE: Final = 1 / 3
"""For this share of the lease a renewal is waited for: then a primary that has heard nothing since the last one stops."""
STOP_SHARE: Final = 0.5
"""After this share of the lease without an accepted renewal the member is asked to stop."""
PATIENT_SHARE: Final = 0.7
"""After this one it is asked to stop also if its process stood still meanwhile; see `stop_instant`."""
KILL_SHARE: Final = 0.8
"""After this share what it runs is killed, with all that it has started."""
WARDEN_SHARE: Final = 0.85
"""After this share the warden kills it, if the runner has not."""
LEASE_SHARE: Final = 0.9
"""After this share it is the primary no more, by its own count; the rest is for clocks that run at different rates."""
STILL_SECONDS: Final = 0.05
"""Who wakes later than this stood still. Its silence says nothing about the controllers: their answers may wait to be read."""
PATIENCE_SHARE: Final = 0.1
"""One that stood still takes so long of the lease to hear answers, and the one to a renewal that it sends now."""

position_every_seconds: Final = 10.0
"""How often a primary says how far its copy reaches."""
position_again_seconds: Final = 0.2
"""When a standby tries again that could not find out how far its copy reaches."""


@value
class Settle:
    """Put away what an earlier process may have left behind."""


@value
class Claim:
    """Renew as the primary of the epoch: the lease begins with that."""

    epoch: int


@value
class Promote:
    """Become the primary of the epoch."""

    epoch: int


@value
class Demote:
    """Stop being the primary of the epoch."""

    epoch: int
    why: str


@value
class Leave:
    """Say that nobody runs the member any more, and end."""


@value
class End:
    """End, because it is a member no more."""

    why: str


@value
class Idle:
    """There is nothing to do until something happens, or until this instant."""

    until: float = math.inf


Step = Settle | Claim | Promote | Demote | Leave | End | Idle


def next_step(standing: MemberStanding, now: float) -> Step:
    """What to do next. While the member is promoted or demoted, `interruption` is to be asked instead."""
    match standing.phase:
        case "starting":
            return _starting(standing)
        case "standby":
            return _standby(standing, now)
        case "promoting" | "primary":
            why = gives_up(standing, now)
            return Demote(standing.epoch, why) if why is not None else Idle(stops_at(standing))
        case "demoting":
            return Idle()
        case _:
            assert_never(standing.phase)


def _starting(standing: MemberStanding) -> Step:
    if standing.gone is not None:
        return End(standing.gone)
    # What is put away depends on how the group stands: whether there is a primary, and where.
    return Leave() if standing.leaving else Settle() if standing.me is not None else Idle()


def _standby(standing: MemberStanding, now: float) -> Step:
    if standing.gone is not None:
        return End(standing.gone)
    if standing.leaving:
        return Leave()
    epoch = given(standing)
    if epoch is None:
        return Idle()
    # Half of the lease must be left to begin with, or there would be no time to stop in order.
    held = standing.epoch == epoch and now < standing.renewed_at + standing.lease_seconds * STOP_SHARE
    return Promote(epoch) if held else Claim(epoch)


def given(standing: MemberStanding) -> int | None:
    """The epoch that the group has given to this process, and that it has not given up; None: there is none."""
    row = standing.row
    if row is None or row.fenced or row.primary != standing.member or row.epoch <= standing.over or standing.me is None:
        return None
    return row.epoch


def stops_at(standing: MemberStanding) -> float:
    """When it begins to stop, if no further renewal is accepted."""
    return stop_instant(standing.renewed_at, standing.lease_seconds, standing.stood_until)


def stood_still(began: float, due: float, now: float) -> bool:
    """Whether who began to sleep, was due to wake and is awake now did not run in between. Who begins too late does run."""
    return now >= max(began, due) + STILL_SECONDS


def stop_instant(renewed_at: float, lease_seconds: float, stood_until: float) -> float:
    """When what holds a lease since `renewed_at`, in a process that stood still until `stood_until`, is asked to stop.

    Where a whole machine stands still for a moment, its processes wake all at once, and the renewal is answered in
    milliseconds: without these the primaries of all its groups would stop.
    """
    patient_until = min(stood_until + lease_seconds * PATIENCE_SHARE, renewed_at + lease_seconds * PATIENT_SHARE)
    return max(renewed_at + lease_seconds * STOP_SHARE, patient_until)


def interruption(standing: MemberStanding, now: float) -> str | None:
    """Why a promotion under way, or what is put away at the start, is broken off; None: it goes on.

    What is put away at the start is broken off when the process is to stop: it has led nothing, so nobody relies on it.
    A fence alone ends no promotion: the hook is let come to its end, as long as the lease lasts, for one that was stopped
    halfway has left half of something behind.
    """
    ends = standing.leaving or standing.gone is not None
    if standing.phase == "starting":
        return gives_up(standing, now) if ends else None
    return gives_up(standing, now) if ends or standing.fell is not None or now >= stops_at(standing) else None


def gives_up(standing: MemberStanding, now: float) -> str | None:
    """Why it is to stop being the primary of its epoch; None: it goes on."""
    row, epoch = standing.row, standing.epoch
    if standing.gone is not None:
        return standing.gone
    if standing.fell is not None:
        return standing.fell
    if standing.ill is not None:
        return standing.ill
    if row is not None and (row.epoch, row.primary) != (epoch, standing.member):
        leads = f"{row.primary} is the primary" if row.primary is not None else f"it has ended ({row.ended})"
        return f"epoch {row.epoch}: {leads}"
    if row is not None and row.fenced:
        return f"a failover is under way: {row.failover}"
    if standing.refused is not None:
        return standing.refused
    if standing.leaving:
        return "its runner stops"
    if now >= stops_at(standing):
        return f"no renewal was accepted for {now - standing.renewed_at:.2f} s of its lease of {standing.lease_seconds:g} s"
    return None


def renewal_epoch(standing: MemberStanding) -> int | None:
    """The epoch to renew as its primary; None: only that the member is there.

    Also while it stops, as long as the group knows nothing of that: the lease is what gives it the time to stop in order.
    """
    if standing.phase not in ("promoting", "primary", "demoting") or standing.epoch <= standing.over:
        return None
    row = standing.row
    ended = row is not None and (row.fenced or row.epoch != standing.epoch or row.primary != standing.member)
    return None if ended else standing.epoch


def renewal_seconds(standing: MemberStanding) -> float:
    """How long to wait between renewals.

    A primary's go more often, so that its lease outlives a controller that is silent for nearly a third of it.
    """
    row = standing.row
    if row is None:
        return 0.5
    share = 1 / 4 if renewal_epoch(standing) is None else RENEW_SHARE
    return min(row.heartbeat_seconds, row.lease_seconds * share)


def role(standing: MemberStanding) -> Role:
    """What it is, also while it is just becoming or stopping to be it."""
    return "standby" if standing.phase in ("starting", "standby") else "primary"


def leads(standing: MemberStanding, now: float) -> bool:
    """Whether it may act as the primary now: its lease is not over by its own count, and nobody has taken the epoch from it."""
    if role(standing) != "primary" or standing.epoch <= standing.over or renewal_epoch(standing) is None:
        return False
    return now < standing.renewed_at + standing.lease_seconds * LEASE_SHARE


def fence_due(standing: MemberStanding, now: float) -> int | None:
    """The epoch whose primary the group wants fenced by this member now; None: none.

    As long as the hook runs, this is asked again and again: one that is not wanted any more is broken off.
    """
    row = standing.row
    if row is None or row.fencer != standing.member or standing.me is None:
        return None
    rests = standing.fence_epoch == row.epoch and now < standing.fence_again_at
    return None if rests or standing.leaving or standing.gone is not None else row.epoch


# What it says


@value
class SayMember:
    """Say how it stands with the member."""

    outcome: Literal["ready", "failed"]
    failure: Literal["check", "hook"] = "check"
    why: str = ""


@value
class SayServing:
    """Say that it serves as the primary of the epoch."""

    epoch: int


def next_word(standing: MemberStanding, now: float) -> SayMember | SayServing | None:
    """What the group should be told and does not know yet; None: nothing."""
    row, me = standing.row, standing.me
    # What was said is not in this row yet, if the row is older.
    if row is None or me is None or row.version <= standing.told or standing.leaving or standing.gone is not None:
        return None
    if standing.phase == "primary" and row.epoch == standing.epoch and not row.serving and not row.fenced:
        return SayServing(standing.epoch)
    ill = standing.ill if now < standing.rests_until else None
    if ill is not None or standing.fit is False:
        failed = SayMember("failed", "check" if ill is None else "hook", ill or standing.unfit_why)
        return failed if me.status in ("active", "recovering") else None
    ready = standing.fit is True and not _rests(standing, now) and standing.phase in ("standby", "primary")
    return SayMember("ready") if ready and me.status in ("recovering", "failed") else None


def _rests(standing: MemberStanding, now: float) -> bool:
    """Whether it leaves the lead to others for a while: it has failed, or was to stop."""
    if now >= standing.rests_until or standing.phase == "primary":
        return False
    # The others have had their turn once one of them serves, or has ended before; who ends again and again waits all the same.
    # Not as soon as one is promoted: it claims its epoch just then, and would wait for this word to be in the log.
    row = standing.row
    moved_on = row is not None and row.epoch > standing.epoch and (row.serving or row.primary is None or row.fenced)
    return not (standing.ill is None and standing.falls <= 1 and moved_on)


def position_due(standing: MemberStanding, now: float) -> int | None:
    """The epoch for which the group wants to know how far the member's copy reaches; None: it does not ask now."""
    row = standing.row
    if row is None or row.max_lag is None or standing.me is None or now < standing.positioned_at + _again(standing):
        return None
    if standing.phase == "primary" and row.epoch == standing.epoch:
        return row.epoch
    # The primary has ended, so no copy grows any more: they can be compared.
    asked = standing.phase == "standby" and row.primary is None and 0 < row.epoch != standing.positioned
    return row.epoch if asked else None


def _again(standing: MemberStanding) -> float:
    return position_every_seconds if standing.phase == "primary" else position_again_seconds
