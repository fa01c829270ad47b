"""Migrations over HTTP: what each does, what it waits for, and the verbs that an operator may use."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import orjson
from pydantic import Field

from domain.catalogue import command_from
from domain.saga import AbortSaga, ForceComplete, PauseSaga, ResumeSaga, RetryStep, SkipStep, UpgradeSaga
from muster.wire.command import Command
from muster.wire.stream import CLUSTER, Name, keyspace_stream, saga_stream
from projections.migrations import MigrationRow
from workers.gateway import Gateway
from workers.http.exchange import JSON_OPTIONS, Reading, Reply, Request
from workers.http.model import Written
from workers.http.reading import Reader
from workers.http.routing import Handler, Route
from workers.http.shards.answers import migration_item, migration_whole, newest_first
from workers.http.shards.model import MigrationList, MigrationWhole, SkipBody
from workers.http.write import answered, begun, execute, give

_MIGRATION: Final = "/v1/migrations/{keyspace}/{number}"


class MigrationsQuery(Reading):
    """Which migrations are wanted: `running` are all that have not ended, blocked and paused ones too."""

    keyspace: Annotated[Name | None, Field(description="Only this keyspace's")] = None
    state: Annotated[
        Literal["running", "blocked", "paused", "ended"] | None,
        Field(description="Only those; `running` are all that have not ended"),
    ] = None
    limit: Annotated[int, Field(ge=1, le=1_000, description="How many at most")] = 100


@dataclass(frozen=True, slots=True)
class Migrations:
    """The routes of migrations."""

    gateway: Gateway
    reader: Reader

    async def list(self, request: Request) -> Reply:
        """The newest migrations that match, newest first."""
        query, partitions = request.asked(MigrationsQuery), tuple(range(self.gateway.partitions))
        await self.reader.settle(query, request.header(b"muster-token"), partitions)
        views, now = self.gateway.views.shards, datetime.now(UTC)
        rows = newest_first((row for row in views.migrations.values() if _matches(row, query)), query.limit)
        items = [migration_item(views, row, now) for row in rows]
        return self.reader.listing(orjson.dumps(items, option=JSON_OPTIONS), partitions)

    async def one(self, request: Request) -> Reply:
        """One migration, with its steps."""
        id_ = _stream(request)
        # What it waits for may be the cluster's to say.
        partitions = tuple({self.gateway.partition_of(stream) for stream in (id_, CLUSTER)})
        await self.reader.settle(request.reading(), request.header(b"muster-token"), partitions)
        views = self.gateway.views.shards
        found = migration_whole(views, views.migration(id_), datetime.now(UTC))
        return self.reader.whole(found, partitions)

    def verb(self, command: type[Command]) -> Handler:
        """The route of a verb."""

        async def run(request: Request) -> Reply:
            return await give(self.gateway, request, _stream(request), command, {}, reasoned=True)

        return run

    async def skip(self, request: Request) -> Reply:
        """Leave a step out: the one that the body names, else the one under way."""
        stream = _stream(request)
        write, fields = await begun(request, reasoned=True)
        if fields.get("step") is not None:
            steps = [fields["step"]]
        else:
            # A repeat comes when another step is under way: it is known by the step that the first one has named.
            rows = self.gateway.views.shards.migration(stream).steps
            steps = list(dict.fromkeys(row.step for row in reversed(rows)))
        for step in steps:
            command = command_from(SkipStep.type, {**fields, "step": step})
            answer = await execute(self.gateway, write.envelope(stream, command), write.seconds)
            if answer.error is None or answer.error["name"] != "IdempotencyConflict":
                break
        return answered(answer, write.known)


def _matches(row: MigrationRow, query: MigrationsQuery) -> bool:
    if query.keyspace not in (None, row.data.get("keyspace")):
        return False
    match query.state:
        case "running":
            return row.ended_at is None
        case "ended":
            return row.ended_at is not None
        case "blocked":
            return row.standing == "blocked"
        case "paused":
            return row.paused and row.ended_at is None
        case None:
            return True


def _stream(request: Request) -> str:
    return saga_stream(keyspace_stream(request.name("keyspace")), "migration", request.number("number"))


def routes(gateway: Gateway, reader: Reader) -> tuple[Route, ...]:
    """The routes of migrations."""
    migrations, tag = Migrations(gateway, reader), "migrations"

    def verb(name: str, command: type[Command], summary: str) -> Route:
        path, handler = f"{_MIGRATION}/{name}", migrations.verb(command)
        return Route("POST", path, handler, summary, tag, answer=Written, command=command, reasoned=True)

    return (
        Route(
            "GET",
            "/v1/migrations",
            migrations.list,
            "The newest migrations",
            tag,
            answer=MigrationList,
            query=MigrationsQuery,
        ),
        Route("GET", _MIGRATION, migrations.one, "One migration with its steps", tag, answer=MigrationWhole),
        verb("pause", PauseSaga, "Stop after what is under way"),
        verb("resume", ResumeSaga, "Go on"),
        verb("retry", RetryStep, "Try the failed step again"),
        Route(
            "POST",
            f"{_MIGRATION}/skip",
            migrations.skip,
            "Leave a step out",
            tag,
            answer=Written,
            command=SkipStep,
            body=SkipBody,
            reasoned=True,
        ),
        verb("abort", AbortSaga, "Turn back, if the shard has not been handed over"),
        verb("force-complete", ForceComplete, "Leave out what can be left out of the rest"),
        verb("upgrade", UpgradeSaga, "Let a later version of the definition take over"),
    )
