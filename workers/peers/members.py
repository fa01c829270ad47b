"""Which controllers are alive, and which of them should write which partition. Pure, and only a hint: the log decides.

Each controller sends a sign of life every 150 ms. Silence is measured against the newest sign of our own that came back:
while the broker is away no sign comes, so no controller is taken for dead. Partitions go to live controllers by rendezvous
hashing (Thaler and Ravishankar, 1996): when one dies, only its partitions move.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from muster.wire.controllers import LiveController, controllers_max

silent_seconds: Final = 0.6
settle_seconds: Final = 0.4


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """A controller: its name, unique per start, and the address of its HTTP API."""

    name: str
    url: str


class Members:
    """The live controllers, as far as `self_` can tell. Instants are seconds on the monotonic clock."""

    def __init__(self, self_: Member) -> None:
        self.self_ = self_
        self._heard: dict[Member, tuple[float, bool]] = {}
        self._joined_at: float | None = None
        self._owners: dict[int, Member | None] = {}

    def heard(self, member: Member, now: float, *, ready: bool) -> None:
        """A sign of life arrived. Only a controller that is ready may own partitions."""
        self._heard[member] = (now, ready)
        self._owners.clear()
        if member == self.self_ and self._joined_at is None:
            self._joined_at = now

    def gone(self, member: Member) -> None:
        """The member has left, or its process has closed its sockets."""
        if member != self.self_:
            self._heard.pop(member, None)
            self._owners.clear()

    def settled(self, now: float) -> bool:
        """Whether we have listened long enough to have heard every live controller."""
        return self._joined_at is not None and now - self._joined_at >= settle_seconds

    def live(self) -> list[Member]:
        """The live controllers, by name."""
        newest, _ = self._heard.get(self.self_, (None, False))
        if newest is None:
            return []
        return sorted(m for m, (at, _) in self._heard.items() if newest - at <= silent_seconds)

    def named(self) -> tuple[LiveController, ...]:
        """The live controllers, as clients are told of them; a topic that is flooded with names makes no answer longer."""
        live = self.live()[:controllers_max]
        return tuple(LiveController(controller=member.name, url=member.url) for member in live)

    def owner(self, partition: int) -> Member | None:
        """The controller that should write the partition, one that is live and ready; None: there is none."""
        if partition not in self._owners:
            # Kept, because every command asks for it; it can change only when a controller is heard or is gone.
            ready = (member for member in self.live() if self._heard[member][1])
            heaviest = max(ready, key=lambda member: _weight(member.name, partition), default=None)
            self._owners[partition] = heaviest
        return self._owners[partition]


def _weight(name: str, partition: int) -> bytes:
    return sha256(f"{name}/{partition}".encode()).digest()
