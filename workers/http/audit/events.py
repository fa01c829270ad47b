"""Reads of the past: the log's events, and what happened to an instance. The bodies come from the log itself."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson

from domain.message import to_plain
from infra.log.chain import TERM_STARTED
from infra.log.codec import CloudEventMapper
from infra.log.port import Archive, Document
from muster.wire.error import NotReady
from muster.wire.stream import service_stream
from muster.wire.token import Positions, format_positions, format_token
from workers.http.audit.asked import Asked, EventsQuery, asked
from workers.http.audit.page import FoundEvents, MergedPage, newest, oldest
from workers.http.audit.scan import Scan, size_of
from workers.http.exchange import Reading, Reply, Request
from workers.http.model import EventList, HistoryList
from workers.http.reading import Reader
from workers.http.routing import Route
from workers.views.views import Views

scanned_records_max: Final = 20_000
page_bytes_max: Final = 524_288
pages_at_once_max: Final = 2
"""What a page is made of takes many times the page: so many are made at a time, and all others wait with their few bytes."""
_OURS: Final = frozenset(("type", "term", "time", "subject"))


Part = tuple[FoundEvents, int, int]
"""What was found in a partition, and between which positions: behind this one, up to that one."""


@dataclass(frozen=True, slots=True)
class Past:
    """The reads of the log. The mapper is needed only where events are compressed or enciphered."""

    reader: Reader
    mapper: CloudEventMapper
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(pages_at_once_max))

    async def history(self, request: Request) -> Reply:
        """The newest events of the instance, also of one that has gone; as many as first have `page_bytes_max` together."""
        service, instance = request.name("service"), request.name("instance")
        gateway = self.reader.gateway
        partition = gateway.partition_of(service_stream(service))
        await self.reader.settle(request.reading(), request.header(b"muster-token"), (partition,))
        row = gateway.views.registry.history_of(service, instance)
        async with self.turns:
            items = await self._history(partition, row.positions)
        token, age, headers = self.reader.marks((partition,))
        return Reply(
            orjson.dumps({"items": items, "count": row.events, "token": token, "age_seconds": age}), 200, headers
        )

    async def _history(self, partition: int, positions: Sequence[int]) -> list[dict[str, object]]:
        archive = self._archive(partition)
        runs = (archive.fetch(first - 1, count) for first, count in _runs(positions))
        wanted = set(positions)
        records = [record for run in await asyncio.gather(*runs) for record in run if record[0] in wanted]
        found = _newest([(position, document) for position, document in records if document is not None])
        return [self._item(partition, position, document) for position, document in found]

    async def events(self, request: Request) -> Reply:
        """Events in order, the newest last: up to `limit` or `page_bytes_max`, of at most `scanned_records_max` looked at."""
        query = request.asked(EventsQuery)
        self.reader.ready()
        async with self.turns:
            return await self._page(query)

    async def _page(self, query: EventsQuery) -> Reply:
        gateway = self.reader.gateway
        found = asked(query, gateway.views, gateway.partitions)
        partitions = self._partitions(query)
        parts = await asyncio.gather(*(self._part(found, number, len(partitions)) for number in partitions))
        page = (newest if query.backwards else oldest)([part for part, _, _ in parts], query.limit)
        token, _, headers = self.reader.marks(partitions)
        body = {
            "items": [self._event(partition, position, event) for (_, partition, position), event in page.events],
            "next_after": -1 if query.merged else page.goes_on[partitions[0]],
            "token": token,
            **(_goes_on(gateway.views, query, page, parts) if query.merged else {}),
        }
        return Reply(orjson.dumps(body), 200, headers)

    async def _part(self, found: Asked, partition: int, of: int) -> Part:
        """What is found in one of so many partitions, and between which positions it was looked for: behind, up to."""
        views, query = self.reader.gateway.views, found.query
        scan = Scan(
            partition,
            self._archive(partition),
            is_history=lambda position, document: is_history(views, partition, position, document),
            wants=lambda position, document, at: self._wanted(found, partition, position, document, at),
            limit=query.limit,
            # A filter that nothing matches would read the whole log in one request.
            records_max=scanned_records_max // of,
            # The answer is made whole, and each client that does not read it would hold one.
            bytes_max=page_bytes_max // of,
        )
        # Only as far as the views have come: by their terms it is known which records are history.
        end = views.cursors[partition].position
        end = min(end, found.before.get(partition, end + 1) - 1)
        begin = found.behind.get(partition, query.after)
        after, until = await scan.between(query.since, query.until, begin, end)
        if query.backwards:
            return await scan.backwards(after, until), after, end
        # A view that is behind the page before has nothing to add, and must not take it back.
        if begin >= end:
            return FoundEvents(partition, (), begin, None), begin, end
        part = await scan.forwards(after, until)
        # Behind `until` there is nothing to be found, now or later; before it, the next page goes on where this one ended.
        return part, after, end

    def _wanted(self, found: Asked, partition: int, position: int, document: Document, at: datetime) -> bool:
        if not found.wants(document, at):
            return False
        # Last, since a body may have to be opened for it.
        instance = found.query.instance
        return instance is None or self._data(partition, position, document).get("instance") == instance

    def _partitions(self, query: EventsQuery) -> tuple[int, ...]:
        gateway = self.reader.gateway
        if query.partition is not None:
            return (query.partition,)
        if query.stream is not None:
            return (gateway.partition_of(query.stream),)
        return tuple(range(gateway.partitions)) if query.merged else (0,)

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


def _newest(records: Sequence[tuple[int, Document]]) -> Sequence[tuple[int, Document]]:
    size = 0
    for left, (_, document) in reversed(tuple(enumerate(records))):
        size += size_of(document)
        if size >= page_bytes_max:
            return records[left:]
    return records


def is_history(views: Views, partition: int, position: int, document: Document) -> bool:
    """Whether the record is part of history: of the term that reigned at its position, by the views' terms."""
    # Whoever may write to the topic can leave documents in it that are none of ours.
    if not document.keys() >= _OURS:
        return False
    # What a writer appended after another one had taken over stays in the log, and counts for nothing.
    term = views.terms[partition].at(position)
    if document["type"] == TERM_STARTED:
        return term is not None and (position, document["term"]) == (term.position, term.number)
    return term is None or bool(term.number == document["term"])


def _goes_on(views: Views, query: EventsQuery, page: MergedPage, parts: Sequence[Part]) -> dict[str, str | None]:
    """Where a reader goes on: `behind` what it has, and `before` it (None: there is nothing any more)."""

    def seen(positions: Positions) -> str:
        return format_token({partition: views.place(partition, position) for partition, position in positions.items()})

    if query.backwards:
        left = any(page.goes_on[part.partition] > after + 1 for part, after, _ in parts)
        behind = {part.partition: end for part, _, end in parts if end >= 0}
        return {"behind": seen(behind), "before": format_positions(page.goes_on) if left else None}
    before = {part.partition: after + 1 for part, after, _ in parts}
    behind = {partition: position for partition, position in page.goes_on.items() if position >= 0}
    return {"behind": seen(behind), "before": format_positions(before)}


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
            description="The log's events in order: of one partition, and if asked of one stream or type. Or the newest of all "
            "(`newest`), and from there on (`behind`, `before`).",
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
