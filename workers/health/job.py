"""One check of one instance, as the checker runs it again and again."""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from sys import intern
from typing import Final
from urllib.parse import urlsplit

from domain.registry.instance import Instance
from domain.registry.service import ObserveCheck
from muster.wire.registry.check import Health, HttpCheck, TcpCheck, asks_the_same, timeout_seconds_max
from workers.health.probe import ProbeResult
from workers.health.streak import Streak, after

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
    was found out.
    """

    __slots__ = (
        "address",
        "at",
        "check",
        "due",
        "duration_seconds",
        "gone",
        "heard_at",
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
        self.address = instance.spec.address
        self.known: Health = instance.checks[check.name].status
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

    def asks_as(self, before: "Job") -> bool:
        """Whether the job before asked the same of the same incarnation, with other settings."""
        return self.incarnation == before.incarnation and asks_the_same(self.check, before.check)

    def go_on_from(self, before: "Job") -> None:
        """Take over what the job before has found."""
        self.streak, self.text, self.at = before.streak, before.text, before.at
        self.duration_seconds, self.success = before.duration_seconds, before.success
        self.quick, self.heard_at = before.quick, before.heard_at

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

    def news(self) -> ObserveCheck | None:
        """The status to be recorded; None when the log has it already, or when the newest result disagrees with it."""
        if self.streak.status == self.known or self.success != (self.streak.status == "healthy"):
            return None
        return ObserveCheck(
            instance=self.instance_id,
            incarnation=self.incarnation,
            check=self.check.name,
            status=self.streak.status,
            cause=self.text,
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
