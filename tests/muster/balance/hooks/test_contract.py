"""What every hook keeps to, at three copies of a service that are registered at a real controller."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from muster import (
    BalancedChannel,
    BalancedTransport,
    Balancer,
    InvalidCommand,
    NoAvailableInstances,
    ResourceExhausted,
    balanced,
)
from tests.muster.balance.hooks.clients import CLIENTS, Call, CallFailed, Opened
from tests.muster.balance.hooks.copies import Copy, copies
from tests.muster.balance.hooks.grpc_copies import GrpcCopy, grpc_copies
from tests.muster.balance.service import until

Copies = list[Copy] | list[GrpcCopy]


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def opened(client: str) -> Opened:
    return CLIENTS[client]


@pytest.fixture
async def three(url: str, client: str) -> AsyncIterator[Copies]:
    async with (grpc_copies if client == "grpc" else copies)(url, 3) as made:
        yield made


@pytest.fixture
async def call(users: Balancer, opened: Opened) -> AsyncIterator[Call]:
    async with opened(users) as call:
        yield call


def sent(three: Copies) -> Counter[str]:
    """How often each id has arrived, at all copies together."""
    return sum((copy.ids for copy in three), Counter())


async def test_calls_are_spread_over_the_copies(three: Copies, call: Call, users: Balancer) -> None:
    assert Counter([await call() for _ in range(9)]) == {copy.name: 3 for copy in three}
    assert [copy.asked for copy in three] == [3, 3, 3]
    assert users.statistics.in_flight == users.statistics.failures == 0


async def test_a_copy_that_is_gone_is_passed_over_also_by_what_may_not_be_repeated(
    three: Copies, call: Call, users: Balancer
) -> None:
    await three[0].stop()
    assert {await call(str(number), repeatable=False) for number in range(6)} == {"users-2", "users-3"}
    assert sent(three) == {str(number): 1 for number in range(6)}
    assert users.statistics.retries >= 1


async def test_what_may_be_repeated_is_when_a_copy_fails(three: Copies, call: Call, users: Balancer) -> None:
    three[0].behaviour = "fails"
    assert {await call() for _ in range(6)} == {"users-2", "users-3"}
    assert three[0].asked == users.statistics.retries > 0


@pytest.mark.parametrize("behaviour", ["breaks off", "fails", "overloaded"])
async def test_what_may_have_arrived_is_never_sent_twice(
    three: Copies, call: Call, users: Balancer, behaviour: str
) -> None:
    for copy in three:
        copy.behaviour = behaviour  # type: ignore[assignment]
    for number in range(9):
        with pytest.raises(CallFailed):
            await call(str(number), repeatable=False)
    assert sent(three) == {str(number): 1 for number in range(9)}
    assert users.statistics.retries == users.statistics.in_flight == 0


async def test_a_call_is_tried_at_two_copies_and_not_more(three: Copies, call: Call) -> None:
    for copy in three:
        copy.behaviour = "breaks off"
    with pytest.raises(CallFailed):
        await call()
    assert sorted(copy.asked for copy in three) == [0, 1, 1]


async def test_a_call_is_never_repeated_at_the_copy_that_has_failed(url: str, three: Copies, opened: Opened) -> None:
    for copy in three:
        copy.behaviour = "fails"
    async with Balancer("users", url, policy="random", attempts_max=3, eject_after=0) as users, opened(users) as call:
        for number in range(5):
            with pytest.raises(CallFailed):
                await call(str(number))
    for copy in three:
        assert copy.ids == {str(number): 1 for number in range(5)}


async def test_a_copy_that_hangs_is_left_for_another_one(url: str, three: Copies, opened: Opened) -> None:
    three[0].behaviour = "hangs"
    async with (
        Balancer("users", url, policy="round_robin", timeout_seconds=0.2) as users,
        opened(users) as call,
    ):
        assert {await call() for _ in range(3)} == {"users-2", "users-3"}
        assert users.statistics.in_flight == 0


async def test_an_answer_like_not_found_says_nothing_against_the_copy(
    three: Copies, call: Call, users: Balancer
) -> None:
    for copy in three:
        copy.behaviour = "not found"
    with pytest.raises(CallFailed):
        await call()
    assert users.statistics.failures == users.statistics.retries == users.statistics.in_flight == 0


async def test_a_call_that_is_given_up_is_not_under_way_any_more(three: Copies, call: Call, users: Balancer) -> None:
    for copy in three:
        copy.behaviour = "hangs"
    calling = asyncio.ensure_future(call())
    await until(lambda: any(copy.asked for copy in three))
    assert users.statistics.in_flight == 1
    calling.cancel()
    await asyncio.wait([calling])
    assert calling.cancelled()
    await until(lambda: users.statistics.in_flight == 0)
    assert users.statistics.failures == 0


async def test_without_an_instance_it_is_an_error_of_muster_s(url: str, opened: Opened) -> None:
    async with Balancer("nobody", url) as nobody, opened(nobody) as call:
        with pytest.raises(NoAvailableInstances):
            await call()


async def test_the_priority_of_one_call_is_said_beside_it(url: str, three: Copies, opened: Opened) -> None:
    async with Balancer("users", url, in_flight_max=1) as users, opened(users) as call:
        assert await call(priority="critical")
        with pytest.raises(ValueError, match=r"(?i)muster-priority: 'urgent' is none of low, normal, high, critical"):
            await call(priority="urgent")
        # It is the one by which a call is refused.
        with users.attempt(), pytest.raises(ResourceExhausted):
            await call(priority="high")
        assert users.statistics.shed == {"high": 1}


@pytest.mark.parametrize("hook", [balanced, BalancedTransport, BalancedChannel])
async def test_a_hook_for_calls_of_no_priority_is_refused(url: str, hook: Callable[..., object]) -> None:
    with pytest.raises(InvalidCommand, match="priority: must be one of low"):
        hook(Balancer("users", url), priority="urgent")
