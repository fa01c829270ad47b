"""Calls with a second chance: what is repeated, where, how often, and what the caller hears in the end."""

import asyncio
import errno
import time

import aiohttp
import httpx
import pytest

from muster import (
    Attempt,
    Balancer,
    Client,
    NotSent,
    Request,
)
from muster.balance.sending import Call, is_not_sent
from tests.muster.balance.service import call_by, copies, register, until


async def test_a_call_that_surely_was_not_sent_is_repeated_at_another_instance(
    client: Client, session: aiohttp.ClientSession
) -> None:
    async with copies(client, "users", "a", "b") as running, Balancer("users", client) as users:
        await running["a"].kill()
        for _ in range(10):
            assert await users.send(Request("users", b"one"), call_by(session)) == "b"
        told = users.statistics
        assert told.failures == told.retries > 0
        assert told.in_flight == 0
        assert len(set(running["b"].seen)) == 10


async def test_what_may_have_arrived_is_repeated_only_if_it_is_repeatable(client: Client) -> None:
    await register(client, "a", "b")
    tried: list[tuple[str, str]] = []

    async def breaks_off(attempt: Attempt, request: Request) -> None:
        tried.append((attempt.instance.instance, request.id))
        raise ConnectionResetError("broken off")

    async def not_sent(attempt: Attempt, request: Request) -> None:
        tried.append((attempt.instance.instance, request.id))
        raise NotSent("no connection left")

    async with Balancer("users", client) as users:
        for call, repeatable, times in ((breaks_off, False, 1), (breaks_off, True, 2), (not_sent, False, 2)):
            tried.clear()
            with pytest.raises((ConnectionResetError, NotSent)):
                await users.send(Request("users"), call, repeatable=repeatable)
            # Never at the same instance, and always with the id of the request.
            assert len({instance for instance, _ in tried}) == len(tried) == times
            assert len({id_ for _, id_ in tried}) == 1
        assert users.statistics.in_flight == 0


async def test_a_copy_that_is_killed_under_load_is_noticed_by_no_caller(
    client: Client, session: aiohttp.ClientSession
) -> None:
    async with copies(client, "users", "a", "b", "c") as running, Balancer("users", client) as users:
        answers: list[str] = []

        async def caller() -> None:
            for _ in range(40):
                answers.append(await users.send(Request("users"), call_by(session), repeatable=True))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(caller())
            await until(lambda: len(answers) > 60)
            await running["a"].kill()
        assert len(answers) == 320
        told = users.statistics
        assert told.in_flight == 0
        assert told.failures == told.retries > 0


async def test_a_call_is_given_up_in_time_and_its_instance_looks_dear(
    client: Client, session: aiohttp.ClientSession
) -> None:
    async with (
        copies(client, "users", "a", "b") as running,
        Balancer("users", client, policy="round_robin", timeout_seconds=0.2) as users,
    ):
        running["a"].gate.clear()
        ends = [
            await asyncio.gather(users.send(Request("users"), call_by(session)), return_exceptions=True) for _ in "ab"
        ]
        assert sorted(type(end).__name__ for [end] in ends) == ["TimeoutError", "str"]
        cost = {one.instance: one.cost_seconds for one in users.statistics.instances}
        assert cost["a"] > 0.9
        assert users.statistics.in_flight == 0


async def test_each_call_has_its_own_time_and_who_is_cancelled_by_another_stays_so(client: Client) -> None:
    await register(client, "a")
    answered = asyncio.Event()

    async def hangs(attempt: Attempt, request: Request) -> None:
        await answered.wait()

    async with Balancer("users", client, timeout_seconds=0.5, eject_after=0) as users:
        first, cancelled = (asyncio.create_task(users.send(Request("users"), hangs)) for _ in range(2))
        await asyncio.sleep(0.25)
        second = asyncio.create_task(users.send(Request("users"), hangs))
        cancelled.cancel()
        await asyncio.wait([first])
        assert isinstance(first.exception(), TimeoutError)
        assert cancelled.cancelled()
        # The second one has half of its time left, and is given up when that is over.
        assert not second.done()
        third = asyncio.create_task(users.send(Request("users"), hangs))
        await asyncio.wait([second])
        assert isinstance(second.exception(), TimeoutError)
        answered.set()
        await third
        assert (users.statistics.in_flight, users.statistics.failures) == (0, 2)


async def test_a_task_whose_call_was_late_is_not_cancelled_itself(client: Client) -> None:
    await register(client, "a")

    async def hangs(attempt: Attempt, request: Request) -> None:
        await asyncio.Event().wait()

    async with Balancer("users", client, timeout_seconds=0.05, eject_after=0) as users:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await users.send(Request("users"), hangs)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        # An asyncio.timeout around it ends with its own error, and not by the call's.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await users.send(Request("users"), hangs)


async def test_a_call_has_its_time_also_in_the_next_event_loop(url: str, client: Client) -> None:
    await register(client, "a")

    async def answers(attempt: Attempt, request: Request) -> str:
        return "well"

    async def hangs(attempt: Attempt, request: Request) -> str:
        async with asyncio.timeout(10):
            await asyncio.Event().wait()
        return "late"

    def in_two_loops() -> None:
        users = Balancer("users", url, timeout_seconds=0.5)

        async def one(call: Call[str]) -> str:
            async with users:
                return await users.send(Request("users"), call)

        assert asyncio.run(one(answers)) == "well"
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            asyncio.run(one(hangs))
        assert time.monotonic() - began < 5

    await asyncio.to_thread(in_two_loops)


async def test_who_is_cancelled_when_the_time_is_up_as_well_stays_cancelled(client: Client) -> None:
    await register(client, "a")
    begun = asyncio.Event()

    async def cancels_its_caller(attempt: Attempt, request: Request) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            calling.cancel()
            raise

    async with Balancer("users", client, timeout_seconds=0.05) as users:
        calling = asyncio.create_task(users.send(Request("users"), cancels_its_caller))
        await asyncio.wait([calling])
        assert calling.cancelled()
        assert begun.is_set()
        assert users.statistics.in_flight == 0


async def test_when_the_budget_is_used_up_the_first_failure_is_the_answer(client: Client) -> None:
    await register(client, "a", "b")
    tried = 0

    async def breaks_off(attempt: object, request: Request) -> None:
        nonlocal tried
        tried += 1
        raise ConnectionResetError

    async with Balancer("users", client) as users:
        for _ in range(20):
            with pytest.raises(ConnectionResetError):
                await users.send(Request("users"), breaks_off, repeatable=True)
        assert tried == 30
        assert (users.statistics.retries, users.statistics.retries_refused) == (10, 10)


async def test_what_has_reached_nobody_is_made_elsewhere_whatever_the_budget_says(client: Client) -> None:
    await register(client, "a", "b")

    async def not_sent(attempt: object, request: Request) -> None:
        raise NotSent("no connection left")

    async with Balancer("users", client) as users:
        while users.may_retry():
            pass
        before = users.statistics
        for _ in range(20):
            with pytest.raises(NotSent):
                await users.send(Request("users"), not_sent)
        assert users.statistics.retries == before.retries + 20
        assert users.statistics.retries_refused == before.retries_refused


async def test_all_that_an_instance_had_under_way_when_it_died_is_repeated(client: Client) -> None:
    await register(client, "a", "b", "c")
    dead, hangs = set[str](), asyncio.Event()

    async def call(attempt: Attempt, request: Request) -> str:
        if request.data == b"hang":
            await hangs.wait()
        if attempt.instance.instance in dead:
            raise ConnectionResetError
        return attempt.instance.instance

    async with Balancer("users", client, policy="round_robin") as users:
        under_way = [
            asyncio.create_task(users.send(Request("users", b"hang"), call, repeatable=True)) for _ in range(90)
        ]
        await asyncio.sleep(0)
        # What they have earned while so many were under way is enough for a third of them.
        for _ in range(450):
            await users.send(Request("users"), call)
        dead.add("a")
        hangs.set()
        assert {await one for one in under_way} == {"b", "c"}
        assert users.statistics.retries == 30


async def test_an_answer_that_the_caller_cannot_use_is_not_repeated(client: Client) -> None:
    await register(client, "a", "b")
    tried = 0

    async def unreadable(attempt: Attempt, request: Request) -> None:
        nonlocal tried
        tried += 1
        attempt.answered()
        raise ValueError("no JSON")

    async with Balancer("users", client) as users:
        with pytest.raises(ValueError, match="no JSON"):
            await users.send(Request("users"), unreadable, repeatable=True)
        assert tried == 1
        assert users.statistics.failures == 0


async def test_where_there_is_no_other_instance_the_first_failure_is_the_answer(client: Client) -> None:
    await register(client, "a")

    async def not_sent(attempt: object, request: Request) -> None:
        raise NotSent("no connection left")

    async with Balancer("users", client, eject_after=0) as users:
        for _ in range(20):
            with pytest.raises(NotSent):
                await users.send(Request("users"), not_sent)
        # Nobody was asked a second time, so all ten retries are still there.
        assert (users.statistics.retries, users.statistics.retries_refused) == (0, 0)
        assert [users.may_retry() for _ in range(11)] == [True] * 10 + [False]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(), True),
        (OSError(errno.ECONNREFUSED, "refused"), True),
        (httpx.ConnectError("refused"), True),
        (httpx.ConnectTimeout("late"), True),
        (aiohttp.ConnectionTimeoutError(), True),
        (NotSent(), True),
        (ConnectionResetError(), False),
        (httpx.ReadTimeout("late"), False),
        (aiohttp.ServerDisconnectedError(), False),
        (TimeoutError(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_what_surely_was_not_sent_counts_as_that(error: Exception, expected: bool) -> None:
    assert is_not_sent(error) is expected
