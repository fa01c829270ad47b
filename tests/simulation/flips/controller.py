"""A controller in the simulation that checks the instances of a service while it writes, over a way that can be cut.

Its machine has a clock that is set now and then, rightly or not; the controller reads it as a real one does (`SteadyClock`).
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final

from domain.registry.observation import ObserveCheck
from infra.steady_clock import SteadyClock, jump_seconds_min
from muster.wire.registry.check import TtlCheck
from muster.wire.stream import service_stream
from tests.infra.sqlite.simulated import Disk
from tests.sample import NOON
from tests.simulation.broker import Broker
from tests.simulation.controller import Controller, Store
from workers.writer.observer import ChangedItem

SERVICE: Final = "fleet"
STREAM: Final = service_stream(SERVICE)
window_seconds: Final = 6.0
skew_seconds: Final = 0.4
tick_seconds: Final = 0.05
Key = tuple[str, int, str]
"""An instance, its incarnation, and one of its checks."""


class FleetController(Controller):
    """Finds out how each instance is, an interval apart, by `reaches` (its own name, an instance); from its reign's beginning on.

    Its checks are those of the real checker in what reaches the writer: who is known to be healthy or ill is asked somewhere in
    its first interval, a result is told again until the log has it, and nothing outlives the reign.
    """

    def __init__(
        self,
        name: str,
        broker: Broker | Disk,
        store: Store,
        chance: Random,
        reaches: Callable[[str, str], bool],
        **how: Any,
    ) -> None:
        super().__init__(name, broker, store, chance, **how)
        self._reaches = reaches
        self._due: dict[Key, float] = {}
        self._off_seconds = chance.uniform(-skew_seconds, skew_seconds)
        self.reigns = False

    async def start(self, *, from_snapshot: bool) -> None:
        """A new process: it believes the clock of its machine, whatever that says."""
        self._clock, self.reigns = SteadyClock(self._machine, asyncio.get_running_loop().time), False
        await super().start(from_snapshot=from_snapshot)
        self.writer.observers.append(self)
        self._checking = asyncio.create_task(self._check_fleet())

    async def crash(self) -> None:
        """SIGKILL."""
        self._checking.cancel()
        await super().crash()

    async def stop(self) -> None:
        """SIGTERM."""
        await super().stop()
        self._checking.cancel()

    def set_clock(self) -> None:
        """The clock of its machine is set: right but for a little, off by less than a jump, or by up to two hours."""
        far = self._chance.choice([skew_seconds, skew_seconds, 0.9 * jump_seconds_min, 7_200.0])
        self._off_seconds = self._chance.uniform(-far, far)

    @property
    def is_right(self) -> bool:
        """Whether its events get the right instants, but for a little."""
        off = self._now() - NOON - timedelta(seconds=asyncio.get_running_loop().time())
        return abs(off.total_seconds()) <= skew_seconds

    def _machine(self) -> datetime:
        return NOON + timedelta(seconds=asyncio.get_running_loop().time() + self._off_seconds)

    def _now(self) -> datetime:
        return self._clock.now()

    # As a `ReignObserver`

    def began(self, streams: dict[str, Any]) -> None:
        """Check from now on."""
        self.reigns = True

    def changed(self, items: Sequence[ChangedItem]) -> None:
        """The views have it already."""

    def ended(self) -> None:
        """Check nobody."""
        self.reigns = False
        self._due.clear()

    async def _check_fleet(self) -> None:
        while True:
            await asyncio.sleep(tick_seconds)
            if self.reigns:
                self._check_who_is_due(asyncio.get_running_loop().time())

    def _check_who_is_due(self, now: float) -> None:
        due: dict[Key, float] = {}
        for instance in self.views.instances.get(SERVICE, {}).values():
            for check in instance.spec.checks:
                if isinstance(check, TtlCheck):
                    continue
                key, interval = (instance.id, instance.incarnation, check.name), check.interval_seconds
                due[key] = self._due.get(key, now + self._chance.uniform(0, interval))
                if due[key] > now:
                    continue
                due[key] += interval
                status = "healthy" if self._reaches(self.name, instance.id) else "unhealthy"
                if status != instance.checks[check.name].status:
                    self.writer.observe(STREAM, self._seen(key, status))
        self._due = due

    def _seen(self, key: Key, status: Any) -> ObserveCheck:
        instance, incarnation, check = key
        return ObserveCheck(
            instance=instance,
            incarnation=incarnation,
            check=check,
            status=status,
            at=self._now(),
            mass_flip_seconds=window_seconds,
        )
