"""Pages of several partitions: whatever the bounds, read on from page to page they are the whole, once, in order."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from infra.log.port import Document
from workers.http.audit.page import FoundEvents, MergedPage, newest, oldest
from workers.http.audit.scan import Scan

BEGAN = datetime(2026, 1, 31, 3, 0, tzinfo=UTC)


@dataclass
class MemoryArchive:
    """A partition whose records have these seconds; None: no document of ours."""

    seconds: list[int | None]
    fetched: int = 0

    async def fetch(self, after: int, limit: int) -> list[tuple[int, Document | None]]:
        found = list(enumerate(self.seconds))[after + 1 : after + 1 + limit]
        self.fetched += len(found)
        return [(at, None if seconds is None else {"time": at_second(seconds).isoformat()}) for at, seconds in found]


def at_second(seconds: int) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def scan(number: int, archive: MemoryArchive, limit: int = 1_000, records_max: int = 1_000, **more: Any) -> Scan:
    wants: Callable[..., bool] = more.get("wants", lambda position, document, at: True)
    bytes_max: int = more.get("bytes_max", 1 << 20)
    return Scan(number, archive, lambda position, document: True, wants, limit, records_max, bytes_max)


LOGS = st.lists(
    st.lists(st.one_of(st.none(), st.integers(0, 20)), max_size=25).map(
        # Instants of a partition never run backwards.
        lambda seconds: in_order(seconds)
    ),
    min_size=1,
    max_size=4,
)


def in_order(seconds: list[int | None]) -> list[int | None]:
    rest = iter(sorted(each for each in seconds if each is not None))
    return [None if each is None else next(rest) for each in seconds]


def every(logs: list[list[int | None]], wanted: Callable[[int], bool]) -> list[tuple[datetime, int, int]]:
    return sorted(
        (at_second(seconds), number, at)
        for number, log in enumerate(logs)
        for at, seconds in enumerate(log)
        if seconds is not None and wanted(at)
    )


def paged(
    logs: list[list[int | None]], limit: int, records_max: int, bytes_max: int, odd: bool, *, backwards: bool
) -> list[Any]:
    """All pages of the logs, put together."""

    async def page(places: dict[int, int]) -> tuple[MergedPage, list[FoundEvents]]:
        parts = []
        for number, log in enumerate(logs):
            wants: Callable[..., bool] = lambda at, _document, _at: not odd or at % 2  # noqa: E731
            here = scan(number, MemoryArchive(log), limit, records_max, wants=wants, bytes_max=bytes_max)
            if backwards:
                parts.append(await here.backwards(-1, places[number] - 1))
            else:
                parts.append(await here.forwards(places[number], len(log) - 1))
        return (newest if backwards else oldest)(parts, limit), parts

    found: list[Any] = []
    places = {number: len(log) if backwards else -1 for number, log in enumerate(logs)}
    while any(places[number] > 0 if backwards else places[number] < len(log) - 1 for number, log in enumerate(logs)):
        told, _ = asyncio.run(page(places))
        assert told.goes_on != places, "a page that gets nowhere would be asked for for ever"
        places = dict(told.goes_on)
        new = [place for place, _ in told.events]
        assert len(new) <= limit
        found = new + found if backwards else found + new
    return found


@given(LOGS, st.integers(1, 6), st.integers(1, 9), st.sampled_from((1, 90, 1_000)), st.booleans(), st.booleans())
def test_pages_are_the_whole_once_and_in_order(
    logs: list[list[int | None]], limit: int, records_max: int, bytes_max: int, odd: bool, backwards: bool
):
    found = paged(logs, limit, records_max, bytes_max, odd, backwards=backwards)
    assert found == every(logs, lambda at: not odd or at % 2 == 1)


@given(LOGS.map(lambda logs: logs[0]), st.integers(-1, 21), st.integers(-1, 21))
def test_a_stretch_between_times_holds_all_events_of_them(log: list[int | None], first: int, last: int):
    async def stretch() -> tuple[int, int]:
        return await scan(0, MemoryArchive(log)).between(at_second(first), at_second(last), -1, len(log) - 1)

    after, end = asyncio.run(stretch())
    inside = [at for at, seconds in enumerate(log) if seconds is not None and first <= seconds <= last]
    assert all(after < at <= end for at in inside)


async def test_a_time_is_found_in_a_long_log_without_reading_it():
    archive = MemoryArchive(list(range(200_000)))
    after, end = await scan(0, archive).between(at_second(150_000), at_second(150_010), -1, 199_999)
    assert (after, end) == (149_999, 150_010)
    assert archive.fetched < 2_000


async def test_the_newest_are_read_from_the_end():
    archive = MemoryArchive(list(range(200_000)))
    found = await scan(0, archive, limit=10, records_max=20_000).backwards(-1, 199_999)
    assert [place[2] for place, _ in found.events] == list(range(199_990, 200_000))
    assert archive.fetched <= 200


async def test_a_page_ends_with_the_event_that_makes_it_long_enough():
    archive = MemoryArchive(list(range(100)))
    size = len(orjson.dumps({"time": at_second(0).isoformat()}))
    forwards = await scan(0, archive, bytes_max=3 * size).forwards(-1, 99)
    assert ([place[2] for place, _ in forwards.events], forwards.reached) == ([0, 1, 2], 2)
    backwards = await scan(0, archive, bytes_max=3 * size - 1).backwards(-1, 99)
    assert ([place[2] for place, _ in backwards.events], backwards.reached) == ([97, 98, 99], 97)
