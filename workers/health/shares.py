"""Who may run now: slots for runs, shared so that nobody's checks can hold up those of others.

A run holds a slot for as long as its target is silent. So a service, and likewise a target that is asked (a host and its
port), may have at most as many slots as are free: one alone gets half of them, two get a third each, and some are always left
for who comes next (dynamic thresholds, as switches share their buffers: Choudhury and Hahne 1998). However many there are, a
quarter of the slots is kept for checks whose last run was quick. Others begin outside of it, and so do all that have never run.
"""

from collections import Counter
from typing import Final

from workers.health.job import Job

QUICK_SECONDS: Final = 1.0


class Shares:
    """The slots, and who has them."""

    def __init__(self, slots_max: int) -> None:
        self._slots_max = slots_max
        self._slow_max = max(1, slots_max * 3 // 4)
        self._slow = 0
        self._by_service: Counter[str] = Counter()
        self._by_target: Counter[str] = Counter()
        self.taken = 0

    @property
    def free(self) -> int:
        """How many runs can begin before all have to wait."""
        return self._slots_max - self.taken

    def room(self, *, quick: bool) -> int:
        """How many of such runs can begin."""
        return self.free if quick else min(self.free, self._slow_max - self._slow)

    def admits_service(self, stream: str, room: int) -> bool:
        """Whether one more run of the service may begin."""
        return self._by_service[stream] < room

    def admits(self, job: Job) -> bool:
        """Whether the job may run now."""
        room = self.room(quick=job.quick)
        return self.admits_service(job.stream, room) and self._by_target[job.target] < room

    def take(self, job: Job) -> None:
        """The job runs now."""
        self.taken += 1
        self._slow += not job.quick
        self._by_service[job.stream] += 1
        self._by_target[job.target] += 1

    def give_back(self, job: Job, *, quick: bool) -> None:
        """The job's run has ended; `quick` is what the job was when it began."""
        self.taken -= 1
        self._slow -= not quick
        for counts, key in ((self._by_service, job.stream), (self._by_target, job.target)):
            counts[key] -= 1
            # A name that was asked once must not be remembered for ever.
            if not counts[key]:
                del counts[key]


class Queue:
    """Jobs that are due and have no slot: services take turns, and within each of them its targets do."""

    def __init__(self) -> None:
        # Dictionaries as sets that keep their order: a job that has gone is taken out without a search.
        self._jobs: dict[str, dict[str, dict[Job, None]]] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, job: Job) -> None:
        """The job waits for its turn."""
        self._jobs.setdefault(job.stream, {}).setdefault(job.target, {})[job] = None
        self._length += 1

    def drop(self, job: Job) -> None:
        """The job waits no more, if it did."""
        jobs = self._jobs.get(job.stream, {}).get(job.target, {})
        if job in jobs:
            self._take(job)

    def pop(self, shares: Shares) -> Job | None:
        """Take the job whose turn it is, of those that may run; None: none may."""
        # Whatever the job, it does not get more than this.
        room = shares.free
        if room <= 0:
            return None
        for stream, targets in self._jobs.items():
            if not shares.admits_service(stream, room):
                continue
            for jobs in targets.values():
                job = next(iter(jobs))
                if shares.admits(job):
                    self._take(job)
                    return job
        return None

    def _take(self, job: Job) -> None:
        """Take the job out, and let its service and its target be the last to be asked again."""
        targets = self._jobs.pop(job.stream)
        jobs = targets.pop(job.target)
        del jobs[job]
        self._length -= 1
        if jobs:
            targets[job.target] = jobs
        if targets:
            self._jobs[job.stream] = targets
