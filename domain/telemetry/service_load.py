"""A service as telemetry sees it: its instances, and what they have to do."""

from collections.abc import Sequence
from datetime import UTC, datetime

from domain.message import Event
from domain.registry.doubt.event import InstanceChecksBelieved, InstanceChecksDisputed
from domain.registry.instance import InstanceHealthChanged
from domain.telemetry.partition_time import PartitionTime
from domain.telemetry.watched import NEVER, WatchedInstance
from domain.telemetry.window import Window
from muster.wire.telemetry.heartbeats import Beat
from muster.wire.telemetry.loads import ServiceLoad


class WatchedService:
    """The instances by name, and sums over those that were heard in the last 30 s."""

    __slots__ = ("_in_flight", "_saying", "_window", "counted", "doubted", "instances")

    def __init__(self) -> None:
        self.instances: dict[str, WatchedInstance] = {}
        # Whose checks are in doubt, and the second of the partition since which that is known.
        self.doubted: dict[str, float] = {}
        self.counted = 0
        self._window = Window()
        self._in_flight = 0.0
        self._saying = 0

    def hear(self, beats: Sequence[Beat], now: float, recorded_ms: int) -> list[WatchedInstance]:
        """Take in the beats of a message; those of the instances that are to be looked at: not counted yet, or not well."""
        instances, found = self.instances, []
        # Written out, since nothing else runs so often: 100,000 times a second in one worker.
        rates, failed, used, rate, failures, utilisation = 0, 0, 0, 0.0, 0.0, 0.0
        for beat in beats:
            name, incarnation, in_flight, per_second, per_second_failed, share = beat
            watched = instances.get(name)
            # An incarnation that telemetry has not read of yet is heard the next time; one that is over, never again.
            if watched is None or watched.incarnation != incarnation or not watched.topic:
                continue
            watched.heard, watched.heard_ms, watched.told = now, recorded_ms, NEVER
            if in_flight != watched.in_flight:
                self.in_flight(watched, in_flight)
            if per_second is not None:
                rates, rate = rates + 1, rate + per_second
            if per_second_failed is not None:
                failed, failures = failed + 1, failures + per_second_failed
            if share is not None:
                used, utilisation = used + 1, utilisation + share
            if watched.unwell or not watched.counted:
                found.append(watched)
        self._window.add(now, (rates, failed, used), (rate, failures, utilisation))
        return found

    def count(self, watched: WatchedInstance) -> None:
        """The instance is among those that are heard."""
        watched.counted = True
        self.counted += 1

    def uncount(self, watched: WatchedInstance) -> None:
        """The instance was not heard for the length of the window, or is gone: it has nothing to do any more."""
        if watched.counted:
            watched.counted = False
            self.counted -= 1
            self.in_flight(watched, None)

    def in_flight(self, watched: WatchedInstance, told: float | None) -> None:
        """What the instance says that it has in flight; None: it does not say."""
        before = watched.in_flight
        if told != before:
            self._in_flight += (told or 0.0) - (before or 0.0)
            self._saying += (told is not None) - (before is not None)
            watched.in_flight = told

    def in_flight_of(self, name: str, incarnation: int) -> float | None:
        """What this incarnation says that it has in flight; None: it does not say, or is not there."""
        watched = self.instances.get(name)
        return watched.in_flight if watched is not None and watched.incarnation == incarnation else None

    def incarnation_of(self, name: str) -> int | None:
        """The incarnation of the instance that is there; None: there is none."""
        watched = self.instances.get(name)
        return None if watched is None else watched.incarnation

    def doubt(self, name: str, event: Event, now: float) -> None:
        """Take in what the event says of doubts about the instance's checks."""
        match event:
            case InstanceChecksDisputed():
                self.doubted.setdefault(name, now)
            case InstanceChecksBelieved():
                self.doubted.pop(name, None)
            # Whatever it is instead of ill, nobody has to be in doubt about it any more.
            case InstanceHealthChanged(to="healthy" | "unknown"):
                self.doubted.pop(name, None)

    def load(self, name: str, passed: PartitionTime) -> ServiceLoad:
        """What the service has to do now."""
        per_second, failures, utilisation = self._window.means(passed.elapsed)
        return ServiceLoad(
            service=name,
            instances=sum(watched.topic for watched in self.instances.values()),
            heard=self.counted,
            # Sums of many numbers that came and went are not exactly what they are once all have gone.
            in_flight=round(max(self._in_flight, 0.0), 3) if self._saying else None,
            per_second=_all(per_second, self.counted),
            failures_per_second=_all(failures, self.counted),
            utilisation=None if utilisation is None else round(utilisation, 3),
            at=datetime.fromtimestamp(passed.recorded_ms / 1000, UTC),
        )


def _all(mean: float | None, instances: int) -> float | None:
    """What all instances have together, when each has the mean."""
    return None if mean is None else round(mean * instances, 3)
