"""A balancer on a real controller's watch: what it picks, what it learns, what it keeps, and that every call ends."""

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import httpx
import orjson
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from muster import (
    Attempt,
    Balancer,
    Client,
    InvalidCommand,
    NoAvailableInstances,
    NotSent,
    Request,
    ResourceExhausted,
    Unreachable,
)
from muster.balance.sending import is_not_sent
from muster.wire.registry.traffic import DEFAULTS
from tests.muster.balance.service import call_by, copies
from tests.muster.client.scripted import events, item, problem, wire
from tests.muster.controller import controller, free_port


async def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 it is read, not told
            await asyncio.sleep(0.005)


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with controller(tmp_path / "data") as started:
        yield started


@pytest.fixture
async def client(url: str) -> AsyncIterator[Client]:
    async with Client(url, actor="test") as opened:
        yield opened


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


async def register(client: Client, *names: str, **fields: object) -> None:
    for name in names:
        await client.register("users", name, "10.0.0.1", 80, **fields)  # type: ignore[arg-type]


async def test_calls_go_to_all_instances_and_end(client: Client, session: aiohttp.ClientSession) -> None:
    async with copies(client, "users", "a", "b", "c") as running, Balancer("users", client) as users:
        for _ in range(60):
            with users.attempt() as attempt:
                async with session.get(f"http://{attempt.instance.endpoint}/") as answer:
                    attempt.answered(failed=answer.status >= 500)
                    assert await answer.text() == attempt.instance.instance
        told = users.statistics
        assert all(copy.seen for copy in running.values())
        assert (told.picks, told.failures, told.in_flight) == (60, 0, 0)
        assert {one.instance: one.picks for one in told.instances} == {
            name: len(running[name].seen) for name in running
        }
        assert all(one.cost_seconds > 0 for one in told.instances)


async def test_a_balancer_of_its_own_client_opens_on_a_url_and_follows_the_registry(url: str, client: Client) -> None:
    async with Balancer("users", url) as users:
        with pytest.raises(NoAvailableInstances) as refused:
            users.pick()
        assert refused.value.context == {"service": "users", "registered": 0, "healthy": 0, "ejected": 0}
        await register(client, "a")
        await until(lambda: len(users.statistics.instances) == 1)
        users.record_request(users.pick(), "ok")
        await client.report_health("users", "a", "unhealthy")
        await until(lambda: not users.statistics.instances[0].able)
        with pytest.raises(NoAvailableInstances) as refused:
            users.pick()
        assert refused.value.context == {"service": "users", "registered": 1, "healthy": 0, "ejected": 0}


async def test_where_no_controller_answers_opening_ends_in_time_and_says_so() -> None:
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1"):
        async with Balancer("users", f"http://127.0.0.1:{free_port()}", timeout_seconds=0.3):
            raise AssertionError("it has opened")


async def test_where_a_controller_is_silent_opening_ends_in_time_and_says_so() -> None:
    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await forever.wait()
        writer.close()

    forever = asyncio.Event()
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server, Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
        async with asyncio.timeout(5):
            with pytest.raises(Unreachable, match=r"did not tell the instances of users in 0\.2 s"):
                await Balancer("users", client, timeout_seconds=0.2).__aenter__()
        forever.set()


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


async def test_when_the_budget_is_used_up_the_first_failure_is_the_answer(client: Client) -> None:
    await register(client, "a", "b")
    tried = 0

    async def not_sent(attempt: object, request: Request) -> None:
        nonlocal tried
        tried += 1
        raise NotSent("no connection left")

    async with Balancer("users", client) as users:
        for _ in range(20):
            with pytest.raises(NotSent):
                await users.send(Request("users"), not_sent)
        assert tried == 30
        assert (users.statistics.retries, users.statistics.retries_refused) == (10, 10)


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

    async with Balancer("users", client) as users:
        with pytest.raises(NotSent):
            await users.send(Request("users"), not_sent)


async def test_however_a_block_ends_its_call_is_under_way_no_more(client: Client) -> None:
    await register(client, "a")
    async with Balancer("users", client, eject_after=0) as users:

        async def hangs() -> None:
            with users.attempt():
                await asyncio.Event().wait()

        task = asyncio.create_task(hangs())
        await until(lambda: users.statistics.in_flight == 1)
        task.cancel()
        await asyncio.wait([task])
        assert (users.statistics.in_flight, users.statistics.failures) == (0, 0)
        for error in (ValueError(), TimeoutError(), ConnectionResetError()):
            with pytest.raises(type(error)), users.attempt():
                raise error
        assert (users.statistics.in_flight, users.statistics.failures) == (0, 3)
        # Said twice, it counts once; what breaks off behind its answer has failed after all.
        with users.attempt() as attempt:
            attempt.answered()
            attempt.failed()
            attempt.failed()
        attempt.end()
        attempt.end()
        users.record_request(users.pick(Request("users")), "overloaded")
        assert (users.statistics.in_flight, users.statistics.failures) == (0, 5)


async def test_a_body_that_is_read_later_keeps_its_call_under_way(client: Client) -> None:
    await register(client, "a")
    async with Balancer("users", client) as users:
        attempt = users.pick()
        attempt.answered()
        assert users.statistics.instances[0].in_flight == 1
        attempt.end()
        assert users.statistics.instances[0].in_flight == 0


async def test_a_balancer_that_is_closed_leaves_a_given_client_open_and_its_calls_end(client: Client) -> None:
    await register(client, "a")
    async with Balancer("users", client) as users:
        attempt = users.pick()
    users.record_request(attempt, "ok")
    assert users.statistics.in_flight == 0
    assert await client.discover("users")
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "balancer users"]


async def test_while_no_controller_answers_the_last_list_and_what_is_known_stay(tmp_path: Path) -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        async with controller(tmp_path / "data", port) as url, Client(url, actor="test") as client:
            await register(client, "a", "b")
            users = await stack.enter_async_context(Balancer("users", url))
            with users.attempt() as attempt:
                pass
            known = attempt.instance.instance
        for _ in range(20):
            users.record_request(users.pick(), "ok")
        async with controller(tmp_path / "data", port) as url, Client(url, actor="test") as client:
            await register(client, "c")
            await until(lambda: len(users.statistics.instances) == 3)
        seen = {one.instance: one.picks for one in users.statistics.instances}
        assert seen[known] >= 1
        assert sum(seen.values()) == 21


async def test_a_watch_that_is_refused_is_begun_again_and_the_list_stays_meanwhile() -> None:
    first, second = ({"items": [item(name, 1)], "token": "0:1"} for name in "ab")
    script = (
        events(("0:1", "snapshot", first)),
        problem("InvalidCommand", 422),
        events(("0:2", "snapshot", second), stay=True),
    )
    async with wire(*script) as server, Client(server.url) as client, Balancer("orders", client) as orders:
        await until(lambda: len(server.seen) == 2)
        assert orders.pick().instance.instance == "a"
        await until(lambda: [one.instance for one in orders.statistics.instances] == ["b"])


async def test_an_operator_changes_the_policy_of_all_clients_that_have_none_of_their_own(client: Client) -> None:
    await register(client, "a", "b", "c")
    await client.traffic.set("users", eject_after=9)
    async with Balancer("users", client) as one, Balancer("users", client, policy="random", retry_share=0.5) as other:
        # What was set before it began holds from its beginning on, or a moment later.
        await until(lambda: one.settings.eject_after == other.settings.eject_after == 9)
        await client.traffic.set(
            "users", policy="round_robin", retry_share=0.1, in_flight_max=4, reason="to see them all"
        )
        await until(lambda: one.settings.policy == "round_robin" and other.settings.in_flight_max == 4)
        assert (other.settings.policy, other.settings.retry_share, one.settings.retry_share) == ("random", 0.5, 0.1)
        assert {one.pick().instance.instance for _ in range(3)} == {"a", "b", "c"}
        await client.traffic.set("users", in_flight_max=3)
        await until(lambda: one.settings.in_flight_max == 3)
        with pytest.raises(ResourceExhausted):
            one.pick()
        await client.traffic.set("users", default=["policy", "in_flight_max", "eject_after", "retry_share"])
        await until(lambda: one.settings == DEFAULTS)
        one.pick()


async def test_the_list_grows_older_until_a_heartbeat_says_that_nothing_was_missed() -> None:
    beat, ended = asyncio.Event(), asyncio.Event()

    async def told(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        items = orjson.dumps({"items": [item("a", 1)], "token": "0:1"})
        await response.write(b"id: 0:1\nevent: snapshot\ndata: " + items + b"\n\n")
        await beat.wait()
        await response.write(b": \nid: 0:7\n\n")
        await ended.wait()
        return response

    async with wire(told) as server, Client(server.url) as client, Balancer("orders", client) as orders:
        await until(lambda: orders.age_seconds > 0.5)
        beat.set()
        await until(lambda: orders.age_seconds < 0.5)
        assert orders.statistics.instances[0].able
        ended.set()


async def test_a_hundred_flaps_leave_nothing_behind(client: Client) -> None:
    await register(client, "a", "b")
    async with Balancer("users", client) as users:
        for number in range(100):
            await client.report_health("users", "a", "unhealthy", f"flap {number}")
            users.record_request(users.pick(), "ok")
            await client.report_health("users", "a", "healthy", f"flap {number}")
        await until(lambda: users.statistics.instances[0].able)
        assert users.statistics.picks == sum(one.picks for one in users.statistics.instances) == 100
        assert users._picker.fleet.remembered == 2


async def test_the_figures_are_there_as_text_too(client: Client) -> None:
    await register(client, "a", zone="eu-1a")
    async with Balancer("users", client, in_flight_max=1) as users:
        attempt = users.pick()
        for priority in ("low", "low", "critical"):
            with pytest.raises(ResourceExhausted):
                users.attempt(priority)  # type: ignore[arg-type]
        users.record_request(attempt, "failed")
        told = users.statistics
        assert told.shed == {"low": 2, "critical": 1}
        assert (told.instances[0].endpoint, told.instances[0].zone) == ("10.0.0.1:80", "eu-1a")
        lines = users.metrics().splitlines()
        assert 'muster_balancer_failures_total{service="users",instance="a"} 1' in lines
        assert 'muster_balancer_shed_total{service="users",priority="low"} 2' in lines
        families = list(text_string_to_metric_families(users.metrics()))
        assert {family.name for family in families} >= {"muster_balancer_picks", "muster_balancer_in_flight"}


async def test_a_setting_that_is_not_one_is_refused(client: Client) -> None:
    for given in ({"policy": "fastest"}, {"unheard_of": 1}, {"subset": 0}, {"attempts_max": 0}):
        with pytest.raises((InvalidCommand, TypeError)):
            Balancer("users", client, **given)  # type: ignore[arg-type]


async def test_a_call_of_another_service_or_of_no_priority_is_refused(client: Client) -> None:
    await register(client, "a")

    async def call(attempt: Attempt, request: Request) -> None:
        raise AssertionError("it was sent")

    async with Balancer("users", client) as users:
        with pytest.raises(InvalidCommand, match="orders"):
            await users.send(Request("orders"), call)
        with pytest.raises(InvalidCommand, match="priority"):
            users.attempt("urgent")  # type: ignore[arg-type]
        assert users.statistics.picks == 0


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
