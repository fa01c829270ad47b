"""Sagas of all kinds over HTTP: the newest, one with its steps, and the verbs of an operator.

A saga's path is its id, part by part: `/v1/sagas/keyspace/users/migration/17`.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

import orjson
from pydantic import Field, StringConstraints

from muster.wire.error import InvalidCommand
from muster.wire.stream import CLUSTER, PATTERNS, SAGA, Name, named_stream, root_of, saga_name_of, saga_stream
from projections.migrations import MigrationRow
from workers.gateway import Gateway
from workers.http.exchange import JSON_OPTIONS, Reading, Reply, Request
from workers.http.reading import Reader
from workers.http.routing import Route
from workers.http.sagas.answers import State, in_state, newest_first, saga_item, saga_whole
from workers.http.sagas.model import SagaList, SagaWhole
from workers.http.sagas.verbs import verb_routes

_SAGAS: Final = "/v1/sagas"
_SAGA: Final = f"{_SAGAS}/{{kind}}/{{root}}/{{saga}}/{{number}}"
_STREAM: Final = re.compile(PATTERNS[SAGA])


class SagasQuery(Reading):
    """Which sagas are wanted: `running` are all that have not ended, blocked and paused ones too."""

    saga: Annotated[Name | None, Field(description="Only those of this name, like migration")] = None
    root: Annotated[
        Annotated[str, StringConstraints(max_length=200)] | None,
        Field(description="Only those of this root, by its stream, like keyspace/users"),
    ] = None
    state: Annotated[State | None, Field(description="Only those; `running` are all that have not ended")] = None
    limit: Annotated[int, Field(ge=1, le=1_000, description="How many at most")] = 100


@dataclass(frozen=True, slots=True)
class Sagas:
    """The reads of sagas."""

    gateway: Gateway
    reader: Reader

    async def list(self, request: Request) -> Reply:
        """The newest sagas that match, newest first."""
        query, partitions = request.asked(SagasQuery), tuple(range(self.gateway.partitions))
        await self.reader.settle(query, request.header(b"muster-token"), partitions)
        # From here to the answer nothing is awaited: all rows are of one state of the views.
        views, now = self.gateway.views.shards, datetime.now(UTC)
        rows = newest_first((row for row in views.migrations.values() if _matches(row, query)), query.limit)
        items = [saga_item(views, row, now) for row in rows]
        return self.reader.listing(orjson.dumps(items, option=JSON_OPTIONS), partitions)

    async def one(self, request: Request) -> Reply:
        """One saga, with its steps."""
        id_ = _id(request)
        # What it waits for may stand in the cluster's state.
        partitions = tuple({self.gateway.partition_of(stream) for stream in (id_, CLUSTER)})
        await self.reader.settle(request.reading(), request.header(b"muster-token"), partitions)
        views = self.gateway.views.shards
        return self.reader.whole(saga_whole(views, views.saga(id_), datetime.now(UTC)), partitions)


def _matches(row: MigrationRow, query: SagasQuery) -> bool:
    id_ = row.migration
    if query.saga not in (None, saga_name_of(id_)) or query.root not in (None, root_of(id_)):
        return False
    return in_state(row, query.state)


def _id(request: Request) -> str:
    root = named_stream(request.name("kind"), request.name("root"))
    return saga_stream(root, request.name("saga"), request.number("number"))


def _stream(request: Request) -> str:
    """The stream that a command is for. Raises InvalidCommand: no saga can have it, so no writer must be asked."""
    stream = _id(request)
    # A reader is answered by the views, which know every saga there is. A command is kept with its answer, so one for a
    # stream that no saga can have is refused before a writer sees it, as `/v1/commands` does.
    if not _STREAM.fullmatch(stream):
        raise InvalidCommand(f"stream: {stream!r} is no saga's", field="stream")
    return stream


def routes(gateway: Gateway, reader: Reader) -> tuple[Route, ...]:
    """The routes of sagas."""
    sagas, tag = Sagas(gateway, reader), "sagas"
    return (
        Route("GET", _SAGAS, sagas.list, "The newest sagas of all kinds", tag, answer=SagaList, query=SagasQuery),
        Route("GET", _SAGA, sagas.one, "One saga with its steps", tag, answer=SagaWhole),
        *verb_routes(gateway, _SAGA, _stream, tag, abort="Turn back, if the pivot has not been passed"),
    )
