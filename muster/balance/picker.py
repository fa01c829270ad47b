"""All that decides about a call, put together: fleet, policy, limit, budget. Pure: clock and chance are arguments.

pick      refused by the limit, or one of the instances that are able; its call is under way from here on, so that an
          instance that does not even connect looks busy and not idle
record    what has become of it, once, with the time to its answer
end       the call is over: its body was read, or given up
"""

from collections import Counter
from collections.abc import Collection
from typing import Final, Literal, get_args

from muster.balance.budget import Budget
from muster.balance.fleet import Candidate, Fleet
from muster.balance.limit import Limit, Priority
from muster.balance.load import failure_seconds, mean_after, observed, observed_at_least
from muster.balance.policy import NOBODY, choose
from muster.wire.error import NoAvailableInstances, ResourceExhausted
from muster.wire.registry.traffic import TrafficSettings

CallOutcome = Literal["ok", "failed", "overloaded", "cancelled"]
"""What became of a call: an answer, also "no such thing" · a failure · one because there is too much · its caller gave up."""
OUTCOMES: Final[tuple[CallOutcome, ...]] = get_args(CallOutcome)

UNKNOWN_SECONDS: Final = 1.0
"""Stands for the latency of all while none is known: then the calls under way decide."""


class Picker:
    """Decides for the calls of one client to one service."""

    def __init__(self, service: str, fleet: Fleet, settings: TrafficSettings, failure_seconds: float = 1.0) -> None:
        self.service = service
        self.fleet = fleet
        self.settings = settings
        self.limit = Limit()
        self.budget = Budget()
        self.mean_seconds = 0.0
        self.shed: Counter[Priority] = Counter()
        self.picks = 0
        self.failures = 0
        self._failure_seconds = failure_seconds

    def set(self, settings: TrafficSettings) -> None:
        """Go by these from now on; calls under way are not touched."""
        before, self.settings = self.settings, settings
        if before.policy != settings.policy:
            # An order by calls under way was told of none that ended while another policy held.
            self.fleet.refresh()
        if not settings.limit:
            self.limit.lift()

    def pick(self, priority: Priority, avoid: Collection[str], turn: int, chance: float, now: float) -> Candidate:
        """The instance that takes the call. Raises ResourceExhausted and NoAvailableInstances; nothing has begun then."""
        settings, limit = self.settings, self.limit
        # Before anything else: a call that is refused must cost next to nothing, or refusing would not help.
        if limit.in_flight >= settings.in_flight_max or not limit.admits(priority, now):
            raise self._shed(priority)
        able, unknown = self.fleet.choice(now), self.mean_seconds or UNKNOWN_SECONDS
        others = self.fleet.places(avoid) if avoid else NOBODY
        place = choose(settings.policy, able, turn, chance, now, unknown, settings.slow_start_seconds, others)
        if place < 0:
            raise self._nobody(avoid, now)
        candidate = self.fleet.able[place]
        # Counted from here and not from the connection: who hangs while connecting must not look idle.
        candidate.load.in_flight += 1
        candidate.picks += 1
        self.picks += 1
        limit.in_flight += 1
        return candidate

    def record(
        self, candidate: Candidate, outcome: CallOutcome, seconds: float, now: float, timed: bool = True
    ) -> None:
        """What has become of the call after so many seconds; not `timed`: its length says nothing about the instance."""
        load = candidate.load
        if outcome == "cancelled":
            # Else a slow instance whose callers give up would never be found out.
            if timed:
                observed_at_least(load, seconds, now)
            return
        if outcome == "ok":
            load.failures_in_row = 0
            candidate.answers += 1
            candidate.failing = 0
            self.budget.earn(self.settings.retry_share, self.limit.in_flight)
            if timed:
                self.mean_seconds = mean_after(self.mean_seconds, seconds)
                observed(load, seconds, now)
                candidate.answer_seconds += seconds
            else:
                candidate.untimed += 1
        else:
            self._failed(candidate, outcome, seconds, now)
        # A call whose caller gave up is no answer, so it was left above: it says nothing about what there is too much of.
        if self.settings.limit:
            self.limit.answered(outcome == "overloaded", now)

    def end(self, candidate: Candidate) -> None:
        """The call is over."""
        candidate.load.in_flight -= 1
        self.limit.in_flight -= 1
        if self.settings.policy == "least_connections":
            self.fleet.ended(candidate)

    def _failed(self, candidate: Candidate, outcome: CallOutcome, seconds: float, now: float) -> None:
        self.failures += 1
        candidate.failures += 1
        candidate.failing += 1
        load, settings = candidate.load, self.settings
        # Where there is too much, to leave one out that still answers makes it more for the others: that is the limit's.
        if outcome != "overloaded":
            load.failures_in_row += 1
        # What fails is quick. By its own latency it would be the cheapest of all, and draw the calls of everyone.
        observed(load, failure_seconds(seconds, self._failure_seconds, self.mean_seconds), now)
        if 0 < settings.eject_after <= load.failures_in_row:
            self.fleet.leave_out(candidate, now, settings.eject_seconds, settings.eject_after)

    def _shed(self, priority: Priority) -> ResourceExhausted:
        self.shed[priority] += 1
        limit, most = self.limit, float(self.settings.in_flight_max)
        under_way = float(limit.in_flight)
        if under_way < most:
            under_way, most = limit.mean, limit.allowed(priority)
        return ResourceExhausted(
            # In tenths: of a client that has few calls the limit is a fraction.
            f"{self.service}: {round(under_way, 1):g} calls are under way, and {round(most, 1):g} may be at priority {priority}",
            in_flight=limit.in_flight,
            limit=round(most),
            priority=priority,
        )

    def _nobody(self, avoid: Collection[str], now: float) -> NoAvailableInstances:
        registered, healthy, wanted, ejected = self.fleet.counts(now)
        others = " but those that were tried" if avoid else ""
        counts = f"{registered} registered, {healthy} healthy, {wanted} discoverable with a weight, {ejected} left out"
        return NoAvailableInstances(
            f"{self.service}: no instance can take a call{others}; {counts}",
            service=self.service,
            registered=registered,
            healthy=healthy,
            ejected=ejected,
        )
