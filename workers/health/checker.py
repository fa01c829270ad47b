"""Health checks of the instances in a writer's partition: when to ask whom, and when to say that a status changed.

    sync(instance) ──▶ one heap of due times ──tick──▶ runs in flight (limited) ──finding──▶ streak ──▶ observe

The log is the truth and the checker only proposes: `observe` is called when a streak has come to a status that is not
the one known from the log, and again at later results until `sync` brings a log that has followed. A result of an
instance that is gone, of an earlier incarnation or of a changed check is dropped. One loop serves all checks; a check
that waits for its turn is an entry in the heap, not a task.
"""

import asyncio
import heapq
import random
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Final

from domain.registry.instance import Instance
from domain.registry.service import ObserveCheck
from muster.wire.check import Health, HttpCheck, TcpCheck, TtlCheck
from workers.health.probe import LATE_SECONDS, Finding, Prober
from workers.health.streak import Streak, after

TICK_SECONDS: Final = 0.01
IDLE_SECONDS_MAX: Final = 0.05
FIRST_RESULT_SECONDS: Final = 1.0
FIRST_RUNS_PER_SECOND_MAX: Final = 500
KEPT_INTERVAL_SECONDS_MAX: Final = 12.0
RUNS_PER_CONNECTION: Final = 10
LATENESS_SAMPLES_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class CheckOutput:
    """What a check last said: `text` up to 1024 characters, `at` in UTC, how long the run took, and its result."""

    text: str
    at: datetime
    duration_seconds: float
    success: bool


@dataclass(frozen=True, slots=True)
class CheckerStats:
    """The checker's load: checks `scheduled` and `in_flight` now; runs `done` and `unjudged` since the start.

    `unjudged` runs say nothing about their instance; `unjudged_cause` is why the last one does not.
    `late_p99_seconds` is how late the newest 4,096 runs started, 99th percentile.
    """

    scheduled: int
    in_flight: int
    done: int
    unjudged: int
    unjudged_cause: str | None
    late_p99_seconds: float


class _Job:
    """One check of one incarnation: its schedule, its streak and its newest output."""

    __slots__ = (
        "at",
        "check",
        "due",
        "duration_seconds",
        "gone",
        "incarnation",
        "instance_id",
        "kept",
        "known",
        "postponed",
        "runs",
        "streak",
        "stream",
        "success",
        "task",
        "text",
    )

    def __init__(self, stream: str, instance: Instance, check: HttpCheck | TcpCheck) -> None:
        self.stream = stream
        self.instance_id = instance.id
        self.incarnation = instance.incarnation
        self.check = check
        self.known: Health = instance.checks[check.name].status
        self.streak = Streak(self.known)
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

    def of(self, instance: Instance, check: HttpCheck | TcpCheck) -> bool:
        """Whether it is this check of this incarnation."""
        return self.incarnation == instance.incarnation and (self.check is check or self.check == check)

    def found(self, finding: Finding, duration_seconds: float) -> None:
        """Keep the output and let the streak go on."""
        assert finding.success is not None
        self.text, self.at = finding.text, time.time()
        self.duration_seconds, self.success = duration_seconds, finding.success
        check = self.check
        self.streak = after(
            self.streak,
            success=finding.success,
            healthy_after=check.healthy_after,
            unhealthy_after=check.unhealthy_after,
        )

    def news(self) -> ObserveCheck | None:
        """What the log should hear: None when it knows, or when the newest result speaks against the streak."""
        if self.streak.status == self.known or self.success != (self.streak.status == "healthy"):
            return None
        return ObserveCheck(
            instance=self.instance_id,
            incarnation=self.incarnation,
            check=self.check.name,
            status=self.streak.status,
            cause=self.text,
        )


class Checker:
    """Runs the http and tcp checks of many instances; ttl checks are timers and none of its business.

    `observe(stream, command)` is called on the event loop and must not block. `in_flight_max` bounds the runs at one
    time: that many instances that never answer hold up the others until their timeouts. `connections_kept_max` bounds
    the https checks whose connection is kept for the next run; all others connect anew. `tls` is the client side's
    context for https; None trusts the system's certificate authorities.
    """

    def __init__(
        self,
        observe: Callable[[str, ObserveCheck], None],
        *,
        in_flight_max: int = 256,
        connections_kept_max: int = 256,
        tls: ssl.SSLContext | None = None,
        seed: int | None = None,
    ) -> None:
        self._observe = observe
        self._in_flight_max = in_flight_max
        self._kept_max = connections_kept_max
        self._tls = tls
        self._random = random.Random(seed)
        self._jobs: dict[tuple[str, str], dict[str, _Job]] = {}
        self._heap: list[tuple[float, int, _Job]] = []
        self._order = count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._scheduled = self._unstarted = self._kept = 0
        self._done = self._unjudged = 0
        self._unjudged_cause: str | None = None
        self._lateness: deque[float] = deque(maxlen=LATENESS_SAMPLES_MAX)

    def sync(self, stream: str, instance_id: str, instance: Instance | None) -> None:
        """Follow the log: `instance` as it is now, None when it is not registered. Cheap, and harmless when repeated.

        Unchanged checks keep their schedule and streak; changed ones and those of a new incarnation start anew.
        """
        before = self._jobs.pop((stream, instance_id), {})
        jobs: dict[str, _Job] = {}
        for check in instance.spec.checks if instance is not None else ():
            if instance is None or isinstance(check, TtlCheck):
                continue
            job = before.get(check.name)
            if job is not None and job.of(instance, check):
                job.known = instance.checks[check.name].status
                del before[check.name]
            else:
                job = self._add(_Job(stream, instance, check))
            jobs[check.name] = job
        for job in before.values():
            self._drop(job)
        if jobs:
            self._jobs[stream, instance_id] = jobs

    def output(self, stream: str, instance_id: str, check: str) -> CheckOutput | None:
        """What the check last said; None before its first result and for checks that are not run here."""
        job = self._jobs.get((stream, instance_id), {}).get(check)
        if job is None or job.text is None:
            return None
        return CheckOutput(job.text, datetime.fromtimestamp(job.at, UTC), job.duration_seconds, job.success)

    @property
    def stats(self) -> CheckerStats:
        """The load now."""
        lateness = sorted(self._lateness)
        return CheckerStats(
            scheduled=self._scheduled,
            in_flight=len(self._tasks),
            done=self._done,
            unjudged=self._unjudged,
            unjudged_cause=self._unjudged_cause,
            late_p99_seconds=lateness[len(lateness) * 99 // 100] if lateness else 0.0,
        )

    async def run(self) -> None:
        """Run checks until cancelled; runs in flight are then cancelled too."""
        async with Prober(self._tls) as prober:
            try:
                wake_at = 0.0  # What fell due before the start is as late as after a stop.
                while True:
                    now = time.monotonic()
                    self._start_due(prober, now, stalled=now - wake_at > LATE_SECONDS)
                    wake_at = time.monotonic() + self._pause_seconds()
                    await asyncio.sleep(wake_at - time.monotonic())
            finally:
                running = list(self._tasks)
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)

    def _pause_seconds(self) -> float:
        """Ticks are short enough to be on time and long enough to start several runs each."""
        if not self._heap:
            return IDLE_SECONDS_MAX
        return min(max(self._heap[0][0] - time.monotonic(), TICK_SECONDS), IDLE_SECONDS_MAX)

    def _start_due(self, prober: Prober, now: float, *, stalled: bool) -> None:
        heap = self._heap
        while heap and heap[0][0] <= now and len(self._tasks) < self._in_flight_max:
            due, _, job = heapq.heappop(heap)
            if job.gone:
                continue
            if stalled and not job.postponed and now - due > LATE_SECONDS:
                # No burst after a stop. At most once per run: a loop that is always late must still get on.
                job.postponed = True
                self._push(job, now + self._random.uniform(0, job.check.interval_seconds))
                continue
            self._lateness.append(now - due)
            job.task = asyncio.create_task(self._check(prober, job))
            self._tasks.add(job.task)
            job.task.add_done_callback(partial(self._ended, job))

    async def _check(self, prober: Prober, job: _Job) -> None:
        """One run of one check, from asking to telling."""
        self._unstarted -= job.runs == 0
        job.runs += 1
        # Now and then a kept connection is not used: an instance may serve old callers and take no new ones.
        fresh = not job.kept or job.runs % RUNS_PER_CONNECTION == 0
        started = time.monotonic()
        finding = await prober.run(job.check, fresh=fresh)
        self._done += 1
        # What has left, or come back as another incarnation or check, has nothing to hear from this run.
        if not job.gone:
            self._judge(job, finding, time.monotonic() - started)

    def _judge(self, job: _Job, finding: Finding, duration_seconds: float) -> None:
        if finding.success is None:
            self._unjudged += 1
            self._unjudged_cause = finding.text
            return
        job.found(finding, duration_seconds)
        news = job.news()
        if news is not None:
            self._observe(job.stream, news)

    def _ended(self, job: _Job, task: asyncio.Task[None]) -> None:
        """The next run is one interval after the last one was due; after a missed turn, anywhere in the interval."""
        self._tasks.discard(task)
        if job.gone:
            return
        job.task, job.postponed = None, False
        interval, now = job.check.interval_seconds, time.monotonic()
        due = job.due + interval
        self._push(job, due if due > now else now + self._random.uniform(0, interval))

    def _push(self, job: _Job, due: float) -> None:
        job.due = due
        heapq.heappush(self._heap, (due, next(self._order), job))

    def _add(self, job: _Job) -> _Job:
        """Schedule the first run: soon for one without a result yet, else spread over its interval.

        When many wait for their first run (a recovery, a rush of registrations) soon is stretched.
        """
        self._scheduled += 1
        self._unstarted += 1
        interval = job.check.interval_seconds
        window = interval
        if job.known == "unknown":
            window = min(interval, max(FIRST_RESULT_SECONDS, self._unstarted / FIRST_RUNS_PER_SECOND_MAX))
        if _keepable(job.check) and self._kept < self._kept_max:
            job.kept = True
            self._kept += 1
        self._push(job, time.monotonic() + self._random.uniform(0, window))
        return job

    def _drop(self, job: _Job) -> None:
        job.gone = True
        self._scheduled -= 1
        self._unstarted -= job.runs == 0
        self._kept -= job.kept
        if job.task is not None:
            job.task.cancel()
        # Entries of dropped jobs leave the heap when due; many with long intervals must not pile up in it.
        if len(self._heap) > 2 * self._scheduled + 1024:
            self._heap = [entry for entry in self._heap if not entry[2].gone]
            heapq.heapify(self._heap)


def _keepable(check: HttpCheck | TcpCheck) -> bool:
    """Whether a connection is worth keeping: costly to make, used again soon, and safe to retry when closed meanwhile."""
    if isinstance(check, TcpCheck) or not check.url.startswith("https:"):
        return False
    return check.interval_seconds <= KEPT_INTERVAL_SECONDS_MAX and check.method != "POST"
