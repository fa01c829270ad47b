"""Reads of the past: the log's events, and what happened to an instance. The bodies come from the log itself."""

import asyncio
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from domain.message import to_plain
from infra.log.chain import TERM_STARTED
from infra.log.codec import CloudEventMapper
from infra.log.port import Archive, Document
from muster.wire.error import InvalidCommand, NotReady
from muster.wire.stream import service_stream
from workers.http.exchange import Reading, Reply, Request
from workers.http.model import EventList, HistoryList
from workers.http.reading import Reader
from workers.http.routing import Route
from workers.views.views import Views

events_max: Final = 1_000
scanned_records_max: Final = 20_000
fetch_records_max: Final = 2_000


def _within_a_log(position: int) -> int:
    """Positions are 64 bits wide, as offsets of Kafka and rows of SQLite are."""
    if position >= 2**63:
        raise InvalidCommand("after: a position is below 2^63", field="after")
    return position


class EventsQuery(BaseModel):
    """Which events: of a stream, of a type, of a partition (the stream's, or 0), behind a position."""

    model_config = ConfigDict(extra="forbid")
    stream: Annotated[str, Field(max_length=300)] | None = None
    type: Annotated[str, Field(max_length=200)] | None = None
    partition: Annotated[int, Field(ge=0)] | None = None
    after: Annotated[int, Field(ge=-1), AfterValidator(_within_a_log)] = -1
    limit: Annotated[int, Field(ge=1, le=events_max)] = 100


@dataclass(frozen=True, slots=True)
class Past:
    """The reads of the log. The mapper is needed only where events are compressed or enciphered."""

    reader: Reader
    mapper: CloudEventMapper

    async def history(self, request: Request) -> Reply:
        """The newest events of the instance, also of one that has gone."""
        service, instance = request.name("service"), request.name("instance")
        gateway = self.reader.gateway
        partition = gateway.partition_of(service_stream(service))
        await self.reader.settle(request.reading(), request.header(b"muster-token"), (partition,))
        row = gateway.views.registry.history_of(service, instance)
        archive = self._archive(partition)
        runs = (archive.fetch(first - 1, count) for first, count in _runs(row.positions))
        wanted = set(row.positions)
        records = [record for run in await asyncio.gather(*runs) for record in run if record[0] in wanted]
        items = [self._item(partition, position, found) for position, found in records if found is not None]
        token, age, headers = self.reader.marks((partition,))
        return Reply(
            orjson.dumps({"items": items, "count": row.events, "token": token, "age_seconds": age}), 200, headers
        )

    async def events(self, request: Request) -> Reply:
        """Events in order, up to `limit`, of at most `scanned_records_max` records looked at."""
        query = request.asked(EventsQuery)
        self.reader.ready()
        partition = self._partition(query)
        archive, views = self._archive(partition), self.reader.gateway.views
        # Only as far as the views have come: by their terms it is known which records are history.
        end, after = views.cursors[partition].position, query.after
        items: list[dict[str, Any]] = []
        # The limit on records looked at: a filter that nothing matches would read the whole log in one request.
        while after < min(end, query.after + scanned_records_max) and len(items) < query.limit:
            found = await archive.fetch(after, min(fetch_records_max, end - after))
            if not found:
                break
            # `after` moves with each record looked at, so the next page begins after it, wherever this one ends.
            for after, document in found:
                if document is not None and _wanted(query, document) and is_history(views, partition, after, document):
                    items.append(self._event(partition, after, document))
                    if len(items) == query.limit:
                        break
        token, _, headers = self.reader.marks((partition,))
        return Reply(orjson.dumps({"items": items, "next_after": after, "token": token}), 200, headers)

    def _partition(self, query: EventsQuery) -> int:
        gateway = self.reader.gateway
        if query.partition is not None:
            if query.partition >= gateway.partitions:
                raise InvalidCommand(f"partition: there are {gateway.partitions}", field="partition")
            return query.partition
        return 0 if query.stream is None else gateway.partition_of(query.stream)

    def _archive(self, partition: int) -> Archive:
        archive = self.reader.gateway.archives.get(partition)
        if archive is None:
            raise NotReady(f"the log of partition {partition} cannot be read here; ask another controller")
        return archive

    def _item(self, partition: int, position: int, document: Document) -> dict[str, Any]:
        return {
            "position": position,
            "at": document["time"],
            "type": document["type"],
            "data": self._data(partition, position, document),
            "actor": document.get("actor"),
            "reason": document.get("reason"),
            "command_id": document.get("causationid"),
            "version": document.get("streamversion"),
        }

    def _event(self, partition: int, position: int, document: Document) -> dict[str, Any]:
        return {
            **self._item(partition, position, document),
            "partition": partition,
            "stream": document["subject"],
            "correlation_id": document.get("correlationid"),
        }

    def _data(self, partition: int, position: int, document: Document) -> Any:
        # A body that is compressed or enciphered does not stand under `data`; the mapper opens it.
        if "data" in document:
            return document["data"]
        event = self.mapper.recorded(partition, position, document).event
        return to_plain(event)


def is_history(views: Views, partition: int, position: int, document: Document) -> bool:
    """Whether the record is part of history: of the term that reigned at its position, by the views' terms."""
    # What a writer appended after another one had taken over stays in the log, and counts for nothing.
    terms = views.terms[partition]
    if document["type"] == TERM_STARTED:
        return (position, document["term"]) in terms
    index = bisect_right(terms, position, key=lambda term: term[0]) - 1
    return index < 0 or bool(terms[index][1] == document["term"])


def _wanted(query: EventsQuery, document: Document) -> bool:
    if query.stream is not None and document["subject"] != query.stream:
        return False
    if query.type is None:
        # Starts of terms are the log's own affair: a caller that wants them asks for their type.
        return bool(document["type"] != TERM_STARTED)
    return bool(document["type"] == query.type)


def _runs(positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The positions as runs (first, count): one fetch each."""
    first, count = positions[0], 0
    for position in positions:
        if position != first + count:
            yield first, count
            first, count = position, 0
        count += 1
    yield first, count


def routes(past: Past) -> tuple[Route, ...]:
    """The reads of the log."""
    return (
        Route(
            "GET",
            "/v1/events",
            past.events,
            summary="Events",
            description="The log's events in order: of one partition, and if asked of one stream or type.",
            tag="audit",
            answer=EventList,
            query=EventsQuery,
        ),
        Route(
            "GET",
            "/v1/history/{service}/{instance}",
            past.history,
            summary="History",
            description="What happened to an instance, when, by whom and why; also after it has gone.",
            tag="audit",
            answer=HistoryList,
            query=Reading,
        ),
    )
