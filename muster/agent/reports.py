"""Reports on a data node's tasks, sent to the controller: many in one request, each until it is acknowledged."""

import asyncio
import logging
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any, Final, Literal

import orjson

from muster.client.controllers.known import backoff_seconds
from muster.client.transport import Transport, path_of
from muster.wire.command import new_id
from muster.wire.error import MusterError, Transient
from muster.wire.shards.driver import Progress

progress_seconds: Final = 0.5
reports_max: Final = 200
error_chars_max: Final = 2_000
_LOG: Final = logging.getLogger("muster.agent")


@dataclass(frozen=True, slots=True)
class TaskReport:
    """The outcome of a task, by its id. `error` is `Name: detail`; `final`: trying again cannot help."""

    id: str
    outcome: Literal["done", "failed", "progress"]
    result: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    final: bool = False


class Reports:
    """Sends what is ready in one request; progress at most every `progress_seconds`, and only each task's newest."""

    def __init__(self, transport: Transport, node: str) -> None:
        self._transport = transport
        self._node = node
        self._ready: dict[str, TaskReport] = {}
        self._progress: dict[str, Progress] = {}
        self._waiting = asyncio.Event()

    def add(self, report: TaskReport) -> None:
        """The task is over."""
        self._progress.pop(report.id, None)
        self._ready[report.id] = replace(report, error=sendable(report.error))
        self._waiting.set()

    def progress(self, task: str, progress: Progress) -> None:
        """The task has come this far."""
        self._progress[task] = progress

    async def run(self) -> None:
        """Send, for ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(progress_seconds):
                    await self._waiting.wait()
            self._waiting.clear()
            newest, self._progress = self._progress, {}
            if newest:
                # Sent once: a lost one is followed by newer progress soon.
                await self._sent([TaskReport(id_, "progress", asdict(progress)) for id_, progress in newest.items()])
            await self._send_ready()

    async def _send_ready(self) -> None:
        tries = 0
        while reports := list(islice(self._ready.values(), reports_max)):
            heard = await self._sent(reports)
            for report in reports:
                # While the request was under way, a newer report on the same task may have taken this one's place.
                if report.id in heard and self._ready.get(report.id) is report:
                    del self._ready[report.id]
            tries = 0 if heard else tries + 1
            if not heard:
                await asyncio.sleep(backoff_seconds(tries))

    async def _sent(self, reports: list[TaskReport]) -> frozenset[str]:
        """Send them once. Returns the ids of those that the controller has received; refused ones are among them."""
        ids = frozenset(report.id for report in reports)
        try:
            outcomes = await self._post(reports)
        except Transient as error:
            _LOG.warning("%d reports have yet to be heard: %s", len(reports), error.detail)
            return frozenset()
        except MusterError as error:
            _LOG.error("%d reports were refused: %s: %s", len(reports), error.name, error.detail)
            return ids
        for outcome in outcomes:
            if outcome["status"] == "refused":
                _LOG.warning("the report on %s was refused: %s", outcome["id"], outcome.get("error"))
        return ids - {outcome["id"] for outcome in outcomes if outcome["status"] == "unknown"}

    async def _post(self, reports: list[TaskReport]) -> list[dict[str, Any]]:
        body = {"node": self._node, "reports": [asdict(report) for report in reports]}
        reply = await self._transport.write("POST", path_of("tasks"), body, command_id=new_id())
        items: list[dict[str, Any]] = orjson.loads(reply.body)["items"]
        return items


def sendable(error: str | None) -> str | None:
    """An error's text as JSON and SQL can hold it: whatever a store or a disk has put into it, the report arrives."""
    if error is None:
        return None
    # Half a surrogate pair, as in the name of a file that is no UTF-8, is nothing that can be encoded.
    return error[:error_chars_max].replace("\0", "\ufffd").encode(errors="replace").decode()
