"""Waiting at a shard's gate: one knocks at a time, and whatever becomes of it, the next one may."""

import asyncio

import pytest

from muster.keyspace.gate import AT_ONCE, Gate, Gates, Held, knock_seconds


def later(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_one_knocks_at_a_time_in_the_order_in_which_they_came():
    gate = Gate()
    first, second = (asyncio.create_task(gate.turn(later())) for _ in range(2))
    assert await first == "knock"
    await asyncio.sleep(0.02)
    assert not second.done()
    gate.knocked()
    assert await second == "knock"


async def test_an_open_gate_lets_all_in_and_is_not_closed():
    gate = Gate()
    waiting = [asyncio.create_task(gate.turn(later())) for _ in range(3)]
    await asyncio.sleep(0)
    assert gate.closed
    gate.open()
    assert await asyncio.gather(*waiting) == ["open"] * 3
    assert not gate.closed


async def test_a_knock_whose_caller_was_cancelled_goes_to_the_next():
    gate = Gate()
    first, second = (asyncio.create_task(gate.turn(later())) for _ in range(2))
    await asyncio.sleep(0)
    gate._let_one_knock()
    first.cancel()  # its turn has come, but it has not run yet
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await asyncio.wait_for(second, 1) == "knock"


async def test_who_is_cancelled_while_waiting_leaves_the_gate_open():
    gate = Gate()
    waiting = asyncio.create_task(gate.turn(later()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not gate.closed


async def test_waiting_ends_when_the_time_is_over():
    gate = Gate()
    assert await gate.turn(later()) == "knock"
    assert await gate.turn(later(0.01)) == "over"
    gate.knocked()
    assert not gate.closed


async def test_a_pause_at_many_gates_ends_when_one_of_them_opens():
    gates = Gates()
    pausing = asyncio.create_task(gates.pause((1, 2), 30))
    await asyncio.sleep(0)
    gates.open(3)
    await asyncio.sleep(0)
    assert not pausing.done()
    gates.open(2)
    await asyncio.wait_for(pausing, 1)


def test_what_is_held_has_limits_and_is_given_back():
    held = Held(operations_max=2, bytes_max=100)
    assert held.take(60) is None
    assert "held_bytes_max" in (held.take(41) or "")
    assert held.take(40) is None
    assert "held_operations_max" in (held.take(0) or "")
    held.give(60)
    assert held.take(10) is None
    assert (held.operations, held.bytes, held.operations_most) == (2, 50, 2)


def test_the_pause_grows_to_50_ms():
    assert all(0.001 <= knock_seconds(0) <= 0.002 for _ in range(100))
    assert all(0.025 <= knock_seconds(99) <= 0.05 for _ in range(100))


async def test_an_opening_gate_lets_some_in_and_one_more_for_each_that_is_answered():
    gate = Gate()
    waiting = [asyncio.create_task(gate.turn(later())) for _ in range(AT_ONCE + 10)]
    await asyncio.sleep(0)
    gate.open()
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True] * AT_ONCE + [False] * 10
    gate.open()
    await asyncio.sleep(0)
    assert sum(task.done() for task in waiting) == AT_ONCE + 1
    for _ in range(9):
        gate.open()
    assert await asyncio.gather(*waiting) == ["open"] * (AT_ONCE + 10)
    assert not gate.closed


async def test_whoever_is_left_at_an_opening_gate_knocks_by_and_by():
    gate = Gate()
    waiting = [asyncio.create_task(gate.turn(later())) for _ in range(AT_ONCE + 1)]
    await asyncio.sleep(0)
    gate.open()
    assert await asyncio.wait_for(waiting[-1], 1) == "knock"


async def test_a_client_that_closes_lets_all_in_at_once():
    gates = Gates()
    waiting = [asyncio.create_task(gates.at(1).turn(later())) for _ in range(AT_ONCE * 3)]
    await asyncio.sleep(0)
    gates.open_all()
    assert set(await asyncio.gather(*waiting)) == {"open"}
