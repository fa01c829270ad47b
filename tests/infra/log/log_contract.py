"""What every event log promises, as tests: a class of them that runs on each engine.

An engine is a place for logs: `log` opens the partition as another process would, `records` and `put` go past every
writer, and `damaged` is a log that holds the same records but for one.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, cast

import orjson
import pytest
from eventsourcing.persistence import StoredEvent

from domain.message import Recorded
from domain.registry.instance import InstanceDrainStarted
from infra.log.chain import Chain, link, term_started
from infra.log.codec import CloudEventMapper, Draft
from infra.log.port import START, Batch, Cursor, EventLog, Term
from muster.wire.error import Corrupt, CursorRefused, Fenced, Uncertain

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
STREAM = "service/orders"
RawRecord = tuple[bytes | None, bytes]


class Engine(Protocol):
    """A place for one log, as the tests need it."""

    def log(self, *, small_fetches: bool = False) -> EventLog:
        """The partition, as a process of its own sees it."""

    async def records(self) -> list[RawRecord]:
        """All that is stored, in order: key (None: the engine keeps none) and value."""

    async def put(self, key: bytes, value: bytes) -> None:
        """Store a record at the end, whoever reigns."""

    async def damaged(self, position: int, record: RawRecord | None) -> EventLog:
        """A log of the same records, but this one at the position; None: without it."""


@dataclass
class Writer:
    """A log with how far its writer is."""

    log: EventLog
    cursor: Cursor

    async def append(self, *names: str) -> None:
        records, cursor = sealed_batch(self.cursor, names)
        await self.log.append(records)
        self.cursor = cursor


async def reign(log: EventLog, writer: str = "first", after: Cursor = START) -> Writer:
    return Writer(log, await log.claim(writer, after))


def sealed_batch(cursor: Cursor, names: Sequence[str]) -> tuple[list[StoredEvent], Cursor]:
    """One event for each name, as a batch on the cursor's head."""
    drafts = [
        Draft(
            Recorded(
                partition=0,
                position=cursor.position + 1 + index,
                stream=STREAM,
                version=cursor.position + 1 + index,
                at=NOON,
                event=InstanceDrainStarted(instance=name),
                id=f"{name}-id",
                command_id=f"{name}-command",
                correlation_id=None,
                actor="tester",
                reason=None,
            ),
            command_hash=None,
            data=orjson.dumps({"instance": name}),
        )
        for index, name in enumerate(names)
    ]
    return CloudEventMapper().seal(drafts, cursor, commands_offset=None)


async def batches(log: EventLog, after: Cursor = START) -> list[Batch]:
    return [batch async for batch in log.read(after)]


async def history(log: EventLog, after: Cursor = START) -> list[list[str]]:
    """The names in each batch; batches of no records are left out."""
    return [names for batch in await batches(log, after) if (names := names_of(batch))]


def names_of(batch: Batch) -> list[str]:
    return [document["data"]["instance"] for _, document in batch.records]


async def end(log: EventLog) -> Cursor:
    return [START, *(batch.cursor for batch in await batches(log))][-1]


async def terms(log: EventLog, after: Cursor = START) -> list[Term]:
    return [term for batch in await batches(log, after) for term in batch.began]


async def voids(log: EventLog) -> int:
    return sum(batch.voids for batch in await batches(log))


def tailing(log: EventLog, after: Cursor) -> aclosing[AsyncGenerator[Batch, None]]:
    return aclosing(cast(AsyncGenerator[Batch, None], log.tail(after)))


async def up_to_the_damage(reading: AsyncGenerator[Batch, None]) -> list[list[str]]:
    """The names in each batch before the log is Corrupt."""
    found: list[list[str]] = []
    try:
        async for batch in reading:
            found.append(names_of(batch))
    except Corrupt:
        return found
    pytest.fail("no damage was seen")


async def claimed_in_the_end(log: EventLog, writer: str) -> Writer:
    """As a controller does it: claim again until nobody comes between."""
    while True:
        try:
            return await reign(log, writer, await end(log))
        except (Fenced, Uncertain):
            continue


def flipped(data: bytes, index: int, bit: int) -> bytes:
    return data[:index] + bytes([data[index] ^ (1 << bit)]) + data[index + 1 :]


class LogContract:
    """The promises. A subclass gives the fixture `engine`."""

    async def test_an_empty_log_has_no_batches(self, engine: Engine) -> None:
        assert await batches(engine.log()) == []

    async def test_each_claim_starts_the_next_term(self, engine: Engine) -> None:
        first = await engine.log().claim("first", START)
        second = await engine.log().claim("second", first)
        third = await engine.log().claim("third", START)

        assert [(cursor.term, cursor.writer) for cursor in (first, second, third)] == [
            (1, "first"),
            (2, "second"),
            (3, "third"),
        ]
        assert [cursor.position for cursor in (first, second, third)] == [0, 1, 2]

    async def test_the_cursor_of_a_claim_is_the_one_that_readers_have(self, engine: Engine) -> None:
        claimed = await engine.log().claim("first", START)

        assert [(list(batch.records), batch.cursor) for batch in await batches(engine.log())] == [([], claimed)]

    async def test_without_a_claim_nothing_is_appended(self, engine: Engine) -> None:
        records, _ = sealed_batch(START, ["a"])

        with pytest.raises((Fenced, Uncertain)):
            await engine.log().append(records)

        assert await engine.records() == []

    async def test_batches_are_read_back_whole(self, engine: Engine) -> None:
        writer = await reign(engine.log())
        await writer.append("a")
        await writer.append("b", "c", "d")
        await writer.append("e", "f")

        assert await history(engine.log()) == [["a"], ["b", "c", "d"], ["e", "f"]]
        assert await end(engine.log()) == writer.cursor

    async def test_records_stand_at_the_positions_they_were_appended_for(self, engine: Engine) -> None:
        writer = await reign(engine.log())
        await writer.append("a", "b")
        await writer.append("c")

        places = [position for batch in await batches(engine.log()) for position, _ in batch.records]
        assert places == [1, 2, 3]

    async def test_every_batch_end_is_a_place_to_go_on_from(self, engine: Engine) -> None:
        writer = await reign(engine.log())
        for names in ("a", "bc", "d", "efg"):
            await writer.append(*names)
        everything = await batches(engine.log())

        for index, batch in enumerate(everything):
            expected = [names_of(later) for later in everything[index + 1 :]]
            assert await history(engine.log(), batch.cursor) == [names for names in expected if names]

    async def test_small_fetches_give_no_half_batches(self, engine: Engine) -> None:
        writer = await reign(engine.log())
        sizes = (1, 7, 2, 30, 1)
        for number, size in enumerate(sizes):
            await writer.append(*(f"{number}-{index}" for index in range(size)))

        found = await history(engine.log(small_fetches=True))

        assert [len(names) for names in found] == list(sizes)
        assert await end(engine.log(small_fetches=True)) == writer.cursor

    async def test_a_tail_gives_what_is_appended_later(self, engine: Engine) -> None:
        log = engine.log()
        writer = await reign(log)
        await writer.append("before")
        async with tailing(log, START) as tail:
            assert names_of(await anext(batch async for batch in tail if batch.records)) == ["before"]

            await writer.append("after", "that")

            assert names_of(await anext(batch async for batch in tail if batch.records)) == ["after", "that"]

    async def test_a_tail_of_another_process_gives_it_too(self, engine: Engine) -> None:
        writer = await reign(engine.log())
        async with tailing(engine.log(), writer.cursor) as tail:
            waiting = asyncio.ensure_future(anext(tail))
            await writer.append("news")

            assert names_of(await waiting) == ["news"]

    async def test_a_deposed_writer_may_not_append(self, engine: Engine) -> None:
        deposed = await reign(engine.log(), "first")
        await deposed.append("history")
        await reign(engine.log(), "second", deposed.cursor)

        with pytest.raises((Fenced, Uncertain)):
            await deposed.append("late")

        assert await history(engine.log()) == [["history"]]

    async def test_a_deposed_writer_may_not_beat(self, engine: Engine) -> None:
        deposed = await reign(engine.log(), "first")
        await deposed.log.beat()
        await reign(engine.log(), "second", deposed.cursor)

        with pytest.raises((Fenced, Uncertain)):
            await deposed.log.beat()

    async def test_a_deposed_writer_stays_deposed(self, engine: Engine) -> None:
        deposed = await reign(engine.log(), "first")
        await reign(engine.log(), "second", deposed.cursor)

        for _ in range(3):
            with pytest.raises((Fenced, Uncertain)):
                await deposed.append("late")
            with pytest.raises((Fenced, Uncertain)):
                await deposed.log.beat()

        assert await history(engine.log()) == []

    async def test_a_deposed_writer_may_claim_again(self, engine: Engine) -> None:
        log = engine.log()
        await (await reign(log, "first")).append("a")
        await (await reign(engine.log(), "second")).append("b")
        again = await reign(log, "first")
        await again.append("c")
        await log.beat()

        assert await history(engine.log()) == [["a"], ["b"], ["c"]]
        assert again.cursor.term == 3

    async def test_beats_leave_the_log_as_it_is(self, engine: Engine) -> None:
        writer = await reign(engine.log())
        for _ in range(3):
            await writer.log.beat()
        await writer.append("a")
        await writer.log.beat()

        assert len(await engine.records()) == 2

    async def test_appends_and_beats_may_overlap(self, engine: Engine) -> None:
        writer = await reign(engine.log())
        for number in range(5):
            await asyncio.gather(writer.append(str(number)), writer.log.beat(), writer.log.beat())

        assert await history(engine.log()) == [[str(number)] for number in range(5)]

    async def test_of_two_who_claim_at_once_one_reigns(self, engine: Engine) -> None:
        rivals = await asyncio.gather(
            claimed_in_the_end(engine.log(), "left"), claimed_in_the_end(engine.log(), "right")
        )

        beats = await asyncio.gather(*(rival.log.beat() for rival in rivals), return_exceptions=True)
        appends = await asyncio.gather(*(rival.append(rival.cursor.writer) for rival in rivals), return_exceptions=True)

        winner = max(rivals, key=lambda rival: rival.cursor.term)
        assert rivals[0].cursor.term != rivals[1].cursor.term
        assert beats[1 - rivals.index(winner)] is not None, "the deposed one has proved a reign"
        assert appends[1 - rivals.index(winner)] is not None, "the deposed one was acknowledged"
        assert (await end(engine.log())).term == winner.cursor.term

    async def test_every_reader_knows_the_terms_by_the_beginnings_of_their_links(self, engine: Engine) -> None:
        first = await reign(engine.log(), "first")
        await first.append("a", "b")
        await engine.put(b"x", b"foreign")
        second = await reign(engine.log(), "second", await end(engine.log()))
        await second.append("c")
        starts = [(position, (await engine.records())[position][1]) for position in (0, 4)]
        expected = [
            Term(position, number, link(b"term", value).hex()[:8]) for number, (position, value) in enumerate(starts, 1)
        ]

        assert await terms(engine.log()) == expected
        assert await terms(engine.log(small_fetches=True)) == expected
        assert await terms(engine.log(), first.cursor) == expected[1:]
        assert await terms(engine.log(), second.cursor) == []

    async def test_logs_that_were_written_apart_share_the_terms_up_to_there_and_none_behind(
        self, engine: Engine
    ) -> None:
        writer = await reign(engine.log(), "first")
        await writer.append("a")
        copy = await engine.damaged(1, (await engine.records())[1])
        await reign(engine.log(), "left", writer.cursor)
        await reign(copy, "right", writer.cursor)

        here, there = await terms(engine.log()), await terms(copy)
        assert here[0] == there[0]
        assert here[1][:2] == there[1][:2] == (2, 2)
        assert here[1].mark != there[1].mark

    async def test_a_log_without_a_term_has_no_mark(self, engine: Engine) -> None:
        await engine.put(b"x", b"foreign")
        assert await terms(engine.log()) == []

    async def test_whatever_rivals_do_acknowledged_is_history(self, engine: Engine) -> None:
        acknowledged: list[str] = []

        async def rival(writer: str) -> None:
            log = engine.log()
            for claim in range(3):
                reigning = await claimed_in_the_end(log, writer)
                try:
                    for number in range(4):
                        name = f"{writer}-{claim}-{number}"
                        await reigning.append(name)
                        acknowledged.append(name)
                        await asyncio.sleep(0)
                except (Fenced, Uncertain):
                    pass

        await asyncio.gather(rival("left"), rival("right"), rival("middle"))

        found = [name for names in await history(engine.log()) for name in names]
        assert len(found) == len(set(found))
        assert set(acknowledged) <= set(found)

    async def test_a_batch_for_another_position_is_refused_and_never_history(self, engine: Engine) -> None:
        for shift in (-1, 1):
            writer = await reign(engine.log(), "first", await end(engine.log()))
            there = Cursor(
                writer.cursor.position + shift,
                writer.cursor.head_position,
                writer.cursor.head,
                writer.cursor.term,
                writer.cursor.writer,
            )
            records, _ = sealed_batch(there, ["elsewhere"])

            with pytest.raises((Fenced, Uncertain)):
                await writer.log.append(records)

        assert await history(engine.log()) == []

    async def test_a_deposed_writers_record_is_void(self, engine: Engine) -> None:
        deposed = await reign(engine.log(), "first")
        await deposed.append("a")
        late, _ = sealed_batch(deposed.cursor, ["late"])
        await reign(engine.log(), "second", deposed.cursor)
        await engine.put(STREAM.encode(), late[0].state)

        assert (await history(engine.log()), await voids(engine.log())) == ([["a"]], 1)

    async def test_a_start_that_lost_its_race_is_void(self, engine: Engine) -> None:
        before = await end(engine.log())
        await reign(engine.log(), "winner")
        lost = term_started(before, "loser", NOON, "/muster/default")
        await engine.put(b"term", lost.state)

        last = await end(engine.log())
        assert (last.term, last.writer, last.position) == (1, "winner", 1)
        assert await voids(engine.log()) == 1

    async def test_foreign_bytes_are_void(self, engine: Engine) -> None:
        await engine.put(b"", b"")
        await engine.put(b"whatever", b"{}")
        await reign(engine.log())
        await engine.put(b"term", b"\x00\xff not ours")

        assert (await history(engine.log()), await voids(engine.log())) == ([], 3)

    async def test_void_records_move_positions_and_cursors_behind_them_hold(self, engine: Engine) -> None:
        await engine.put(b"x", b"foreign")
        only_voids = await end(engine.log())
        assert (only_voids.position, only_voids.head_position) == (0, -1)

        first = await reign(engine.log(), "first", only_voids)
        await first.append("a")
        await engine.put(b"x", b"foreign")
        behind = await end(engine.log())
        assert (behind.position, behind.head_position) == (3, 2)

        second = await reign(engine.log(), "second", behind)
        await second.append("b")
        assert await history(engine.log(), behind) == [["b"]]
        assert await history(engine.log(), only_voids) == [["a"], ["b"]]

    async def test_a_stranger_between_two_appends_ends_the_reign(self, engine: Engine) -> None:
        log = engine.log()
        writer = await reign(log)
        await engine.put(b"x", b"foreign")

        with pytest.raises((Fenced, Uncertain)):
            await writer.append("a")

        again = await reign(log, "first", writer.cursor)
        await again.append("b")
        assert (await history(engine.log()))[-1] == ["b"]

    async def test_a_missing_record_is_corrupt(self, engine: Engine) -> None:
        writer = await reign(engine.log())
        await writer.append("a")
        await writer.append("b", "c")
        await writer.append("d")

        for position in range(4):
            with pytest.raises(Corrupt) as stopped:
                await batches(await engine.damaged(position, None))
            assert stopped.value.context["position"] in (position, position + 1)

    async def test_before_the_damage_all_is_history(self, engine: Engine) -> None:
        writer = await reign(engine.log())
        await writer.append("a")
        await writer.append("b", "c")
        key, value = (await engine.records())[3]
        damaged = await engine.damaged(3, (key, flipped(value, 100, 0)))

        async with aclosing(cast(AsyncGenerator[Batch, None], damaged.read(START))) as reading:
            found = await up_to_the_damage(reading)

        assert found[-1] == ["a"]

    async def test_a_damaged_log_is_not_claimed(self, engine: Engine) -> None:
        writer = await reign(engine.log())
        await writer.append("a")
        key, value = (await engine.records())[1]
        damaged = await engine.damaged(1, (key, flipped(value, 100, 0)))

        with pytest.raises(Corrupt):
            await damaged.claim("second", START)

    async def test_a_tail_stops_at_damage(self, engine: Engine) -> None:
        writer = await reign(engine.log())
        await writer.append("a")
        key, value = (await engine.records())[1]
        damaged = await engine.damaged(1, (key, flipped(value, 100, 0)))

        async with tailing(damaged, START) as tail:
            await up_to_the_damage(tail)

    async def test_any_byte_flipped_is_corrupt_at_its_position(self, engine: Engine) -> None:
        writer = await reign(engine.log())
        await writer.append("a")
        await writer.append("b", "c")
        stored = await engine.records()

        for position, (key, value) in enumerate(stored):
            for index in range(len(value)):
                for bit in range(8):
                    copy = list(stored)
                    copy[position] = (key, flipped(value, index, bit))
                    with pytest.raises(Corrupt) as stopped:
                        list(Chain(0, START).follow((place, *record) for place, record in enumerate(copy)))
                    assert stopped.value.context["position"] == position

    async def test_a_flipped_byte_is_seen_where_it_is_stored(self, engine: Engine) -> None:
        writer = await reign(engine.log())
        await writer.append("a")
        await writer.append("b", "c")
        stored = await engine.records()

        for position, (key, value) in enumerate(stored):
            for index in self.flips_to_store(len(value)):
                damaged = await engine.damaged(position, (key, flipped(value, index, index % 8)))
                with pytest.raises(Corrupt) as stopped:
                    await batches(damaged)
                assert stopped.value.context["position"] == position

    def flips_to_store(self, length: int) -> Sequence[int]:
        return range(length)

    async def test_a_cursor_that_the_log_contradicts_is_refused(self, engine: Engine) -> None:
        writer = await reign(engine.log())
        await writer.append("a")
        known = writer.cursor
        here, head, term, writing = known.position, known.head, known.term, known.writer
        lies = [
            Cursor(here, here, bytes(31) + b"\x01", term, writing),
            Cursor(here, here - 1, head, term, writing),
            Cursor(here + 1, here, head, term, writing),
            Cursor(here + 7, here + 7, head, term, writing),
        ]

        for lie in lies:
            with pytest.raises(CursorRefused):
                await batches(engine.log(), lie)
            with pytest.raises(CursorRefused):
                async with tailing(engine.log(), lie) as tail:
                    await anext(tail)
            with pytest.raises(CursorRefused):
                await engine.log().claim("second", lie)
