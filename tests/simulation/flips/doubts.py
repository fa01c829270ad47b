"""What must be so of checks that fail together, told by the events of a service alone, and by nothing of what decides them."""

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from domain.message import Recorded
from domain.registry import instance as e
from domain.registry.doubt.event import InstanceChecksBelieved, InstanceChecksDisputed, InstanceSeenAnswering
from muster.wire.registry.check import Health
from tests.simulation.flips.controller import skew_seconds, window_seconds

TOGETHER: Final = timedelta(seconds=2.0)
SKEWS: Final = 2 * skew_seconds + 0.01
"""By so much the clocks of two controllers can be apart."""

ROUGH: Final = 10.0
"""By so much, beside the time in which nobody could write, it may last longer: batches get lost, or come late."""

UNREAD: Final = 0.2
"""So long an event may stand in the log before it is read here."""

look_seconds: Final = 3.5
"""So long who takes over has to look for itself: for an interval of the checks, their timeout, and a second."""


@dataclass
class Seen:
    """An instance as its events tell it. `fell_at`: it was healthy, and became ill by an own check; `alone`: and nobody but the
    controller's checks has said so, or has ended a doubt about it, since then.

    `doubted_at`: when it came to be in doubt, by its event; `since`: the same in seconds that have passed. `idle_seconds`: for
    how long nobody had been able to write until then. `taken_over`: how often somebody has since; `logged_seconds`: how much of
    the doubt the events had seen pass when the last one did. `misled`: a clock was wrong meanwhile.
    """

    own: Set[str]
    health: Health
    checks: dict[str, Health] = field(default_factory=dict)
    fell_at: datetime | None = None
    alone: bool = False
    doubted_at: datetime | None = None
    since: float = 0.0
    idle_seconds: float = 0.0
    taken_over: int = 0
    logged_seconds: float = 0.0
    misled: bool = False

    @property
    def ill(self) -> set[str]:
        """The checks that say that it is."""
        return {name for name, status in self.checks.items() if status == "unhealthy"}


class Doubts:
    """Takes the events of a service in their order. Raises AssertionError where a rule is broken."""

    def __init__(self) -> None:
        self.instances: dict[str, Seen] = {}
        self.told: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.idle_seconds = 0.0
        self._now = self._reigns_since = 0.0
        self._misled = False

    def forgotten(self) -> None:
        """A controller has been started anew: what fell before is not counted together with what falls now."""
        for seen in self.instances.values():
            seen.fell_at = None

    def taken_over(self, now: float, newest: datetime) -> None:
        """A term begins, behind the newest event that there is."""
        self._reigns_since = now
        for seen in self.instances.values():
            if seen.doubted_at is not None:
                seen.taken_over += 1
                seen.logged_seconds = (newest - seen.doubted_at).total_seconds()

    def clocks(self, *, right: bool) -> None:
        """Wrong: the clock of somebody who may write is, or was, and the log still goes by it."""
        self._misled = not right
        for seen in self.instances.values():
            seen.misled = seen.misled or self._misled

    def take(self, recorded: Sequence[Recorded], now: float) -> None:
        """The events that are new; `now` is how many seconds have passed, but for those in which all stood still."""
        self._now = now
        for _, group in groupby(recorded, key=lambda told: told.command_id):
            before = self.is_doubted
            events = list(group)
            fell = [told.event.instance for told in events if self._follow(told)]
            if fell:
                self._is_served(events[-1].at)
            for name in fell:
                assert not before or self.instances[name].doubted_at, f"{name} has fallen while others were in doubt"
            for name, seen in self.instances.items():
                assert not (seen.doubted_at and seen.ill - seen.own), (
                    f"{name} is in doubt, and others say that it is ill"
                )

    @property
    def is_doubted(self) -> bool:
        """Whether anybody is in doubt."""
        return any(seen.doubted_at is not None for seen in self.instances.values())

    def _healthy(self) -> int:
        return sum(seen.health == "healthy" for seen in self.instances.values())

    def _follow(self, told: Recorded) -> bool:
        """Take in an event; whether an instance has fallen by a check of the controller's own."""
        event = told.event
        if isinstance(event, e.InstanceRegistered):
            own = {check.name for check in event.spec.checks if check.kind != "ttl"}
            self.instances[event.instance] = Seen(own, event.health)
            return False
        seen = self.instances[event.instance]
        match event:
            case e.InstanceHealthChanged():
                return self._health(seen, event, told.at)
            case e.InstanceCheckChanged():
                seen.checks[event.check] = event.to
                seen.alone = seen.alone and (event.to != "unhealthy" or event.check in seen.own)
            case e.InstanceChecksChanged():
                seen.own = {check.name for check in event.checks if check.kind != "ttl"}
                seen.alone = False
            case InstanceChecksDisputed():
                self._disputed(seen, event, told.at)
            case InstanceSeenAnswering():
                self.counts["seen answering"] += 1
                assert seen.doubted_at is not None, f"{event}, who is not in doubt"
            case InstanceChecksBelieved():
                self._believed(seen, event, told)
            case e.InstanceDeregistered():
                assert event.cause != "unhealthy_too_long" or seen.doubted_at is None, f"{event} while it is in doubt"
                del self.instances[event.instance]
        return False

    def _health(self, seen: Seen, event: e.InstanceHealthChanged, at: datetime) -> bool:
        if event.check is not None and event.check_status is not None:
            seen.checks[event.check] = event.check_status
        fell = event.was == "healthy" and event.to == "unhealthy" and event.check in seen.own
        seen.fell_at, seen.alone = (at, True) if fell else (None, False)
        seen.health = event.to
        if event.to != "unhealthy":
            self.counts["well again in doubt"] += seen.doubted_at is not None
            seen.doubted_at = None
        return fell

    def _disputed(self, seen: Seen, event: InstanceChecksDisputed, at: datetime) -> None:
        self.counts["disputed"] += 1
        assert seen.doubted_at is None, f"{event}, who is in doubt already"
        assert self.is_doubted or (event.fallen >= 3 and event.fallen > event.healthy), f"{event}: these are not most"
        seen.doubted_at, seen.since, seen.idle_seconds = at, self._now, self.idle_seconds
        seen.taken_over, seen.misled = 0, self._misled

    def _believed(self, seen: Seen, event: InstanceChecksBelieved, told: Recorded) -> None:
        assert seen.doubted_at is not None, f"{event}, who is not in doubt"
        self.counts[f"believed: {event.because}"] += 1
        match event.because:
            case "time":
                self._time_is_over(seen, f"{event}, {seen}", (told.at - seen.doubted_at).total_seconds())
            case "reported":
                assert seen.ill - seen.own, f"{event}, and only {seen.ill} say so"
            case "observed":
                assert event.failing >= 3, f"{event} by the word of fewer than three hosts of four"
            case "told":
                assert told.command_id in self.told, f"{event}, and no operator has"
        seen.doubted_at, seen.alone = None, False

    def _time_is_over(self, seen: Seen, what: str, logged: float) -> None:
        lasted, idle = self._now - seen.since, self.idle_seconds - seen.idle_seconds
        what = f"{what} after {lasted:.1f} s, {idle:.1f} of them idle, {logged:.1f} by the log"
        if seen.taken_over:
            # Who takes over looks first. That at most doubles the time, as far as events tell how much of it has passed.
            look = min(look_seconds, 2 * window_seconds - seen.logged_seconds)
            assert self._now - self._reigns_since >= look - UNREAD, f"{what}: nobody has looked"
        else:
            assert lasted >= window_seconds - UNREAD, what
        # Whatever clocks say, who takes over gives it its whole length again at most.
        most = (1 + seen.taken_over) * window_seconds
        if not seen.misled:
            self.counts["believed in time"] += 1
            assert max(lasted, logged) >= window_seconds - SKEWS, what
            most = min(most, 2 * window_seconds)
        assert lasted - idle <= most + ROUGH, what

    def _is_served(self, at: datetime) -> None:
        """Behind a fall: if most have fallen within two seconds, by the controller's own checks alone, all of them are served."""
        fallen = {name: seen for name, seen in self.instances.items() if seen.fell_at and seen.fell_at >= at - TOGETHER}
        fallen = {name: seen for name, seen in fallen.items() if seen.alone}
        left = self._healthy()
        if len(fallen) < 3 or len(fallen) <= left:
            return
        self.counts["most fell together"] += 1
        out = [name for name, seen in fallen.items() if seen.doubted_at is None]
        assert not out, f"{out} are out by the controller's own checks alone: {len(fallen)} fell, {left} are left"
