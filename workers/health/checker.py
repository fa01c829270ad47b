"""Health checks of the instances in a writer's partition: which checks run when, and when a status change is reported.

    sync(instance) ──▶ schedule ──tick──▶ runs in flight (fair shares) ──result──▶ streak ──▶ observe

The log is the truth and the checker only proposes: `observe` is called when a streak has come to a status that is not
the one known from the log, and again at later results until `sync` brings the status from the log. A result is dropped
when its instance is gone or has another incarnation, or when its check has changed. One loop serves all checks; a check
that waits for its turn is an entry in the schedule, not a task.
"""

import asyncio
import logging
import random
import ssl
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from domain.registry.instance import Instance
from domain.registry.observation import ObserveCheck
from muster.wire.registry.check import HttpCheck, TcpCheck, TtlCheck
from workers.health.job import CheckOutput, Job
from workers.health.probe import LATE_SECONDS, Asker, Prober, ProbeResult
from workers.health.schedule import Schedule
from workers.health.shares import QUICK_SECONDS, Queue, Shares
from workers.health.targets import Targets

TICK_SECONDS: Final = 0.01
IDLE_SECONDS_MAX: Final = 0.05
FIRST_RESULT_SECONDS: Final = 1.0
FIRST_RUNS_PER_SECOND_MAX: Final = 500
KEPT_INTERVAL_SECONDS_MAX: Final = 12.0
RUNS_PER_CONNECTION: Final = 10
LATENESS_SAMPLES_MAX: Final = 4096
TELL_SECONDS: Final = 60.0
COUNT_SECONDS: Final = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CheckerStats:
    """The checker's load: checks `scheduled`, `in_flight`, `waiting` for a slot and `overdue` now; runs `done` and `unjudged`
    since the start.

    `overdue` are those of which nothing was found out for longer than their interval allows, counted at most once a second.
    `unjudged` runs say nothing about their instance; `unjudged_cause` is the reason of the last one.
    `late_p99_seconds` is how late the newest 4,096 runs have started, as the 99th percentile.
    """

    scheduled: int
    in_flight: int
    waiting: int
    overdue: int
    done: int
    unjudged: int
    unjudged_cause: str | None
    late_p99_seconds: float


class Checker:
    """Runs the http and tcp checks of many instances. The ttl checks are timers of the domain, and do not run here.

    `observe(stream, command)` is called on the event loop and must not block. `in_flight_max` bounds the runs at one
    time; `workers.health.shares` says whose they are. `connections_kept_max` bounds
    the https checks whose connection is kept for the next run; all others connect anew. `tls` is the client side's
    context for https; None trusts the system's certificate authorities. `targets` says who may be asked; None: anyone.
    `mass_flip_seconds`: so long those go on serving whose checks fail with those of most of their service; 0: they do not.
    `clock` says when a check has fallen, and is the one by which the writer stamps events: what falls is counted with these.
    """

    def __init__(
        self,
        observe: Callable[[str, ObserveCheck], None],
        *,
        in_flight_max: int = 256,
        connections_kept_max: int = 256,
        tls: ssl.SSLContext | None = None,
        targets: Targets | None = None,
        mass_flip_seconds: float = 0.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        seed: int | None = None,
    ) -> None:
        self._observe = observe
        self._shares = Shares(in_flight_max)
        self._queue = Queue()
        self._kept_max = connections_kept_max
        self._tls = tls
        self._targets = targets
        self._mass_flip_seconds = mass_flip_seconds
        self._clock = clock
        self._random = random.Random(seed)
        self._jobs: dict[tuple[str, str], dict[str, Job]] = {}
        self._schedule = Schedule()
        self._tasks: set[asyncio.Task[None]] = set()
        self._scheduled = self._unstarted = self._kept = 0
        self._done = self._unjudged = 0
        self._unjudged_cause: str | None = None
        self._lateness: deque[float] = deque(maxlen=LATENESS_SAMPLES_MAX)
        self._tell_at = self._count_at = 0.0
        self._overdue = 0

    def sync(self, stream: str, instance_id: str, instance: Instance | None) -> None:
        """Take over what the log says: `instance` as it is now, None when it is not registered. May be repeated.

        Unchanged checks keep their schedule and streak, those with other settings their streak alone; what asks something else,
        and what a new incarnation asks, starts anew.
        """
        before = self._jobs.pop((stream, instance_id), {})
        jobs: dict[str, Job] = {}
        for check in instance.spec.checks if instance is not None else ():
            if instance is None or isinstance(check, TtlCheck):
                continue
            job = before.get(check.name)
            if job is not None and job.is_for(instance, check):
                job.learn(instance)
                del before[check.name]
            else:
                job = self._add(Job(stream, instance, check), job)
            jobs[check.name] = job
        for job in before.values():
            self._drop(job)
        if jobs:
            self._jobs[stream, instance_id] = jobs

    def output(self, stream: str, instance_id: str, check: str) -> CheckOutput | None:
        """The check's newest output; None before its first result, and for a check that does not run here."""
        job = self._jobs.get((stream, instance_id), {}).get(check)
        return None if job is None else job.output()

    def not_checked_since(self, stream: str, instance_id: str, check: str) -> datetime | None:
        """Since when the check has not come to a result, if that is longer than its interval allows; None: it is not."""
        job = self._jobs.get((stream, instance_id), {}).get(check)
        silent = None if job is None else job.overdue_seconds
        return None if silent is None else datetime.now(UTC) - timedelta(seconds=silent)

    @property
    def stats(self) -> CheckerStats:
        """The load now."""
        lateness = sorted(self._lateness)
        return CheckerStats(
            scheduled=self._scheduled,
            in_flight=len(self._tasks),
            waiting=len(self._queue),
            overdue=self._count_overdue(),
            done=self._done,
            unjudged=self._unjudged,
            unjudged_cause=self._unjudged_cause,
            late_p99_seconds=lateness[len(lateness) * 99 // 100] if lateness else 0.0,
        )

    def _count_overdue(self) -> int:
        now = time.monotonic()
        # Every job is looked at, which takes milliseconds for thousands of them: not for each of many who ask.
        if now >= self._count_at:
            self._count_at = now + COUNT_SECONDS
            self._overdue = sum(
                job.overdue_seconds is not None for jobs in self._jobs.values() for job in jobs.values()
            )
        return self._overdue

    async def run(self) -> None:
        """Run checks until cancelled; runs in flight are then cancelled too."""
        async with Prober(self._tls, self._targets) as prober:
            try:
                wake_at = 0.0  # So the first turn counts as one after a stop: what is due already is spread out.
                while True:
                    now = time.monotonic()
                    self._start_due(prober, now, stalled=now - wake_at > LATE_SECONDS)
                    self._tell(now)
                    wake_at = time.monotonic() + self._pause_seconds()
                    await asyncio.sleep(wake_at - time.monotonic())
            finally:
                running = list(self._tasks)
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)

    def _pause_seconds(self) -> float:
        """Until the next job is due, but no shorter than a tick, so that one turn starts several runs."""
        if self._queue:
            return TICK_SECONDS
        due = self._schedule.next_due()
        return IDLE_SECONDS_MAX if due is None else min(max(due - time.monotonic(), TICK_SECONDS), IDLE_SECONDS_MAX)

    def _start_due(self, prober: Prober, now: float, *, stalled: bool) -> None:
        # Those that wait already come before those that are due only now.
        while (waiting := self._queue.pop(self._shares)) is not None:
            self._start(prober, waiting, now)
        while self._shares.free > 0 and (job := self._schedule.pop(now)) is not None:
            if stalled and not job.postponed and now - job.due > LATE_SECONDS:
                # After a stop everything is due at once: it is spread over one interval. This happens at most once per
                # run, so that checks still run in a loop that is always late.
                job.postponed = True
                self._schedule.push(job, now + self._random.uniform(0, job.check.interval_seconds))
            elif self._shares.admits(job):
                self._start(prober, job, now)
            else:
                self._queue.put(job)

    def _start(self, prober: Prober, job: Job, now: float) -> None:
        self._lateness.append(now - job.due)
        self._shares.take(job)
        job.task = asyncio.create_task(self._check(prober, job))
        self._tasks.add(job.task)
        job.task.add_done_callback(partial(self._ended, job, job.quick))

    def _tell(self, now: float) -> None:
        """Say at most once a minute that checks do not run as they should."""
        if now < self._tell_at:
            return
        stats, self._tell_at = self.stats, now + TELL_SECONDS
        if stats.overdue:
            facts = {"overdue": stats.overdue, "checks": stats.scheduled, "waiting": stats.waiting}
            log.warning("checks have not run for longer than their interval", extra=facts)

    async def _check(self, prober: Prober, job: Job) -> None:
        """One run of one check, and what follows from its result."""
        self._unstarted -= job.runs == 0
        job.runs += 1
        # Now and then a kept connection is not used: an instance may serve old callers and refuse new ones.
        fresh = not job.kept or job.runs % RUNS_PER_CONNECTION == 0
        started = time.monotonic()
        result = await prober.run(job.check, Asker(job.address, job.stream, None if fresh else job))
        self._done += 1
        job.quick = time.monotonic() - started < QUICK_SECONDS
        # While the run was under way the instance may have left, or its check may have changed: then it means nothing.
        if not job.gone:
            self._judge(job, result, time.monotonic() - started)

    def _judge(self, job: Job, result: ProbeResult, duration_seconds: float) -> None:
        if result.success is None:
            self._unjudged += 1
            self._unjudged_cause = result.text
            return
        job.take(result, duration_seconds)
        news = job.news(self._clock(), self._mass_flip_seconds)
        if news is not None:
            self._observe(job.stream, news)

    def _ended(self, job: Job, quick: bool, task: asyncio.Task[None]) -> None:
        """Schedule the next run: one interval after this one was due, or at random in the interval when that has passed.

        `quick`: it had the slot of a job that was.
        """
        self._tasks.discard(task)
        self._shares.give_back(job, quick=quick)
        if job.gone:
            return
        job.task, job.postponed = None, False
        interval, now = job.check.interval_seconds, time.monotonic()
        due = job.due + interval
        self._schedule.push(job, due if due > now else now + self._random.uniform(0, interval))

    def _add(self, job: Job, before: Job | None) -> Job:
        """Schedule the first run: within a second for a check without a result, else somewhere in its interval.

        That second grows when many wait for their first run, as after a recovery or a rush of registrations. A job that asks
        what the one `before` asked goes on from what that has found.
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
        due = time.monotonic() + self._random.uniform(0, window)
        if before is not None and job.asks_as(before):
            job.go_on_from(before)
            # Never later than it would have run: settings that change again and again must not put it off for ever.
            due = min(due, max(before.due, time.monotonic()))
        self._schedule.push(job, due)
        return job

    def _drop(self, job: Job) -> None:
        job.gone = True
        self._queue.drop(job)
        self._scheduled -= 1
        self._unstarted -= job.runs == 0
        self._kept -= job.kept
        if job.task is not None:
            job.task.cancel()
        self._schedule.compact(self._scheduled)


def _keepable(check: HttpCheck | TcpCheck) -> bool:
    """Whether a connection is worth keeping: costly to make, used again soon, and safe to retry when it was closed meanwhile."""
    if isinstance(check, TcpCheck) or not check.url.startswith("https:"):
        return False
    return check.interval_seconds <= KEPT_INTERVAL_SECONDS_MAX and check.method != "POST"
