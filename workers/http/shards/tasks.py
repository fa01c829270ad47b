"""Tasks over HTTP: what data nodes are wanted to do, and what they report.

A report is answered with the outcome of the command that it stands for. Of a task that is not wanted any more it changes
nothing, and a task that is still wanted stays in the list, whatever was reported: nothing is lost.

    a saga's step      done, failed ▶ ReportStep   progress ▶ ReportProgress
    open a shard              done  ▶ ReportOpened
    clean a copy up           done  ▶ ReportDropped
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from os import urandom
from typing import Annotated, Any, Final, assert_never

import orjson
from pydantic import Field, ValidationError

from domain.catalogue import Answer, refusal
from domain.saga import ReportProgress, ReportStep
from domain.shards.keyspace import ReportDropped, ReportOpened
from muster.wire.command import Command, Envelope
from muster.wire.error import InvalidCommand, MusterError, TooLarge
from muster.wire.stream import Name
from sagas.tasks import CleanupTask, OpenTask, StepTask, parse_task_id
from workers.gateway import Gateway
from workers.http.exchange import JSON_OPTIONS, Reading, Reply, Request
from workers.http.model import OutcomeList
from workers.http.reading import Reader
from workers.http.routing import Route
from workers.http.shards.answers import progressed, task_item
from workers.http.shards.model import Report, ReportBatch, TaskList
from workers.http.write import begun, outcomes, run_all
from workers.writer.published import check_name, check_nul, outcome, outcome_of_error, refuse_unknown

log = logging.getLogger(__name__)
reports_max: Final = 1_000
id_chars_max: Final = 200

Progressed = Callable[[str], None]
"""Called with the id of a migration when new progress of it is known."""


class TaskListQuery(Reading):
    """Whose tasks are wanted; all without a node."""

    node: Annotated[Name | None, Field(description="Only this node's")] = None


@dataclass(frozen=True, slots=True)
class Tasks:
    """The routes of tasks."""

    gateway: Gateway
    reader: Reader
    progressed: Progressed

    async def list(self, request: Request) -> Reply:
        """The tasks of a node, or of all."""
        query, partitions = request.asked(TaskListQuery), tuple(range(self.gateway.partitions))
        await self.reader.settle(query, request.header(b"muster-token"), partitions)
        views = self.gateway.views.shards
        wanted = views.tasks if query.node is None else {query.node: views.tasks.get(query.node, {})}
        items = [task_item(task, views.cluster) for tasks in wanted.values() for task in tasks.values()]
        return self.reader.listing(orjson.dumps(items, option=JSON_OPTIONS), partitions)

    async def report(self, request: Request) -> Reply:
        """Take a node's reports; outcomes in their order, by the tasks' ids."""
        # One bad report is refused, and not those beside it, which a node would have to send again for ever.
        write, fields = await begun(request, unjudged="reports")
        node, entries = _reports(fields)
        found = [self._envelope(node, entry, write.actor or node) for entry in entries]
        answered = await run_all(self.gateway, found)
        # The node knows its reports by their tasks, and not by the ids of the commands that were made of them.
        named = [{**one, "id": _claimed_id(entry)} for one, entry in zip(answered, entries, strict=True)]
        return outcomes(named, self.gateway.views)

    def _envelope(self, node: str, entry: object, actor: str) -> Envelope | dict[str, Any]:
        """The command that the report stands for; or its outcome at once, when it needs no command or is malformed."""
        try:
            report = _report(entry)
            stream, command = self._command(node, report)
        except MusterError as error:
            return outcome_of_error(error, "", None)
        if command is None:
            partition = self.gateway.partition_of(stream)
            return outcome(Answer("", "unchanged", partition, self.gateway.views.cursors[partition].position))
        return Envelope(self._id(node, report, stream, command), stream, command, actor)

    def _id(self, node: str, report: Report, stream: str, command: Command) -> str:
        """The id of the report's command: the same for the same report of what is wanted, so that it counts once.

        An answer is remembered under its id, a refusal too. So what nobody wants (not yet, or not any more) gets an id of its
        own each time: reported early, under the true report's id, it would be the answer that the true one gets later.
        """
        if report.outcome == "progress":  # It is new each time.
            return urandom(16).hex()
        # What it says is in the id: two that differ are two commands, and neither keeps the other from being decided.
        said = sha256(command.model_dump_json().encode()).hexdigest()[:16]
        id_ = f"report/{report.id}/{node}/{report.outcome}/{said}"
        # Names of streams and nodes can be long. A hash of them is still the same for the same report.
        if len(id_) > id_chars_max:
            id_ = f"report/{sha256(id_.encode()).hexdigest()}"
        wanted = report.id in self.gateway.views.shards.tasks.get(node, {})
        return id_ if wanted or self.gateway.knows(stream, id_) else urandom(16).hex()

    def _command(self, node: str, report: Report) -> tuple[str, Command | None]:
        """The stream and the command of a report; none: it changes nothing. Raises InvalidCommand."""
        task = parse_task_id(report.id)
        match task:
            case StepTask():
                return task.stream, self._stepped(node, task, report)
            case OpenTask():
                return task.stream, _opened(node, task, report)
            case CleanupTask():
                return task.stream, self._dropped(node, task, report)
            case None:
                raise InvalidCommand(f"id: {report.id[:140]!r} is no task's", field="id")
            case _:
                assert_never(task)

    def _dropped(self, node: str, task: CleanupTask, report: Report) -> Command | None:
        # The id says whose copy it is: a node must not report that the copy of another one has gone.
        if task.node != node:
            raise InvalidCommand(f"id: the task is {task.node}'s, not {node}'s", field="id")
        if report.outcome != "done":
            _note(node, report)
            return None
        views = self.gateway.views.shards
        wanted, row = views.tasks.get(node, {}).get(report.id), views.migrations.get((task.migration,))
        # The node may have its task from a controller whose views are ahead of ours; whose the copy was never changes.
        shard = wanted.shard if wanted is not None else row.data.get("shard") if row is not None else None
        return None if shard is None else ReportDropped(shard=shard, node=node, migration=task.migration)

    def _stepped(self, node: str, task: StepTask, report: Report) -> Command:
        result = report.result or {}
        if report.outcome == "progress":
            self._keep(task, result)
            return ReportProgress(step=task.step, attempt=task.attempt, node=node, progress=result)
        return ReportStep(
            step=task.step,
            attempt=task.attempt,
            node=node,
            outcome=report.outcome,
            result=result,
            error=report.error,
            final=report.final,
        )

    def _keep(self, task: StepTask, facts: dict[str, Any]) -> None:
        views = self.gateway.views.shards
        found = views.sagas.get(task.saga)
        # A late report on an earlier attempt must not take the place of what is known of this one.
        if found is None or (found.step, found.attempt) != (task.step, task.attempt):
            return
        views.progress[task.saga] = progressed(views.progress.get(task.saga), task.step, task.attempt, facts)
        self.progressed(task.saga)


def _opened(node: str, task: OpenTask, report: Report) -> Command | None:
    if report.outcome == "done":
        return ReportOpened(shard=task.shard, node=node, epoch=task.epoch)
    _note(node, report)
    return None


def _note(node: str, report: Report) -> None:
    """The shard map knows no failures: the task stays wanted until it is done."""
    if report.outcome == "failed":
        log.warning("%s failed at %s", node, report.id, extra={"reason": report.error})


def _reports(fields: dict[str, Any]) -> tuple[str, list[object]]:
    # What is wrong with the request itself refuses all of it; a malformed report only costs itself.
    refuse_unknown(fields, "node", "reports")
    node, reports = fields.get("node"), fields.get("reports")
    if not isinstance(node, str):
        raise InvalidCommand("node: is missing or no text", field="node")
    check_name("node", node)
    if not isinstance(reports, list):
        raise InvalidCommand("reports: must be a list of reports", field="reports")
    if len(reports) > reports_max:
        raise TooLarge(f"there may be {reports_max} reports, not {len(reports)}", reports_max=reports_max)
    return node, reports


def _report(entry: object) -> Report:
    check_nul(entry)
    try:
        return Report.model_validate(entry)
    except ValidationError as error:
        raise refusal(error, ReportStep) from None


def _claimed_id(entry: object) -> str:
    found = entry.get("id") if isinstance(entry, dict) else None
    return found if isinstance(found, str) else ""


def routes(gateway: Gateway, reader: Reader, progressed: Progressed) -> tuple[Route, ...]:
    """The routes of tasks."""
    tasks, tag = Tasks(gateway, reader, progressed), "tasks"
    return (
        Route(
            "GET",
            "/v1/tasks",
            tasks.list,
            "What data nodes are wanted to do",
            tag,
            answer=TaskList,
            query=TaskListQuery,
        ),
        Route(
            "POST",
            "/v1/tasks",
            tasks.report,
            "Report on tasks; outcomes in their order",
            tag,
            answer=OutcomeList,
            body=ReportBatch,
        ),
    )
