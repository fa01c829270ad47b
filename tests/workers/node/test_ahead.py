"""Reading ahead: in order, in lists of what has come, and no further than the bound."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from muster.wire.rpc.node_pb2 import WriteId
from workers.node.prefetch import gathered
from workers.node.throttle import Throttle

SIZE = WriteId(id="x" * 98).ByteSize()


async def messages(count: int, read: list[int], error: Exception | None = None) -> AsyncIterator[WriteId]:
    for number in range(count):
        read.append(number)
        yield WriteId(id=f"{number:098}")
        await asyncio.sleep(0)
    if error:
        raise error


async def test_all_messages_come_in_order_and_the_slow_get_more_at_a_time() -> None:
    found: list[int] = []
    lengths: list[int] = []
    async with aclosing(gathered(messages(100, []), Throttle(None), 10 * SIZE)) as lists:
        async for some in lists:
            found += [int(message.id) for message in some]
            lengths.append(len(some))
            await asyncio.sleep(0.001)

    assert found == list(range(100))
    assert max(lengths) == 10


async def test_no_more_is_read_ahead_than_the_bound() -> None:
    read: list[int] = []
    async with aclosing(gathered(messages(100, read), Throttle(None), 10 * SIZE)) as lists:
        await anext(lists)
        await asyncio.sleep(0.01)

        assert len(read) <= 12


async def test_a_message_over_the_bound_comes_alone() -> None:
    async with aclosing(gathered(messages(3, []), Throttle(None), SIZE // 2)) as lists:
        assert [len(some) async for some in lists] == [1, 1, 1]


async def test_what_came_before_an_error_comes_before_it() -> None:
    found: list[WriteId] = []

    async def take() -> None:
        async with aclosing(gathered(messages(5, [], ConnectionError()), Throttle(None), 1_000)) as lists:
            async for some in lists:
                found.extend(some)

    with pytest.raises(ConnectionError):
        await take()
    assert len(found) == 5
