"""The thread that makes blocking calls."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest

from infra.log.call_thread import CallThread


@pytest.fixture
def thread() -> Iterator[CallThread]:
    with closing(CallThread("calls")) as thread:
        yield thread


async def test_calls_are_made_one_after_another_in_the_thread(thread: CallThread) -> None:
    made: list[tuple[str, int]] = []

    def make(number: int) -> None:
        made.append((threading.current_thread().name, number))

    await asyncio.gather(*(thread.call(partial(make, number)) for number in range(99)))
    assert made == [("calls", number) for number in range(99)]


async def test_what_a_call_returns_or_raises_comes_back(thread: CallThread) -> None:
    assert await thread.call(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await thread.call(lambda: 1 // 0)
    assert await thread.call(lambda: 8) == 8


async def test_a_call_that_is_given_up_disturbs_nobody_and_is_not_made_if_it_waits(thread: CallThread) -> None:
    begun, go_on, made, faults = threading.Event(), threading.Event(), list[str](), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))

    def first() -> None:
        begun.set()
        go_on.wait(5)

    running, waiting = thread.call(first), thread.call(lambda: made.append("waiting"))
    await asyncio.to_thread(begun.wait, 5)
    running.cancel()
    waiting.cancel()
    go_on.set()
    await thread.call(lambda: made.append("last"))
    assert (made, faults) == (["last"], [])


async def test_closing_waits_for_what_was_asked_before_and_takes_no_more() -> None:
    thread, made = CallThread("calls"), list[int]()
    answers = [thread.call(partial(made.append, number)) for number in range(9)]
    thread.close()
    assert made == list(range(9))
    await asyncio.gather(*answers)
    with pytest.raises(RuntimeError, match="calls is closed"):
        thread.call(lambda: None)


def test_a_loop_that_is_gone_leaves_the_thread_at_work(thread: CallThread) -> None:
    begun, go_on = threading.Event(), threading.Event()

    async def leave() -> None:
        thread.call(lambda: (begun.set(), go_on.wait(5)))
        await asyncio.to_thread(begun.wait, 5)

    async def come() -> int:
        return await asyncio.wait_for(thread.call(lambda: 7), 5)

    asyncio.run(leave())
    go_on.set()
    assert asyncio.run(come()) == 7


async def test_nothing_of_a_call_lives_on_while_the_thread_waits(thread: CallThread) -> None:
    class Records: ...

    records = Records()
    gone = weakref.ref(records)
    await thread.call(partial(isinstance, records, Records))
    del records
    await asyncio.sleep(0.05)
    gc.collect()
    assert gone() is None
