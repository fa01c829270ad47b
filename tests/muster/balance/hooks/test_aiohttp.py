"""`muster.balanced`: a session of aiohttp whose calls go to the copies of a service, at a real controller."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
import pytest

from muster import Balancer, NoAvailableInstances, balanced
from tests.muster.balance.hooks.copies import Copy
from tests.muster.controller import free_port


@pytest.fixture
async def session(users: Balancer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession("http://users", middlewares=(balanced(users),)) as session:
        yield session


async def answers(session: aiohttp.ClientSession, calls: int) -> Counter[int]:
    """The statuses of so many GETs."""
    statuses: Counter[int] = Counter()
    for _ in range(calls):
        async with session.get("/users/1") as answer:
            statuses[answer.status] += 1
            await answer.read()
    return statuses


async def test_calls_are_spread_and_the_host_stays_the_service_s(
    three: list[Copy], session: aiohttp.ClientSession
) -> None:
    assert await answers(session, 9) == {200: 9}
    assert [copy.served["GET"] for copy in three] == [3, 3, 3]
    assert {host for copy in three for host in copy.hosts} == {"users"}


async def test_a_copy_that_is_gone_is_passed_over_by_every_method(
    three: list[Copy], session: aiohttp.ClientSession, users: Balancer
) -> None:
    await three[0].stop()
    for _ in range(3):
        async with session.post("/users", data=b"Ada") as answer:
            assert answer.status == 200
    assert users.statistics.retries >= 1
    assert sum(copy.served["POST"] for copy in three[1:]) == 3


async def test_what_may_be_repeated_is_when_a_copy_fails(
    three: list[Copy], session: aiohttp.ClientSession, users: Balancer
) -> None:
    three[0].behaviour = "fails"
    assert await answers(session, 6) == {200: 6}
    assert three[0].served["GET"] == users.statistics.retries > 0


async def test_a_post_that_may_have_arrived_is_never_sent_twice(
    three: list[Copy], session: aiohttp.ClientSession, users: Balancer
) -> None:
    for copy in three:
        copy.behaviour = "breaks off"
    for number in range(9):
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.post("/users", data=b"Ada", headers={"X-Id": str(number)})
    for copy in three:
        copy.behaviour = "fails"
    async with session.post("/users", data=b"Ada", headers={"X-Id": "9"}) as answer:
        assert answer.status == 500
    sent = sum((copy.ids for copy in three), Counter())
    assert sent == {str(number): 1 for number in range(10)}
    assert users.statistics.retries == 0


async def test_a_get_is_tried_at_two_copies_and_not_more(
    three: list[Copy], session: aiohttp.ClientSession, users: Balancer
) -> None:
    for copy in three:
        copy.behaviour = "breaks off"
    # A session would try once more by itself, wherever it likes.
    with pytest.raises(aiohttp.ClientConnectionError, match="users"):
        await session.get("/users/1")
    assert sorted(copy.served["GET"] for copy in three) == [0, 1, 1]


async def test_a_call_is_never_repeated_at_the_copy_that_has_failed(url: str, three: list[Copy]) -> None:
    for copy in three:
        copy.behaviour = "fails"
    async with (
        Balancer("users", url, policy="random", attempts_max=3, eject_after=0) as users,
        aiohttp.ClientSession("http://users", middlewares=(balanced(users),)) as session,
    ):
        for number in range(5):
            async with session.get("/users/1", headers={"X-Id": str(number)}) as answer:
                await answer.read()
    for copy in three:
        assert copy.ids == {str(number): 1 for number in range(5)}


async def test_a_body_is_sent_again_as_it_was(three: list[Copy], session: aiohttp.ClientSession) -> None:
    for copy in three[:2]:
        copy.behaviour = "fails"
    for _ in range(3):
        async with session.put("/users/1", data=b"Ada") as answer:
            await answer.read()
    assert {body for copy in three for body in copy.bodies} == {b"Ada"}


async def test_a_body_that_is_there_once_is_not_sent_again(
    three: list[Copy], session: aiohttp.ClientSession, users: Balancer
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"Ada"

    for copy in three:
        copy.behaviour = "fails"
    async with session.put("/users/1", data=body()) as answer:
        assert answer.status == 500
    assert users.statistics.retries == 0


async def test_a_copy_that_hangs_is_left_for_another_one(url: str, three: list[Copy]) -> None:
    three[0].behaviour = "hangs"
    async with (
        Balancer("users", url, policy="round_robin", timeout_seconds=0.3) as users,
        aiohttp.ClientSession("http://users", middlewares=(balanced(users),)) as session,
    ):
        assert await answers(session, 3) == {200: 3}


async def test_when_the_callers_time_is_up_nothing_is_tried_again(
    three: list[Copy], session: aiohttp.ClientSession, users: Balancer
) -> None:
    for copy in three:
        copy.behaviour = "hangs"
    with pytest.raises(TimeoutError):
        await session.get("/users/1", timeout=aiohttp.ClientTimeout(total=0.3))
    assert sum(copy.served["GET"] for copy in three) == 1
    assert users.statistics.retries == users.statistics.in_flight == 0


async def test_nothing_stays_in_flight(three: list[Copy], session: aiohttp.ClientSession, users: Balancer) -> None:
    # Read, closed before it was read, given up, broken off in the middle, and cancelled.
    await answers(session, 1)
    answer = await session.get("/users/1")
    answer.close()
    for copy in three:
        copy.behaviour = "half a body"
    async with session.get("/users/1") as answer:
        assert users.statistics.in_flight == 1
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
    for copy in three:
        copy.behaviour = "hangs"
    asking = asyncio.create_task(session.get("/users/1"))  # type: ignore[arg-type]  # it is a coroutine
    async with asyncio.timeout(10):
        while not users.statistics.in_flight:  # noqa: ASYNC110 statistics set no event
            await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait([asking])
    assert users.statistics.in_flight == 0


async def test_without_an_instance_it_is_an_error_of_muster_s(three: list[Copy], url: str) -> None:
    async with (
        Balancer("nobody", url) as nobody,
        aiohttp.ClientSession("http://nobody", middlewares=(balanced(nobody),)) as session,
    ):
        with pytest.raises(NoAvailableInstances):
            await session.get("/")


async def test_other_hosts_are_left_alone(three: list[Copy], users: Balancer) -> None:
    async with aiohttp.ClientSession(middlewares=(balanced(users),)) as session:
        async with session.get(f"http://127.0.0.1:{three[2].port}/") as answer:
            assert await answer.text() == "users-3"
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"http://127.0.0.1:{free_port()}/")
    assert users.statistics.picks == 0


async def test_the_priority_of_one_request_is_a_header(session: aiohttp.ClientSession) -> None:
    async with session.get("/", headers={"Muster-Priority": "critical"}) as answer:
        assert answer.status == 200
    with pytest.raises(ValueError, match="Muster-Priority: 'urgent' is none of low, normal, high, critical"):
        await session.get("/", headers={"Muster-Priority": "urgent"})
