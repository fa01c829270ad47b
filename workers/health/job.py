"""One check of one instance, as the checker runs it again and again."""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from sys import intern
from typing import Final
from urllib.parse import urlsplit

from domain.registry.instance import Instance
from domain.registry.observation import ObserveCheck
from muster.wire.registry.check import Health, HttpCheck, TcpCheck, asks_the_same, timeout_seconds_max
from workers.health.probe import ProbeResult
from workers.health.streak import Flaps, Streak, after, fallen, hold_seconds_max

OVERDUE_GRACE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class CheckOutput:
    """The output of a check's last run: `text` up to 1024 characters, `at` in UTC, how long it took, and its result."""

    text: str
    at: datetime
    duration_seconds: float
    success: bool


class Job:
    """One check of one incarnation: when it is due, its streak of results, and its newest output.

    `known` is the status in the log; `kept`: it may keep its connection; `postponed`: it missed its turn after a stop;
    `target` is who is asked, host and port; `quick`: its last run was; `heard_at` is the monotonic instant since when nothing
    was found out. `flaps` are its falls, with the newest one if it is `falling`: told, and not in the log yet.
    """

    __slots__ = (
        "address",
        "at",
        "check",
        "due",
        "duration_seconds",
        "falling",
        "flaps",
        "gone",
        "heard_at",
        "hold_seconds_max",
        "incarnation",
        "instance_id",
        "kept",
        "known",
        "postponed",
        "quick",
        "runs",
        "streak",
        "stream",
        "success",
        "target",
        "task",
        "text",
    )

    def __init__(self, stream: str, instance: Instance, check: HttpCheck | TcpCheck) -> None:
        self.stream = stream
        self.instance_id = instance.id
        self.incarnation = instance.incarnation
        self.check = check
        self.flaps, self.falling = Flaps(), False
        self.known = _status(instance, check)
        self.learn(instance)
        self.streak = Streak(self.known)
        self.target = intern(
            f"{check.host}:{check.port}" if isinstance(check, TcpCheck) else urlsplit(check.url).netloc
        )
        # After a restart too, those who serve must not wait behind those who do not.
        self.quick = self.known == "healthy"
        self.heard_at = time.monotonic()
        self.due = 0.0
        self.kept = False
        self.postponed = False
        self.gone = False
        self.runs = 0
        self.task: asyncio.Task[None] | None = None
        self.text: str | None = None
        self.at = 0.0
        self.duration_seconds = 0.0
        self.success = False

    def is_for(self, instance: Instance, check: HttpCheck | TcpCheck) -> bool:
        """Whether this job runs the check for this incarnation of the instance."""
        return self.incarnation == instance.incarnation and (self.check is check or self.check == check)

    def learn(self, instance: Instance) -> None:
        """Take over what the log says of the instance now."""
        self.address = instance.spec.address
        known = _status(instance, self.check)
        if known != self.known:
            self.known, self.falling = known, False
        # Who is removed after so long an illness must not be removed because its recovery was held.
        removed_after = instance.spec.deregister_after_seconds
        self.hold_seconds_max = hold_seconds_max if removed_after is None else removed_after / 2

    def asks_as(self, before: "Job") -> bool:
        """Whether the job before asked the same of the same incarnation, with other settings."""
        return self.incarnation == before.incarnation and asks_the_same(self.check, before.check)

    def go_on_from(self, before: "Job") -> None:
        """Take over what the job before has found."""
        self.streak, self.text, self.at = before.streak, before.text, before.at
        self.duration_seconds, self.success = before.duration_seconds, before.success
        self.quick, self.heard_at = before.quick, before.heard_at
        self.flaps, self.falling = before.flaps, before.falling

    def take(self, result: ProbeResult, duration_seconds: float) -> None:
        """Keep the output, and add the result to the streak. The result must say something about the instance."""
        assert result.success is not None
        self.text, self.at, self.heard_at = result.text, time.time(), time.monotonic()
        self.duration_seconds, self.success = duration_seconds, result.success
        check = self.check
        self.streak = after(
            self.streak,
            success=result.success,
            healthy_after=check.healthy_after,
            unhealthy_after=check.unhealthy_after,
        )

    def news(self, at: datetime, mass_flip_seconds: float = 0.0) -> ObserveCheck | None:
        """The status to be recorded; None when the log has it already, when the newest result disagrees with it, or while it is
        the recovery of a check that flaps. `at`, `mass_flip_seconds`: see `ObserveCheck`.
        """
        now, cause = time.monotonic(), self.text
        if self.streak.status == self.known or self.success != (self.streak.status == "healthy"):
            return None
        if self.streak.status == "healthy" and self.flaps.holds(now):
            return None
        if self.streak.status == "unhealthy" and self.known == "healthy":
            # It is told again at each result until the log has it, and counts once.
            if not self.falling:
                self.flaps, self.falling = fallen(self.flaps, now, self.hold_seconds_max), True
            cause = self.flaps.told(cause)
        return ObserveCheck(
            instance=self.instance_id,
            incarnation=self.incarnation,
            check=self.check.name,
            status=self.streak.status,
            cause=cause,
            at=at,
            mass_flip_seconds=mass_flip_seconds,
        )

    @property
    def overdue_seconds(self) -> float | None:
        """How long nothing was found out, if that is longer than the check allows; None: it is not."""
        silent = time.monotonic() - self.heard_at
        allowed = self.check.interval_seconds + timeout_seconds_max(self.check) + OVERDUE_GRACE_SECONDS
        return silent if silent > allowed else None

    def output(self) -> CheckOutput | None:
        """The newest output; None before the first result."""
        if self.text is None:
            return None
        return CheckOutput(self.text, datetime.fromtimestamp(self.at, UTC), self.duration_seconds, self.success)


def _status(instance: Instance, check: HttpCheck | TcpCheck) -> Health:
    return instance.checks[check.name].status
