"""Failover groups as everyone outside sees them: who leads with which epoch, and how it stands with each member."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args

from muster.wire.read_model import ReadModel

MemberStatus = Literal["active", "inactive", "failed", "recovering"]
Role = Literal["primary", "standby"]
GroupSetting = Literal[
    "threshold",
    "heartbeat_seconds",
    "lease_seconds",
    "fencing",
    "max_lag",
    "synchronous",
    "preempt",
    "hold_down_seconds",
    "service",
    "failover_seconds",
]
"""What an operator can set of a group, by its name."""

GROUP_SETTINGS: Final[tuple[GroupSetting, ...]] = get_args(GroupSetting)
POSITION_BITS: Final = 63
"""How far a copy reaches is a whole number of at most so many bits, from 0 on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberState:
    """A member. `active`: it can take over; `recovering`: it is heard and has not said that it is ready; `failed` and `inactive`
    (nobody runs it), with `why`. `suspect`: what checks of its instance say against it; `position`: how far its copy reached when
    it last said so, in units of its own; `since`: when its status last changed. `fences`: it can fence a primary that is not
    heard.
    """

    member: str
    role: Role | str
    status: MemberStatus | str
    priority: int
    address: str
    incarnation: int
    why: str
    suspect: str | None
    position: int | None
    # None: it has not been seen yet.
    since: datetime | None
    fences: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState:
    """A group. `primary`: who leads (None: nobody), with `epoch`, the fencing token, and at `address`; `serving`: it has said so.
    `fenced`: it is to stop, and a failover waits for that. `since`: since when it leads, or nobody does; `ended`: how the last
    primary's end was proven (`said`, `seen`, `lease`, `hook`). `degraded`: what is amiss, in a sentence (None: nothing).

    `failover` is the saga under way; `paused`: failovers begin only when an operator asks. `lease_seconds` is the lease of this
    epoch's primary. `in_sync`: the members that acknowledgements rest on, where the group keeps such a set.
    `failover_seconds`: how long a failover may leave the group without a primary, before it turns back. `incarnation`: that of
    the primary's process; `fencer`: the member that is to fence it, because it is not heard.
    """

    group: str
    primary: str | None
    address: str | None
    epoch: int
    serving: bool
    # Flat, and not `primary` with parts: rows of a watch are compared and filtered by fields.
    fenced: bool
    since: datetime | None
    ended: str | None
    degraded: str | None
    paused: bool
    failover: str | None
    members: tuple[MemberState, ...]
    in_sync: tuple[str, ...]
    in_sync_version: int
    threshold: int
    heartbeat_seconds: float
    lease_seconds: float
    fencing: str
    max_lag: int | None
    synchronous: bool
    preempt: bool
    hold_down_seconds: float
    service: str | None
    version: int
    # With a default, as all that came later: a controller of before does not say it.
    failover_seconds: float = 30.0
    incarnation: int | None = None
    fencer: str | None = None


GROUPS: Final = ReadModel(name="groups", item=GroupState, key=("group",), watched=True)

EPOCH_HEADER: Final = "Muster-Epoch"
"""The header that tells a primary, and what it writes to, of which epoch the primary is that is meant."""
