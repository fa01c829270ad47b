"""Clients that are the real picker, before instances that are queues: a simulation of discrete events, the same for a seed.

An instance has `workers` servers over one queue, and takes times that are spread lognormally. It may be slow, fail at once,
never answer, or turn away at once what does not fit into its queue. Calls come at random (Poisson), each to a random client.
"""

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from muster import MusterError, NoAvailableInstances, Priority, ResourceExhausted
from muster.balance.fleet import Candidate, Fleet
from muster.balance.limit import SHARES
from muster.balance.picker import CallOutcome, Picker
from muster.wire.registry.traffic import TrafficSettings
from tests.muster.balance.instances import instance, snapshot

NETWORK_SECONDS = 0.0005
PRIORITIES: tuple[Priority, ...] = tuple(SHARES)
PRIORITY_WEIGHTS = (0.3, 0.4, 0.2, 0.1)


@dataclass
class Backend:
    """An instance; the times of slowness, failure and silence are half open."""

    workers: int = 4
    slow: Callable[[float], float] = lambda now: 1.0
    fails_from: float = math.inf
    hangs_from: float = math.inf
    waiting: float = math.inf
    free: list[float] = field(default_factory=list)
    queue: list[float] = field(default_factory=list)

    def ends(self, now: float, work: float) -> tuple[float, CallOutcome]:
        """When it answers a call that comes now, and how."""
        if now >= self.hangs_from:
            return math.inf, "failed"
        if now >= self.fails_from:
            return now + NETWORK_SECONDS, "failed"
        self.queue = [begins for begins in self.queue if begins > now]
        if len(self.queue) >= self.waiting:
            return now + NETWORK_SECONDS, "overloaded"
        if not self.free:
            self.free = [0.0] * self.workers
        begins = max(now, heappop(self.free))
        self.queue.append(begins)
        heappush(self.free, begins + work * self.slow(now))
        return begins + work * self.slow(now), "ok"


@dataclass(frozen=True)
class Call:
    """What became of a call that came at `at`. `seconds` until its caller knew; shed: it was refused."""

    at: float
    seconds: float
    priority: Priority
    outcome: CallOutcome | None
    instance: str = ""

    @property
    def is_good(self) -> bool:
        return self.outcome == "ok"


@dataclass
class World:
    """So many clients before these backends, with calls for `load(now)` of all that they can do."""

    backends: list[Backend]
    load: Callable[[float], float]
    clients: int = 20
    mean_seconds: float = 0.025
    timeout_seconds: float = 1.0
    seed: int = 1
    settings: dict[str, Any] = field(default_factory=dict)

    def run(self, seconds: float) -> list[Call]:
        """All calls, in the order in which they came to an end."""
        return list(self._calls(seconds))

    def _calls(self, seconds: float) -> Iterator[Call]:
        dice = random.Random(self.seed)
        self.pickers = [self._picker(number) for number in range(self.clients)]
        whole = sum(backend.workers for backend in self.backends) / self.mean_seconds
        ends: list[tuple[float, int, Picker, Candidate, float, Priority, CallOutcome]] = []
        now, number = 0.0, 0
        while now < seconds:
            now -= math.log(1 - dice.random()) / (whole * self.load(now))
            while ends and ends[0][0] <= now:
                yield self._ended(*heappop(ends))
            number += 1
            picker, [priority] = dice.choice(self.pickers), dice.choices(PRIORITIES, PRIORITY_WEIGHTS)
            try:
                candidate = picker.pick(priority, (), number, dice.random(), now)
            except (NoAvailableInstances, ResourceExhausted) as refusal:
                yield self._refused(now, priority, refusal)
                continue
            work = math.exp(dice.gauss(math.log(self.mean_seconds) - 0.125, 0.5))
            end, outcome = self._backend(candidate).ends(now + NETWORK_SECONDS, work)
            if end > now + self.timeout_seconds:
                end, outcome = now + self.timeout_seconds, "overloaded"
            heappush(ends, (end, number, picker, candidate, now, priority, outcome))

    def _ended(
        self,
        end: float,
        _: int,
        picker: Picker,
        candidate: Candidate,
        began: float,
        priority: Priority,
        outcome: CallOutcome,
    ) -> Call:
        picker.record(candidate, outcome, end - began, end)
        picker.end(candidate)
        return Call(began, end - began, priority, outcome, candidate.instance.instance)

    def _refused(self, now: float, priority: Priority, refusal: MusterError) -> Call:
        assert refusal.context
        return Call(now, 0.0, priority, None)

    def _picker(self, number: int) -> Picker:
        fleet = Fleet(f"client {number}")
        fleet.take(snapshot(*(instance(str(place)) for place in range(len(self.backends)))), 0.0)
        return Picker("users", fleet, TrafficSettings(**self.settings))

    def _backend(self, candidate: Candidate) -> Backend:
        return self.backends[int(candidate.instance.instance)]


def percentile(calls: list[Call], share: float) -> float:
    """Of the seconds of the calls."""
    return sorted(call.seconds for call in calls)[int(share * len(calls))]


def share(calls: list[Call], true: Callable[[Call], bool]) -> float:
    """How many of the calls are so, in per cent."""
    return 100 * sum(map(true, calls)) / len(calls)
