"""What the hooks of both HTTP clients keep to, besides what all hooks do: hosts, bodies, and answers that break off."""

from collections.abc import AsyncIterator

import pytest

from muster import Balancer
from tests.muster.balance.hooks.clients import CLIENTS, Call, CallFailed
from tests.muster.balance.hooks.copies import Copy


@pytest.fixture(params=["aiohttp", "httpx"])
async def call(request: pytest.FixtureRequest, users: Balancer) -> AsyncIterator[Call]:
    async with CLIENTS[request.param](users) as call:
        yield call


async def test_the_host_stays_the_service_s(three: list[Copy], call: Call) -> None:
    for _ in range(3):
        await call()
    assert [copy.hosts for copy in three] == [{"users"}] * 3


async def test_a_body_is_sent_again_as_it_was(three: list[Copy], call: Call, users: Balancer) -> None:
    for copy in three[:2]:
        copy.behaviour = "fails"
    for _ in range(3):
        # In turns each has two of three copies, of which one is well, or not.
        try:
            await call(body=b"Ada")
        except CallFailed:
            continue
    assert users.statistics.retries > 0
    assert {body for copy in three for body in copy.bodies} == {b"Ada"}


async def test_a_body_that_is_there_once_is_not_sent_again(three: list[Copy], call: Call, users: Balancer) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"Ada"

    for copy in three:
        copy.behaviour = "fails"
    with pytest.raises(CallFailed):
        await call(body=body())
    assert users.statistics.retries == 0
    assert [body for copy in three for body in copy.bodies] == [b"Ada"]


async def test_an_answer_that_breaks_off_has_failed_and_is_over(three: list[Copy], call: Call, users: Balancer) -> None:
    for copy in three:
        copy.behaviour = "half a body"
    with pytest.raises(CallFailed):
        await call()
    # Who has the headers has an answer, so nothing is repeated.
    told = users.statistics
    assert (told.in_flight, told.failures, told.retries) == (0, 1, 0)


async def test_a_body_of_the_caller_s_that_raises_is_no_failure_of_a_copy(
    three: list[Copy], call: Call, users: Balancer
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"Ada"
        raise KeyError("nobody")

    with pytest.raises((KeyError, CallFailed)):
        await call(body=body())
    told = users.statistics
    assert (told.failures, told.retries, told.in_flight) == (0, 0, 0)


async def test_what_the_caller_has_got_wrong_is_no_failure_of_a_copy(
    three: list[Copy], call: Call, users: Balancer
) -> None:
    with pytest.raises((ValueError, CallFailed)):
        await call("a\r\nInjected: yes")
    told = users.statistics
    assert (told.failures, told.retries, told.in_flight, sum(copy.asked for copy in three)) == (0, 0, 0, 0)
