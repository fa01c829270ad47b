"""Reading a partition for a page of events: forwards or backwards, between times, up to a bound."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson

from infra.log.port import Archive, Document
from workers.http.audit.page import FoundEvents, Place

fetch_records_max: Final = 2_000
fetch_records_first: Final = 200
probed_records: Final = 16

_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
_LATEST: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Scan:
    """One partition of the log. `is_history` judges a record by its position: rivals' records are none.

    `wants` says whether an event is one of those asked for. `limit` of them are enough, or those that first have `bytes_max`
    together, as JSON; `records_max` are read at most.
    """

    partition: int
    archive: Archive
    is_history: Callable[[int, Document], bool]
    wants: Callable[[int, Document, datetime], bool]
    limit: int
    records_max: int
    bytes_max: int

    async def forwards(self, after: int, end: int) -> FoundEvents:
        """The oldest behind position `after`, up to `end`."""
        events: list[tuple[Place, Document]] = []
        position, last, size = after, _EARLIEST, 0
        stop = min(end, after + self.records_max)
        while position < stop and not self._full(events, size):
            found = await self.archive.fetch(position, min(fetch_records_max, stop - position))
            if not found:
                break
            # `position` moves with each record looked at, so the next page begins after it, wherever this one ends.
            for position, document in found:
                if document is not None and self.is_history(position, document):
                    last = _time(document)
                    if self.wants(position, document, last):
                        events.append(((last, self.partition, position), document))
                        size += size_of(document)
                        if self._full(events, size):
                            break
        edge = (last, self.partition, position) if position < end else None
        return FoundEvents(self.partition, events, position, edge)

    async def backwards(self, after: int, end: int) -> FoundEvents:
        """The newest up to position `end`, behind `after`."""
        events: list[tuple[Place, Document]] = []
        position, last, size = end + 1, _LATEST, 0
        stop = max(after, end - self.records_max)
        # Few at first: most who ask for the newest are answered by the end of the log.
        step = fetch_records_first
        while position > stop + 1 and not self._full(events, size):
            first = max(stop, position - 1 - step)
            found = await self.archive.fetch(first, position - 1 - first)
            for at, document in reversed(found):
                if document is None or not self.is_history(at, document):
                    continue
                last = _time(document)
                if self.wants(at, document, last):
                    events.append(((last, self.partition, at), document))
                    size += size_of(document)
                    if self._full(events, size):
                        first = at - 1
                        break
            position, step = first + 1, fetch_records_max
        edge = (last, self.partition, position) if position > after + 1 else None
        return FoundEvents(self.partition, events[::-1], position, edge)

    def _full(self, events: Sequence[object], size: int) -> bool:
        return len(events) >= self.limit or size >= self.bytes_max

    async def between(self, since: datetime | None, until: datetime | None, after: int, end: int) -> tuple[int, int]:
        """(after, end) of the smallest stretch within these that surely holds all events of these times."""
        # A long stretch without events has no time. It is taken in, from whichever side it is looked at.
        if since is not None:
            after = await self._first_at(since, after, end, unknown=_LATEST) - 1
        if until is not None:
            end = await self._first_at(until + timedelta(microseconds=1), after, end, unknown=_EARLIEST) - 1
        return after, end

    async def _first_at(self, at: datetime, after: int, end: int, unknown: datetime) -> int:
        """The first position behind `after` of that time or later; `end` + 1 if there is none up to `end`.

        Instants in a partition never run backwards, so it is found by halves: 20 looks into a million records.
        """
        first = end + 1
        while first - after > 1:
            middle = (after + first) // 2
            if (await self._time_from(middle, end) or unknown) >= at:
                first = middle
            else:
                after = middle
        return first

    async def _time_from(self, position: int, end: int) -> datetime | None:
        """The time of the first event from the position on; None: there is none near."""
        for at, document in await self.archive.fetch(position - 1, min(probed_records, end - position + 1)):
            if document is not None and self.is_history(at, document):
                return _time(document)
        return None


def _time(document: Document) -> datetime:
    return datetime.fromisoformat(document["time"])


def size_of(document: Document) -> int:
    """Its bytes as JSON: about what it adds to an answer."""
    return len(orjson.dumps(document))
