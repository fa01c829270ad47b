"""Loads and telemetry workers as a controller has heard of them."""

import asyncio
from datetime import UTC, datetime

import pytest

from infra.telemetry.rows import LoadRecord, MemoryRows
from muster.wire.telemetry.loads import ServiceLoad, TelemetryWorker, encode_row, key_of
from workers.views.loads import Loads, fresh_seconds, silent_seconds

AT = datetime(2026, 1, 2, 12, tzinfo=UTC)
LOAD = ServiceLoad(service="orders", instances=3, heard=2, in_flight=7.0, at=AT)


def worker(name="w", state="running", partitions=(0, 1)):
    return TelemetryWorker(
        worker=name,
        state=state,
        partitions=partitions,
        instances=3,
        silent=0,
        lag_seconds=0.1,
        messages_per_second=2.0,
        refused=0,
        at=AT,
    )


class Board:
    def __init__(self):
        self.now = 1_000.0
        self.loads = Loads(lambda: self.now)

    def hears(self, row, age_seconds=0.0):
        self.loads.take(LoadRecord(key_of(row).encode(), encode_row(row), age_seconds))
        return self


def test_a_load_is_known_while_it_is_told():
    board = Board().hears(LOAD)
    assert board.loads.services() == [LOAD]
    board.now += fresh_seconds + 0.1
    assert board.loads.services() == []
    assert board.loads.service("orders") is None


def test_what_was_told_long_before_we_listened_is_no_news():
    assert Board().hears(LOAD, age_seconds=fresh_seconds + 1).loads.services() == []


def test_a_worker_that_says_nothing_is_silent():
    board = Board().hears(worker())
    assert [seen.state for seen in board.loads.workers()] == ["running"]
    board.now += silent_seconds + 0.1
    assert [seen.state for seen in board.loads.workers()] == ["silent"]
    board.now += 4_000
    assert board.loads.workers() == []


def test_a_worker_that_left_in_order_is_not_shown():
    assert Board().hears(worker()).hears(worker(state="leaving")).loads.workers() == []


def test_partitions_that_a_silent_worker_left_to_nobody_are_unwatched():
    board = Board().hears(worker("one", partitions=(0, 1)), silent_seconds + 1).hears(worker("two", partitions=(1,)))
    assert board.loads.unwatched(range(2)) == [0]
    assert board.hears(worker("two", partitions=(0, 1))).loads.unwatched(range(2)) == []


def test_partitions_that_are_shared_out_anew_are_not_unwatched():
    assert Board().loads.unwatched(range(2)) == []
    assert Board().hears(worker(partitions=())).loads.unwatched(range(2)) == []


@pytest.mark.parametrize(
    ("key", "value", "refused"),
    [(b"service/orders", b"{}", 1), (b"telemetry/w", b"?", 1), (b"keyspace/users/3", b"{}", 0)],
)
def test_what_cannot_be_read_is_counted_and_what_is_newer_is_passed_over(key, value, refused):
    board = Board()
    board.loads.take(LoadRecord(key, value, 0.0))
    assert (board.loads.refused, board.loads.services(), board.loads.workers()) == (refused, [], [])


async def test_rows_are_followed_from_the_first_on():
    rows, loads = MemoryRows(), Loads()
    await rows.put(b"service/orders", encode_row(LOAD))
    following = asyncio.create_task(loads.run(rows))
    await rows.put(b"telemetry/w", encode_row(worker()))
    async with asyncio.timeout(5):
        while not (loads.services() and loads.workers()):  # noqa: ASYNC110 what is asked sets no event
            await asyncio.sleep(0.01)
    following.cancel()
