"""Verification: a sound log is told so, and every kind of breach is found where it is."""

import asyncio
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings

from infra.log.chain import sealed
from infra.log.port import START
from infra.log.recorder import RecorderLog
from muster.wire.route import partition_of
from tests.sample import registered
from tests.servers import run
from tests.workers.writer.history import HISTORIES, MAPPER, History, Told, batches, open_folder
from workers.audit.segment import Breach, VerifyReport, report
from workers.audit.verify import verify, walk
from workers.audit.verify_parallel import verify_in_parallel

ORDERS, USERS = "service/orders", "service/users"


async def some_history() -> History:
    """Five events in three batches of two terms: positions 0 term, 1, 2-3, 4 term, 5-6."""
    history = History()
    await history.add((ORDERS, registered("a")))
    await history.add((ORDERS, registered("b", incarnation=1)), (USERS, registered("u")))
    await history.reign("w2")
    await history.add((ORDERS, registered("c", incarnation=2)), (USERS, registered("v", incarnation=1)))
    return history


async def breach_of(log: RecorderLog, *, fold: bool = False) -> Breach:
    found = await verify(log, MAPPER, fold=fold)
    assert found.breach is not None
    assert found.head.position < found.breach.position
    return found.breach


async def test_a_sound_log_is_counted() -> None:
    history = await some_history()
    expected = VerifyReport(partition=0, events=5, terms=2, voids=0, streams=2, head=history.cursor, breach=None)
    assert await verify(history.log, MAPPER) == expected
    assert await verify(history.log, MAPPER, fold=True) == expected


async def test_an_empty_log_is_sound() -> None:
    assert await verify(History().log, MAPPER) == VerifyReport(0, 0, 0, 0, 0, START, None)


async def test_void_records_are_counted() -> None:
    history = await some_history()
    history.put_foreign_bytes()
    found = await verify(history.log, MAPPER)
    assert (found.voids, found.head.position, found.breach) == (1, 7, None)


@pytest.mark.parametrize("position", range(7))
async def test_a_flipped_byte_is_found_at_its_record(position: int) -> None:
    history = await some_history()
    value = history.value(position)
    for index in range(0, len(value), 7):
        damaged = value[:index] + bytes([value[index] ^ 4]) + value[index + 1 :]
        assert (await breach_of(history.with_record(position, damaged))).position == position


@pytest.mark.parametrize("position", range(6))
async def test_a_missing_record_is_found_behind_the_gap(position: int) -> None:
    history = await some_history()
    breach = await breach_of(history.with_record(position, None))
    assert (breach.position, breach.reason) == (position, f"record {position} is missing")


async def test_a_gap_in_a_streams_versions_is_found() -> None:
    history = await some_history()
    await history.add((ORDERS, registered("d", incarnation=4)), skip_versions=1)
    breach = await breach_of(history.log)
    assert breach == Breach(7, "version 4 of service/orders, where 3 comes next")


async def test_a_stream_that_does_not_begin_at_zero_is_found() -> None:
    history = await some_history()
    await history.add(("service/new", registered("d", incarnation=1)), skip_versions=1)
    assert await breach_of(history.log) == Breach(7, "version 1 of service/new, where 0 comes next")


async def test_time_that_runs_backwards_is_found() -> None:
    history = await some_history()
    await history.add((ORDERS, registered("d", incarnation=3)), seconds_back=3)
    breach = await breach_of(history.log)
    assert breach.position == 7
    assert breach.reason.startswith("time runs backwards")


async def test_an_event_that_cannot_be_decoded_is_found() -> None:
    history = await some_history()
    document = history.value(6).replace(b'"port":8080', b'"port":"no"')[: -len(b',"crc":"00000000"}')] + b"}"
    breach = await breach_of(history.with_record(6, sealed(USERS.encode(), document)))
    assert breach.position == 6
    assert "cannot be decoded" in breach.reason


async def test_a_history_that_the_domain_cannot_fold_is_found_on_demand() -> None:
    history = await some_history()
    await history.add((ORDERS, registered("a", incarnation=3)))
    assert (await verify(history.log, MAPPER)).breach is None
    breach = await breach_of(history.log, fold=True)
    assert (breach.position, "registered twice" in breach.reason) == (7, True)


@settings(max_examples=40, deadline=None)
@given(HISTORIES)
def test_segments_joined_prove_what_one_walk_proves(told: list[list[Told]]) -> None:
    async def check() -> None:
        history = History()
        for batch in told:
            await history.add(*batch)
        whole = await verify(history.log, MAPPER)
        assert whole.breach is None
        for middle in [batch.cursor for batch in await batches(history.log)]:
            first, second = await asyncio.gather(
                walk(history.log, MAPPER, START, middle), walk(history.log, MAPPER, middle)
            )
            assert report(0, [first, second]) == whole

    run(check())


async def test_a_gap_between_segments_is_found_where_they_join() -> None:
    history = await some_history()
    middle = history.cursor
    await history.add((ORDERS, registered("d", incarnation=4)), skip_versions=1)
    segments = [await walk(history.log, MAPPER, START, middle), await walk(history.log, MAPPER, middle)]
    assert report(0, segments).breach == Breach(7, "version 4 of service/orders, where 3 comes next")


async def test_progress_is_told() -> None:
    history = History()
    for number in range(25):
        await history.add(*[(ORDERS, registered(f"i{number}-{k}", incarnation=100 * number + k)) for k in range(100)])
    told: list[tuple[int, int]] = []
    await verify(history.log, MAPPER, lambda position, events: told.append((position, events)))
    assert told == [(1000, 1000), (2000, 2000)]


@pytest.mark.process
async def test_two_processes_prove_what_one_does(tmp_path: Path) -> None:
    history = History()
    for number in range(40):
        await history.add(*[(ORDERS, registered(f"i{number}-{k}", incarnation=10 * number + k)) for k in range(10)])
    history.write_to(tmp_path)
    told: list[int] = []
    opened = partial(open_folder, tmp_path)
    found = await verify_in_parallel(opened, MAPPER, told.append, segment_records_min=50)
    assert found == [await verify(history.log, MAPPER)]


@pytest.mark.process
@pytest.mark.parametrize("damaged", [100, 350])
async def test_two_processes_find_the_first_breach(tmp_path: Path, damaged: int) -> None:
    history = History()
    for number in range(40):
        await history.add(*[(ORDERS, registered(f"i{number}-{k}", incarnation=10 * number + k)) for k in range(10)])
    history.write_to(tmp_path, damaged)
    [found] = await verify_in_parallel(partial(open_folder, tmp_path), MAPPER, segment_records_min=50)
    assert found.breach == Breach(damaged, "the bytes do not match their checksum")


async def test_a_stream_in_a_partition_that_is_not_its_own_is_found() -> None:
    history = await some_history()
    partitions = next(count for count in range(2, 50) if partition_of(ORDERS, count) == 0 != partition_of(USERS, count))
    found = await walk(history.log, MAPPER, partitions=partitions)
    due = partition_of(USERS, partitions)
    assert found.breach == Breach(3, f"{USERS} stands in partition 0, but lives in {due}")
    assert (await walk(history.log, MAPPER, partitions=1)).breach is None
