"""Loads and telemetry workers as a controller has heard of them."""

import asyncio
import gc
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from infra.telemetry.rows import LoadRecord, MemoryRows
from muster.wire.telemetry.heartbeats import Beat, Heartbeats
from muster.wire.telemetry.loads import (
    ClientsWord,
    SeenInstance,
    SeenInstances,
    ServiceLoad,
    TelemetryWorker,
    encode_row,
    key_of,
)
from muster.wire.telemetry.observations import Observation, Observations
from workers.views.loads import Loads, fresh_seconds, silent_seconds, word_seconds

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


def test_services_that_come_and_go_are_forgotten():
    board = Board()
    for number in range(20):
        board.hears(replace(LOAD, service=f"gone-{number}"))
        board.hears(SeenInstances(service=f"gone-{number}", items=(), at=AT))
    board.now += fresh_seconds + 0.1
    board.hears(LOAD)
    kept = [one for one in gc.get_objects() if isinstance(one, ServiceLoad | SeenInstances)]
    assert [one.service for one in kept if one.service.startswith("gone-")] == []
    assert board.loads.services() == [LOAD]


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
    [
        (b"service/orders", b"{}", 1),
        (b"telemetry/w", b"?", 1),
        (b"instances/a", b"[]", 1),
        (b"keyspace/users/3", b"{}", 0),
    ],
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


def seen(host, failing=0, **fields):
    """A client on this host has called `a` ten times in five seconds."""
    item = Observation("a", 4, 10, min(failing, 10), failing, 0.02)
    return Observations(f"on-{host}", "orders", 5.0, [item], host)._replace(**fields)


def test_what_clients_saw_stands_beside_what_telemetry_tells():
    board = Board().hears(replace(LOAD, observers=1, attempts_per_second=6.0, failure_share=0.5, latency_seconds=0.08))
    board.loads.observe(seen("h1"), {"a": 4}.get)
    row = board.loads.service("orders")
    assert (row.instances, row.in_flight) == (3, 7.0)
    # Of eight a second three fail; of the answers three are of the topic's clients, two of those over HTTP.
    assert (row.observers, row.attempts_per_second, row.failure_share) == (2, 8.0, 0.375)
    assert row.latency_seconds == pytest.approx((3 * 0.08 + 2 * 0.02) / 5)


def test_a_service_of_which_only_clients_tell_has_a_row():
    board = Board()
    board.loads.observe(seen("h1"), {"a": 4}.get)
    (row,) = board.loads.services()
    assert (row.service, row.instances, row.observers, row.failure_share) == ("orders", 0, 1, 0.0)
    board.now += 11
    assert board.loads.services() == []


def row(instance="a", **fields):
    found = {"observers": 1, "attempts_per_second": 6.0, "failure_share": 0.5, "latency_seconds": 0.08}
    return SeenInstance(instance=instance, incarnation=4, **(found | fields))


def test_instances_are_told_as_clients_of_both_ways_saw_them_while_they_tell():
    board = Board().hears(
        SeenInstances(service="orders", items=(row(in_flight=0.0), row("b", failure_share=0.0)), at=AT)
    )
    board.loads.observe(seen("h1"), {"a": 4}.get)
    board.loads.hear(Heartbeats("host", "orders", [Beat("a", 4, 9.0), Beat("b", 4, 3.0), Beat("c", 4, 1.0)]), ())
    a, b = board.loads.instances("orders")
    assert (a.instance, a.observers, a.attempts_per_second, a.failure_share) == ("a", 2, 8.0, 0.375)
    assert a.latency_seconds == pytest.approx((3 * 0.08 + 2 * 0.02) / 5)
    # What an instance says of itself is telemetry's word where it has one, else what came over HTTP.
    assert (a.in_flight, b.in_flight) == (0.0, 3.0)
    assert b == row("b", failure_share=0.0, in_flight=3.0)
    assert board.loads.instances("users") == ()
    board.now += fresh_seconds + 0.1
    assert board.loads.instances("orders") == ()


def test_what_another_incarnation_said_of_itself_is_not_told_of_this_one():
    board = Board()
    board.loads.observe(seen("h1"), {"a": 4}.get)
    board.loads.hear(Heartbeats("host", "orders", [Beat("a", 3, 9.0)]), ())
    (a,) = board.loads.instances("orders")
    assert (a.incarnation, a.in_flight) == (4, None)


def test_words_of_both_ways_are_added_up_while_telemetry_tells_them():
    told = ClientsWord(instance="a", incarnation=4, clients=3, failing=2, answering=1)
    other = ClientsWord(instance="b", incarnation=1, clients=9, failing=9, answering=0)
    board = Board().hears(replace(LOAD, suspected=(told, other)))
    board.loads.observe(seen("h1", failing=5), {"a": 4}.get)
    doubted = {"a": (4, board.now - 1), "b": (2, board.now - 1)}
    word, late = board.loads.words("orders", doubted)
    assert (word.clients, word.failing, word.answering) == (4, 3, 1)
    # What telemetry says is of another incarnation.
    assert late.clients == 0
    board.now += word_seconds + 0.1
    assert board.loads.words("orders", doubted)[0].clients == 1
