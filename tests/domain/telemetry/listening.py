"""A partition of heartbeats that is told what happens, second by second: given these instances, when nothing is heard, then …"""

from dataclasses import dataclass, field
from typing import Self

from domain.message import Event
from domain.registry.instance import InstanceRegistered
from domain.telemetry.finding import Suspicion
from domain.telemetry.partition import BeatsPartition
from muster.wire.registry.spec import Spec
from muster.wire.telemetry.heartbeats import Beat, Heartbeats
from muster.wire.telemetry.loads import ClientsWord
from muster.wire.telemetry.observations import Observation, Observations
from tests.sample import recorded, spec

BEGAN_MS = 1_800_000_000_000


@dataclass
class Listening:
    """`at` is the second of the partition, from its beginning; the log's events have no part in it."""

    at: float = 0.0
    partition: BeatsPartition = field(default_factory=BeatsPartition)
    found: list[tuple[float, Suspicion]] = field(default_factory=list)
    position: int = 0

    @property
    def now_ms(self) -> int:
        return BEGAN_MS + round(self.at * 1000)

    def event(self, event: Event, service: str = "orders") -> Self:
        self.partition.learn(recorded(event, self.position, self.position)._replace(stream=f"service/{service}"))
        self.position += 1
        return self

    def registered(self, *names: str, incarnation: int = 0, **fields: object) -> Self:
        what: Spec = spec(**{"heartbeats": "topic", **fields})
        for name in names:
            health = "unknown" if what.checks else "healthy"
            self.event(InstanceRegistered(instance=name, incarnation=incarnation, spec=what, health=health))
        return self

    def opened(self) -> Self:
        self.partition.open()
        return self

    def beats(self, *names: str, incarnation: int = 0, service: str = "orders", in_flight: float | None = None) -> Self:
        told = Heartbeats("host", service, [Beat(name, incarnation, in_flight) for name in names])
        self.found += [(self.at, one) for one in self.partition.beats(self.now_ms, told)]
        return self

    def observed(self, host: str, *names: str, failing: int = 0, service: str = "orders") -> Self:
        """A client on this host has called these, ten times each; so many calls in a row have failed up to now."""
        seen = [Observation(name, 0, 10, min(failing, 10), failing, 0.02) for name in names]
        self.partition.observed(self.now_ms, Observations(f"on-{host}", service, 5.0, seen, host))
        return self

    def tick(self) -> Self:
        self.found += [(self.at, one) for one in self.partition.tick(self.now_ms)]
        return self

    def passes(self, seconds: float, *beating: str, every: float = 0.1) -> Self:
        """So much time passes, with ticks; those named beat once a second."""
        end, beat_at = self.at + seconds, self.at + 1.0
        while self.at < end - 1e-9:
            self.at = round(self.at + every, 3)
            if beating and self.at >= beat_at - 1e-9:
                self.beats(*beating)
                beat_at += 1.0
            self.tick()
        return self

    def jumps(self, seconds: float) -> Self:
        """So much time passes in which nothing is recorded."""
        self.at = round(self.at + seconds, 3)
        return self.tick()

    @property
    def silent(self) -> dict[str, float]:
        """Who was found silent, and when first."""
        told: dict[str, float] = {}
        for at, one in self.found:
            if one.silent:
                told.setdefault(one.instance, at)
        return told

    @property
    def suspected(self) -> tuple[ClientsWord, ...]:
        """What the row of the service says of suspects."""
        (row,) = self.partition.loads()
        return row.suspected
