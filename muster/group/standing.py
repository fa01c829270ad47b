"""How it stands with the member of a group that a process runs: what it knows, and what has happened. Pure.

    starting ──Settled──▶ standby ──PromotionBegan──▶ promoting ──Promoted──▶ primary
                             ▲                            │ HookFailed           │
                             │                            ▼                      │
                             └─────────Demoted──────── demoting ◀──DemotionBegan─┘

Instants are those of `muster.clock.elapsed_seconds`. What is to be done next follows from here: `muster.group.conduct`.
"""

import math
from dataclasses import replace
from typing import Final, Literal, assert_never

from muster.wire.backoff import pause_seconds
from muster.wire.groups.answers import GroupState, MemberState
from muster.wire.value import value

Phase = Literal["starting", "standby", "promoting", "primary", "demoting"]

rest_first_seconds: Final = 1.0
rest_longest_seconds: Final = 60.0
steady_seconds: Final = 5.0
"""After so long as the primary an earlier failure counts no more."""


@value(kw_only=True)
class MemberStanding:
    """A member as its own process knows it.

    `row` is the newest state of the group; `epoch` the one that this process holds, or held last, by a renewal that was
    accepted; `renewed_at`: when the newest of those was sent; `lease_seconds`: how long it counts from then on; `stood_until`:
    when the process last woke after it had stood still. Epochs up to `over` are none of this process's any more. `fit`: what
    the check said last (None: not asked since the last demotion).

    `ill`: why a hook has failed; `fell`: what ended by itself, as the primary of `epoch`. It `rests_until` then, before it says
    that it is ready again, after either of them and after any demotion: others come first.
    `gone`: why the membership is over. `told`: the version of the group at which its newest word was heard.
    """

    member: str
    incarnation: int
    phase: Phase = "starting"
    row: GroupState | None = None
    epoch: int = 0
    renewed_at: float = -math.inf
    lease_seconds: float = 0.0
    stood_until: float = -math.inf
    over: int = 0
    refused: str | None = None
    fit: bool | None = None
    unfit_why: str = ""
    ill: str | None = None
    fell: str | None = None
    falls: int = 0
    rests_until: float = -math.inf
    primary_since: float = math.inf
    leaving: bool = False
    gone: str | None = None
    told: int = -1
    positioned: int = 0
    positioned_at: float = -math.inf
    fence_epoch: int = 0
    fence_tries: int = 0
    fence_again_at: float = -math.inf

    @property
    def me(self) -> MemberState | None:
        """The member in the group's row, as long as that is about this process."""
        members = self.row.members if self.row is not None else ()
        return next((one for one in members if (one.member, one.incarnation) == (self.member, self.incarnation)), None)


@value
class GroupSeen:
    """The group stands like this."""

    row: GroupState


@value
class Renewed:
    """A renewal as the primary of the epoch, sent at that instant, was accepted."""

    epoch: int
    sent_at: float
    lease_seconds: float


@value
class RenewalRefused:
    """The group says that this process is not the primary of the epoch any more."""

    epoch: int
    why: str


@value
class StoodStill:
    """The process did not run, and does so again since that instant."""

    until: float


@value
class CheckAnswered:
    """What the check says of the member."""

    fit: bool
    why: str = ""


@value
class Settled:
    """What an earlier process may have left behind is put away."""


@value
class PromotionBegan:
    """It is being made the primary."""

    epoch: int


@value
class Promoted:
    """It serves as the primary."""

    at: float


@value
class HookFailed:
    """It could not be made the primary, or not be put back."""

    why: str
    at: float


@value
class Fell:
    """What it ran as the primary has ended by itself."""

    why: str
    at: float


@value
class DemotionBegan:
    """It is being stopped as the primary."""


@value
class Demoted:
    """It is the primary no more, or has given up to be."""

    at: float


@value
class Told:
    """A word of its was heard; the group is at this version, or at a later one."""

    version: int


@value
class Positioned:
    """It has said how far its copy reaches in this epoch; 0: it could not find out."""

    epoch: int
    at: float


@value
class FenceTried:
    """It has tried to fence the primary of the epoch."""

    epoch: int
    at: float
    done: bool


@value
class Leaving:
    """It is to stop."""


@value
class Gone:
    """It is a member no more: another process runs it, or there is no such member or group."""

    why: str


Happening = (
    GroupSeen
    | Renewed
    | RenewalRefused
    | StoodStill
    | CheckAnswered
    | Settled
    | PromotionBegan
    | Promoted
    | HookFailed
    | Fell
    | DemotionBegan
    | Demoted
    | Told
    | Positioned
    | FenceTried
    | Leaving
    | Gone
)
"""All that can happen to a member in its own process."""


def evolve(standing: MemberStanding, happening: Happening) -> MemberStanding:
    """The standing after it."""
    match happening:
        case GroupSeen(row):
            # Another controller may be a little behind the one that was watched before.
            late = standing.row is not None and row.version < standing.row.version
            return standing if late else replace(standing, row=row)
        case Renewed():
            return _renewed(standing, happening)
        case RenewalRefused(epoch, why):
            held = epoch == standing.epoch
            return replace(standing, over=max(standing.over, epoch), refused=why if held else standing.refused)
        case StoodStill(until):
            return replace(standing, stood_until=until)
        case CheckAnswered(fit, why):
            return replace(standing, fit=fit, unfit_why=why)
        case HookFailed(why, at):
            return replace(_fallen(standing, at), ill=why)
        case Fell(why, at):
            # It has ended, and that is said: nothing is left of the epoch.
            return replace(_fallen(standing, at), fell=why, over=max(standing.over, standing.epoch))
        case Told(version):
            return replace(standing, told=max(standing.told, version))
        case Positioned(epoch, at):
            return replace(standing, positioned=epoch or standing.positioned, positioned_at=at)
        case FenceTried():
            return _fence_tried(standing, happening)
        case Leaving():
            return replace(standing, leaving=True)
        case Gone(why):
            return replace(standing, gone=why)
        case Settled() | PromotionBegan() | Promoted() | DemotionBegan() | Demoted():
            return _phased(standing, happening)
        case _:
            assert_never(happening)


def _phased(
    standing: MemberStanding, happening: Settled | PromotionBegan | Promoted | DemotionBegan | Demoted
) -> MemberStanding:
    match happening:
        case Settled():
            assert standing.phase == "starting", f"settled while {standing.phase}"
            return replace(standing, phase="standby")
        case PromotionBegan(epoch):
            assert standing.phase == "standby", f"a promotion began while {standing.phase}"
            assert epoch == standing.epoch > standing.over, (
                f"a promotion to epoch {epoch}, but epoch {standing.epoch} is held"
            )
            return replace(standing, phase="promoting", fell=None, ill=None, refused=None)
        case Promoted(at):
            return replace(standing, phase="primary", primary_since=at)
        case DemotionBegan():
            return replace(standing, phase="demoting")
        case Demoted(at):
            # It has been changed by the demotion: whether it is fit, and how far it reaches, has to be asked again.
            over = max(standing.over, standing.epoch)
            rests = max(standing.rests_until, at + rest_first_seconds)
            standby = replace(standing, phase="standby", fit=None, positioned=0, primary_since=math.inf)
            return replace(standby, over=over, rests_until=rests)
        case _:
            assert_never(happening)


def _renewed(standing: MemberStanding, renewed: Renewed) -> MemberStanding:
    # The answer of a renewal that was sent before the epoch was given up changes nothing any more.
    if renewed.epoch <= standing.over or renewed.epoch < standing.epoch:
        return standing
    again = renewed.epoch == standing.epoch
    return replace(
        standing,
        epoch=renewed.epoch,
        # Answers may overtake each other.
        renewed_at=max(standing.renewed_at, renewed.sent_at) if again else renewed.sent_at,
        lease_seconds=renewed.lease_seconds,
    )


def _fallen(standing: MemberStanding, at: float) -> MemberStanding:
    falls = 1 if at - standing.primary_since >= steady_seconds else standing.falls + 1
    # Not a random pause: only one process runs the member, so no others wait for as long.
    pause = pause_seconds(falls - 1, rest_first_seconds, rest_longest_seconds, 1.0)
    return replace(standing, falls=falls, rests_until=at + pause)


def _fence_tried(standing: MemberStanding, tried: FenceTried) -> MemberStanding:
    tries = 1 if tried.epoch != standing.fence_epoch else standing.fence_tries + 1
    # Done is done: until the group has heard of it, the row goes on to ask.
    pause = math.inf if tried.done else pause_seconds(tries - 1, rest_first_seconds, rest_longest_seconds, 1.0)
    return replace(standing, fence_epoch=tried.epoch, fence_tries=tries, fence_again_at=tried.at + pause)
