"""What instances say of their load with heartbeats over HTTP, summed up for each service; nothing of it outlives this process."""

import math
import time
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from muster.wire.telemetry.heartbeats import Beat, Heartbeats
from muster.wire.telemetry.loads import ServiceLoad

heard_seconds_max: Final = 30.0
"""What an instance said longer ago is no load of now."""

instances_max: Final = 200_000
_NEVER: Final = (-math.inf, Beat("", 0))


class HeardLoads:
    """The newest word of each instance, by service. `clock` gives seconds that only grow, `now` the instants that are told."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._clock, self._now = clock, now
        self._services: dict[str, dict[str, tuple[float, Beat]]] = {}
        self._instances = 0
        self._swept_at = clock()

    def hear(self, message: Heartbeats, refused: Collection[str]) -> None:
        """Take what the instances of the message say, but for those who were refused."""
        at = self._clock()
        if at - self._swept_at > heard_seconds_max:
            self._sweep(at)
        for beat in message.beats:
            # Most say nothing of their load, and those that were refused are not there.
            if not any(told is not None for told in beat[2:]) or beat.instance in refused:
                continue
            # Whoever is there already goes on being heard, however full it is.
            known = self._services.setdefault(message.service, {})
            if beat.instance not in known:
                if self._instances >= instances_max:
                    continue
                self._instances += 1
            known[beat.instance] = at, beat

    def services(self) -> Iterator[str]:
        """The services of which something was heard, and may be old by now."""
        return iter(self._services)

    def load(self, service: str) -> ServiceLoad | None:
        """What the instances of the service have to do, together; None: none of them says so now."""
        at = self._clock()
        # What is old is looked for here, since it is swept out only now and then.
        fresh = [told for told in self._services.get(service, {}).values() if at - told[0] <= heard_seconds_max]
        if not fresh:
            return None
        beats = [beat for _, beat in fresh]
        utilisations = [beat.utilisation for beat in beats if beat.utilisation is not None]
        return ServiceLoad(
            service=service,
            instances=len(beats),
            heard=len(beats),
            in_flight=_sum([beat.in_flight for beat in beats]),
            per_second=_sum([beat.per_second for beat in beats]),
            failures_per_second=_sum([beat.failures for beat in beats]),
            utilisation=round(sum(utilisations) / len(utilisations), 3) if utilisations else None,
            at=self._now() - timedelta(seconds=at - max(told for told, _ in fresh)),
        )

    def in_flight(self, service: str, instance: str, incarnation: int) -> float | None:
        """What this incarnation has said last of what it has in flight; None: nothing, now."""
        at, beat = self._services.get(service, {}).get(instance, _NEVER)
        is_it = beat.incarnation == incarnation and self._clock() - at <= heard_seconds_max
        return beat.in_flight if is_it else None

    def _sweep(self, at: float) -> None:
        """Forget what is old, so that instances that come and go under new names are not kept for ever."""
        self._swept_at = at
        kept = {
            service: {name: told for name, told in known.items() if at - told[0] <= heard_seconds_max}
            for service, known in self._services.items()
        }
        self._services = {service: known for service, known in kept.items() if known}
        self._instances = sum(map(len, self._services.values()))


def _sum(told: list[float | None]) -> float | None:
    known = [number for number in told if number is not None]
    return round(sum(known), 3) if known else None
