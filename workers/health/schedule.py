"""Jobs by the instant at which they are due, on the monotonic clock."""

import heapq
from itertools import count
from typing import Final

from workers.health.job import Job

DROPPED_MAX: Final = 1024


class Schedule:
    """Holds each job at most once. A dropped job stays in it until it is due, or until many have been dropped."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Job]] = []
        self._order = count()  # Jobs that are due at the same instant are compared by this number, never by themselves.

    def push(self, job: Job, due: float) -> None:
        """The job is due at that instant."""
        job.due = due
        heapq.heappush(self._heap, (due, next(self._order), job))

    def pop(self, now: float) -> Job | None:
        """Take the job that has been due longest; None: no job is due."""
        while self._heap and self._heap[0][0] <= now:
            job = heapq.heappop(self._heap)[2]
            if not job.gone:
                return job
        return None

    def next_due(self) -> float | None:
        """When the next job is due; None: there is no job."""
        return self._heap[0][0] if self._heap else None

    def compact(self, jobs: int) -> None:
        """Throw out dropped jobs when they outnumber the `jobs` that live: those with long intervals would pile up."""
        if len(self._heap) > 2 * jobs + DROPPED_MAX:
            self._heap = [entry for entry in self._heap if not entry[2].gone]
            heapq.heapify(self._heap)
