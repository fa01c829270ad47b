"""`muster.BalancedTransport`: a client of httpx whose calls go to the copies of a service, at a real controller."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import httpx
import pytest

from muster import BalancedTransport, Balancer, NoAvailableInstances
from tests.muster.balance.hooks.copies import Copy


@pytest.fixture
async def client(users: Balancer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(mounts={"muster://": BalancedTransport(users)}) as client:
        yield client


async def answers(client: httpx.AsyncClient, calls: int) -> Counter[int]:
    """The statuses of so many GETs."""
    return Counter([(await client.get("muster://users/users/1")).status_code for _ in range(calls)])


async def test_calls_are_spread_and_the_host_stays_the_service_s(three: list[Copy], client: httpx.AsyncClient) -> None:
    assert await answers(client, 9) == {200: 9}
    assert [copy.served["GET"] for copy in three] == [3, 3, 3]
    assert {host for copy in three for host in copy.hosts} == {"users"}


async def test_the_answer_s_url_is_the_one_that_was_asked(three: list[Copy], client: httpx.AsyncClient) -> None:
    assert str((await client.get("muster://users/users/1")).url) == "muster://users/users/1"


async def test_a_copy_that_is_gone_is_passed_over_by_every_method(
    three: list[Copy], client: httpx.AsyncClient, users: Balancer
) -> None:
    await three[0].stop()
    assert [(await client.post("muster://users/", content=b"Ada")).status_code for _ in range(3)] == [200] * 3
    assert users.statistics.retries >= 1


async def test_what_may_be_repeated_is_when_a_copy_fails(
    three: list[Copy], client: httpx.AsyncClient, users: Balancer
) -> None:
    three[0].behaviour = "fails"
    assert await answers(client, 6) == {200: 6}
    assert three[0].served["GET"] == users.statistics.retries > 0


async def test_a_post_that_may_have_arrived_is_never_sent_twice(
    three: list[Copy], client: httpx.AsyncClient, users: Balancer
) -> None:
    for copy in three:
        copy.behaviour = "breaks off"
    for number in range(9):
        with pytest.raises(httpx.TransportError):
            await client.post("muster://users/", content=b"Ada", headers={"X-Id": str(number)})
    assert sum((copy.ids for copy in three), Counter()) == {str(number): 1 for number in range(9)}
    assert users.statistics.retries == 0


async def test_a_body_that_is_there_once_is_not_sent_again(
    three: list[Copy], client: httpx.AsyncClient, users: Balancer
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"Ada"

    for copy in three:
        copy.behaviour = "fails"
    assert (await client.put("muster://users/", content=body())).status_code == 500
    assert users.statistics.retries == 0


async def test_nothing_stays_in_flight(three: list[Copy], client: httpx.AsyncClient, users: Balancer) -> None:
    await answers(client, 1)
    async with client.stream("GET", "muster://users/"):
        assert users.statistics.in_flight == 1
    assert users.statistics.in_flight == 0
    for copy in three:
        copy.behaviour = "half a body"
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("muster://users/")
    assert users.statistics.failures == 1
    for copy in three:
        copy.behaviour = "hangs"
    asking = asyncio.create_task(client.get("muster://users/"))
    async with asyncio.timeout(10):
        while not users.statistics.in_flight:  # noqa: ASYNC110 statistics set no event
            await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait([asking])
    assert users.statistics.in_flight == 0


async def test_without_an_instance_it_is_an_error_of_muster_s(url: str) -> None:
    async with (
        Balancer("nobody", url) as nobody,
        httpx.AsyncClient(mounts={"muster://": BalancedTransport(nobody)}) as client,
    ):
        with pytest.raises(NoAvailableInstances):
            await client.get("muster://nobody/")
