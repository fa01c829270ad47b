"""Many watchers are woken a few at a time, and the answer to the write that they are told of goes out before them."""

import asyncio

from workers.http.watch.waking import Waking, answer_turns, wakes_per_turn

WATCHERS = 200


async def waiting(waking: Waking, count: int) -> tuple[list[int], "asyncio.Future[None]"]:
    """Tasks that wait, all woken now. Returns in how many turns each began to run (appended as they do), and their end."""
    loop, turns, ran = asyncio.get_running_loop(), [0], list[int]()

    def turn() -> None:
        turns[0] += 1
        if len(ran) < count:
            loop.call_soon(turn)

    async def wait(waiter: "asyncio.Future[None]") -> None:
        await waiter
        ran.append(turns[0])

    waiters = [loop.create_future() for _ in range(count)]
    tasks = [asyncio.create_task(wait(waiter)) for waiter in waiters]
    await asyncio.sleep(0)
    loop.call_soon(turn)
    for waiter in waiters:
        waking.wake(waiter)
    return ran, asyncio.gather(*tasks)


async def test_an_answer_goes_out_before_all_but_a_few_of_the_many_who_watch() -> None:
    ran, ended = await waiting(Waking(), WATCHERS)
    for _ in range(answer_turns - 1):  # Each hop of an answer, from the writer's future to the socket, takes a turn.
        await asyncio.sleep(0)
    assert len(ran) <= wakes_per_turn
    await ended
    assert len(ran) == WATCHERS


async def test_no_turn_of_the_loop_wakes_more_than_a_few() -> None:
    ran, ended = await waiting(Waking(), WATCHERS)
    await ended
    assert max(ran.count(turn) for turn in ran) <= wakes_per_turn
    assert ran == sorted(ran)


async def test_a_few_are_woken_at_once() -> None:
    ran, ended = await waiting(Waking(), wakes_per_turn)
    await ended
    assert max(ran) <= 2


async def test_a_waiter_that_was_cancelled_does_not_stop_the_others() -> None:
    waking, loop = Waking(), asyncio.get_running_loop()
    waiters = [loop.create_future() for _ in range(3)]
    for waiter in waiters:
        waking.wake(waiter)
    waiters[1].cancel()
    await asyncio.wait_for(waiters[2], 5)
    late = loop.create_future()
    waking.wake(late)
    await asyncio.wait_for(late, 5)
