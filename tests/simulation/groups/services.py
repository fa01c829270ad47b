"""The service where the members are registered, in a partition of its own: its news reach the controller of the group late."""

from collections import deque
from datetime import timedelta
from random import Random
from typing import Final

from domain.registry.service import ClearMaintenance, InstanceCommand, RegisterInstance, ReportHealth, SetMaintenance
from muster.wire.command import Envelope
from muster.wire.registry.spec import Spec
from tests.machine import Machine
from tests.sample import NOON
from workers.machine.group import Folded
from workers.views.registry import Change, RegistryViews
from workers.views.table import AllParked

SERVICE: Final = "db"
STREAM: Final = f"service/{SERVICE}"


class Services(Machine):
    """Its instances are called like the members. `views` are what the controller of the group has seen of it."""

    def __init__(self, chance: Random, members: tuple[str, ...]) -> None:
        super().__init__()
        self.views = RegistryViews(AllParked())
        self._chance = chance
        self._asked = 0
        self._unseen: deque[tuple[float, list[Folded]]] = deque()
        for name in members:
            self._ask(RegisterInstance(instance=name, spec=Spec(address="10.0.0.7", port=5432)), 0.0)

    def looks(self, member: str, *, well: bool, now: float) -> None:
        """The checks of the member's instance come to this."""
        cause = None if well else "503"
        self._ask(ReportHealth(instance=member, status="healthy" if well else "unhealthy", cause=cause), now)

    def maintained(self, member: str, *, begins: bool, now: float) -> None:
        """An operator looks after the member's host."""
        self._ask((SetMaintenance if begins else ClearMaintenance)(instance=member), now)

    def news(self, now: float) -> list[Change]:
        """What the controller of the group sees by now."""
        changes: list[Change] = []
        while self._unseen and self._unseen[0][0] <= now:
            changes += self.views.apply(self._unseen.popleft()[1])[0]
        return changes

    def _ask(self, command: InstanceCommand, now: float) -> None:
        self._asked += 1
        self.group(Envelope(f"s{self._asked}", STREAM, command, "ann"), now=NOON + timedelta(seconds=now))
        # In order: a partition's news overtake each other no more than its records do.
        at_least = self._unseen[-1][0] if self._unseen else 0.0
        self._unseen.append((max(at_least, now + self._chance.choice([0.1, 0.1, 0.5, 2.0])), self.folded))
