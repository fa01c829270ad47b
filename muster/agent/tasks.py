"""A data node's tasks: what the controller wants of it, done by a driver.

Tasks are levels, not messages: what stands in the view is wanted, what has left it is not any more. One that still stands
there some time after it was done is done again, as a new process does it again: drivers answer alike.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

from muster.agent.reports import Report
from muster.client.transport import backoff_seconds
from muster.wire.driver import CopyLimits, Extent, Location, Progress, ShardDriver, ShardId, ShardLimits, Told
from muster.wire.error import ChecksumMismatch, InvalidCommand, MusterError, ShardNotFound, StaleEpoch
from muster.wire.shards import Task

_LOG: Final = logging.getLogger("muster.agent")
_PULLS: Final = frozenset(("copy", "catch_up", "verify"))
_FINAL: Final = (ChecksumMismatch, StaleEpoch, ShardNotFound, InvalidCommand)
"""What no other try mends."""
again_seconds: Final = 10.0


@dataclass(slots=True, eq=False)
class _Running:
    """A wanted task, and the work on it; `tries`: how often it has failed."""

    task: Task
    work: asyncio.Task[Extent | None]
    tries: int = 0


class TaskRunner:
    """Does what is wanted, one task at a time for each shard; what became of each is given to `report`.

    Of those that copy and check, which take long, up to `pulls_in_flight_max` run at a time; of the others, on which
    cut-overs wait, up to `tasks_in_flight_max`.
    """

    def __init__(
        self,
        driver: ShardDriver,
        report: Callable[[Report], None],
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
        """These tasks are wanted now as they stand here, or (None) no longer; the others are as they were."""
        for id_, task in changes.items():
            running = self._running.get(id_)
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
        turn = self._turns.setdefault(shard, asyncio.Lock())
        async with turn, self._pulls if task.kind in _PULLS else self._tasks:
            return await perform(self._driver, task, lambda progress: self._progress(task.id, progress))

    def _ended(self, running: _Running) -> None:
        task, work = running.task, running.work
        if work.cancelled():
            return
        error = work.exception()
        if self._running.get(task.id) is not running:
            return
        if error is None:
            extent = work.result()
            self._tell(running, Report(task.id, "done", {"extent": asdict(extent)} if extent is not None else {}))
            return
        told = error if isinstance(error, MusterError) else None
        detail = f"{told.name}: {told.detail}" if told else f"{type(error).__name__}: {error}"
        _LOG.warning("%s (%s) failed: %s", task.id, task.kind, detail, exc_info=None if told else error)
        if task.saga is None:
            # Nobody counts its attempts, so that it would come back by itself.
            self._start(task, running.tries + 1)
        else:
            self._tell(running, Report(task.id, "failed", error=detail, final=isinstance(error, _FINAL)))

    def _tell(self, running: _Running, report: Report) -> None:
        self._report(report)
        asyncio.get_running_loop().call_later(again_seconds, self._again, running)

    def _again(self, running: _Running) -> None:
        if self._running.get(running.task.id) is running:
            self._start(running.task, 0)


async def perform(driver: ShardDriver, task: Task, told: Told) -> Extent | None:
    """Do the task. Raises what the driver raises, and InvalidCommand for a kind that is unknown here."""
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
            return await driver.copy(shard, _location(params["source"]), _copy_limits(params), told)
        case "catch_up":
            return await driver.catch_up(shard, _location(params["source"]), _copy_limits(params), told)
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
