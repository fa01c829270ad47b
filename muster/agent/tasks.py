"""A data node's tasks: what the controller wants of it, carried out by a driver.

Tasks are levels, not messages: a task in the view is wanted, one that has left it is not. A task that is still there some
time after it was done is done again, as after a restart: drivers are idempotent, and a lost report is made good by it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

from muster.agent.reports import TaskReport
from muster.client.controllers.known import backoff_seconds
from muster.wire.error import ChecksumMismatch, InvalidCommand, MusterError, ShardNotFound, StaleEpoch
from muster.wire.shards.answers import Task
from muster.wire.shards.driver import (
    CopyLimits,
    Extent,
    Location,
    OnProgress,
    Progress,
    ShardDriver,
    ShardId,
    ShardLimits,
)

_LOG: Final = logging.getLogger("muster.agent")
_PULLS: Final = frozenset(("copy", "catch_up", "verify"))
_FINAL: Final = (ChecksumMismatch, StaleEpoch, ShardNotFound, InvalidCommand)
"""Errors that trying again cannot mend."""
again_seconds: Final = 10.0


@dataclass(slots=True, eq=False)
class _Running:
    """A wanted task and the work on it; `tries` counts its failures."""

    task: Task
    work: asyncio.Task[Extent | None]
    tries: int = 0


class TaskRunner:
    """Carries out the wanted tasks, one at a time for each shard, and calls `report` with each outcome.

    Up to `pulls_in_flight_max` of those that copy or verify, which take long, run at a time, and up to
    `tasks_in_flight_max` of the others, because cut-overs wait for those.
    """

    def __init__(
        self,
        driver: ShardDriver,
        report: Callable[[TaskReport], None],
        progress: Callable[[str, Progress], None],
        *,
        tasks_in_flight_max: int,
        pulls_in_flight_max: int,
    ) -> None:
        self._driver = driver
        self._report = report
        self._progress = progress
        self._tasks = asyncio.Semaphore(tasks_in_flight_max)
        self._pulls = asyncio.Semaphore(pulls_in_flight_max)
        self._turns: WeakValueDictionary[ShardId, asyncio.Lock] = WeakValueDictionary()
        self._running: dict[str, _Running] = {}
        self._leaving: set[asyncio.Task[Extent | None]] = set()

    def want(self, changes: Mapping[str, Task | None]) -> None:
        """These tasks are wanted now in this form, or (None) no longer. All others stay as they are."""
        for id_, task in changes.items():
            running = self._running.get(id_)
            # A task in another form is new work. It waits at the shard's lock until the old work, cancelled here, has
            # ended.
            if running is not None and running.task != task:
                del self._running[id_]
                self._leave(running.work)
            if task is not None and id_ not in self._running:
                self._start(task, 0)

    async def close(self) -> None:
        """Stop all work, and wait for its end."""
        self.want(dict.fromkeys(self._running))
        if self._leaving:
            await asyncio.wait(self._leaving)

    def _leave(self, work: "asyncio.Task[Extent | None]") -> None:
        if not work.done():
            work.cancel()
            self._leaving.add(work)
            work.add_done_callback(self._leaving.discard)

    def _start(self, task: Task, tries: int) -> None:
        work = asyncio.create_task(self._perform(task, tries), name=task.id)
        running = self._running[task.id] = _Running(task, work, tries)
        work.add_done_callback(lambda _: self._ended(running))

    async def _perform(self, task: Task, tries: int) -> Extent | None:
        if tries:
            await asyncio.sleep(backoff_seconds(tries))
        shard = ShardId(task.keyspace, task.shard)
        # The order of the two waits matters: a task that waits for its shard must not take a place from other shards.
        turn = self._turns.setdefault(shard, asyncio.Lock())
        async with turn, self._pulls if task.kind in _PULLS else self._tasks:
            return await perform(self._driver, task, lambda progress: self._progress(task.id, progress))

    def _ended(self, running: _Running) -> None:
        task, work = running.task, running.work
        if work.cancelled():
            return
        error = work.exception()
        # The task is no longer wanted, or is wanted in another form: nobody waits for this outcome.
        if self._running.get(task.id) is not running:
            return
        if error is None:
            extent = work.result()
            self._tell(running, TaskReport(task.id, "done", {"extent": asdict(extent)} if extent is not None else {}))
            return
        known = error if isinstance(error, MusterError) else None
        detail = f"{known.name}: {known.detail}" if known else f"{type(error).__name__}: {error}"
        _LOG.warning("%s (%s) failed: %s", task.id, task.kind, detail, exc_info=None if known else error)
        if task.saga is None:
            # The shard map wants it, and not a saga, which would count the attempts and want it again: so it is tried here.
            self._start(task, running.tries + 1)
        else:
            self._tell(running, TaskReport(task.id, "failed", error=detail, final=isinstance(error, _FINAL)))

    def _tell(self, running: _Running, report: TaskReport) -> None:
        self._report(report)
        asyncio.get_running_loop().call_later(again_seconds, self._again, running)

    def _again(self, running: _Running) -> None:
        if self._running.get(running.task.id) is running:
            self._start(running.task, 0)


async def perform(driver: ShardDriver, task: Task, on_progress: OnProgress) -> Extent | None:
    """Carry out the task. Raises the driver's errors, and InvalidCommand for a kind that is unknown here."""
    shard, params = ShardId(task.keyspace, task.shard), task.params
    epoch: int = params.get("epoch", 0)
    match task.kind:
        case "open":
            await driver.open(shard, epoch, ShardLimits(**params["limits"]))
        case "fence":
            return await driver.fence(shard, epoch)
        case "activate":
            await driver.activate(shard, epoch, ShardLimits(**params["limits"]))
        case "retire":
            await driver.retire(shard, epoch, _location(params["owner"]))
        case "drop":
            await driver.drop(shard, epoch)
        case "prepare":
            await driver.prepare(shard, epoch)
        case "copy":
            return await driver.copy(shard, _location(params["source"]), _copy_limits(params), on_progress)
        case "catch_up":
            return await driver.catch_up(shard, _location(params["source"]), _copy_limits(params), on_progress)
        case "verify":
            return await driver.verify(shard, _location(params["source"]))
        case "drain":
            final = Extent(**params["final"]) if params.get("final") else None
            return await driver.drain(shard, _location(params["source"]), final)
        case kind:
            raise InvalidCommand(f"this data node knows no task {kind!r}", field="kind")
    return None


def _location(params: dict[str, Any]) -> Location:
    return Location(params["node"], params["address"] or "")


def _copy_limits(params: dict[str, Any]) -> CopyLimits:
    return CopyLimits(bytes_per_second=params.get("bytes_per_second"))
