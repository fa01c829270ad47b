"""Migrations over HTTP: what each does, what it waits for, and the verbs that an operator may use."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

import orjson
from pydantic import Field

from muster.wire.stream import CLUSTER, MIGRATION, Name, keyspace_stream, saga_stream
from projections.migrations import MigrationRow
from workers.gateway import Gateway
from workers.http.exchange import JSON_OPTIONS, Reading, Reply, Request
from workers.http.reading import Reader
from workers.http.routing import Route
from workers.http.sagas.answers import State, in_state, newest_first
from workers.http.sagas.verbs import verb_routes
from workers.http.shards.answers import is_migration, migration_item, migration_whole
from workers.http.shards.model import MigrationList, MigrationWhole

_MIGRATION: Final = "/v1/migrations/{keyspace}/{number}"


class MigrationListQuery(Reading):
    """Which migrations are wanted: `running` are all that have not ended, blocked and paused ones too."""

    keyspace: Annotated[Name | None, Field(description="Only this keyspace's")] = None
    state: Annotated[
        State | None,
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
        query, partitions = request.asked(MigrationListQuery), tuple(range(self.gateway.partitions))
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


def _matches(row: MigrationRow, query: MigrationListQuery) -> bool:
    if not is_migration(row) or query.keyspace not in (None, row.data.get("keyspace")):
        return False
    return in_state(row, query.state)


def _stream(request: Request) -> str:
    return saga_stream(keyspace_stream(request.name("keyspace")), MIGRATION, request.number("number"))


def routes(gateway: Gateway, reader: Reader) -> tuple[Route, ...]:
    """The routes of migrations."""
    migrations, tag = Migrations(gateway, reader), "migrations"
    return (
        Route(
            "GET",
            "/v1/migrations",
            migrations.list,
            "The newest migrations",
            tag,
            answer=MigrationList,
            query=MigrationListQuery,
        ),
        Route("GET", _MIGRATION, migrations.one, "One migration with its steps", tag, answer=MigrationWhole),
        *verb_routes(gateway, _MIGRATION, _stream, tag, abort="Turn back, if the shard has not been handed over"),
    )
