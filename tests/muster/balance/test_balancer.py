"""A balancer on a real controller's watch: what it picks, what it learns, what it keeps, and that every call ends."""

import asyncio
import math
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
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
    Request,
    ResourceExhausted,
    Unreachable,
)
from muster.wire.registry.traffic import DEFAULTS
from muster.wire.telemetry.observations import Observations
from tests.muster.balance.service import copies, register, until
from tests.muster.client.scripted import Handler, events, item, problem, wire
from tests.muster.controller import controller, free_port


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


async def test_a_balancer_that_is_not_open_here_gives_no_call_away(client: Client) -> None:
    await register(client, "a", "b")
    users = Balancer("users", client)

    async def breaks_off_and_closes(attempt: Attempt, request: Request) -> None:
        await users.__aexit__()
        raise ConnectionResetError

    async def elsewhere() -> None:
        users.attempt()

    # Before it is open, behind it, and in another event loop meanwhile.
    with pytest.raises(RuntimeError, match="balancer of users is not open"):
        users.attempt()
    async with users:
        with pytest.raises(RuntimeError, match="balancer of users is not open here"):
            await asyncio.to_thread(asyncio.run, elsewhere())
        with pytest.raises(RuntimeError, match="open already"):
            await users.__aenter__()
        # Who opens it twice has not closed it.
        users.record_request(users.pick(), "ok")
        # Closed under a call that would be repeated: the caller hears why it has failed.
        with pytest.raises(ConnectionResetError):
            await users.send(Request("users"), breaks_off_and_closes, repeatable=True)
    with pytest.raises(RuntimeError, match="balancer of users is not open"):
        users.pick()
    assert users.statistics.in_flight == 0
    async with users:
        users.record_request(users.pick(), "ok")


def test_a_balancer_that_is_opened_again_in_another_event_loop_does_all_that_it_did(tmp_path: Path) -> None:
    told: list[Observations] = []

    async def take(messages: list[Observations]) -> None:
        told.extend(messages)

    async def hangs(attempt: Attempt, request: Request) -> None:
        await asyncio.sleep(3600)

    async def opened(port: int, users: Balancer) -> None:
        async with controller(tmp_path / "data", port) as url, Client(url, actor="test") as client:
            await register(client, "a")
            told.clear()
            async with users, asyncio.timeout(20):
                while not told:
                    users.record_request(users.pick(), "ok")
                    await asyncio.sleep(0.02)
                with pytest.raises(TimeoutError) as late:
                    await users.send(Request("users"), hangs)
                assert isinstance(late.value.__cause__, asyncio.CancelledError)
                # It outlives its block, and is cancelled with the loop before its time is up.
                outlives = asyncio.create_task(users.send(Request("users"), hangs))
                await until(lambda: users.statistics.in_flight == 1)
        assert not outlives.done()

    port = free_port()
    users = Balancer("users", f"http://127.0.0.1:{port}", report_seconds=0.1, report_to=take, timeout_seconds=2.0)
    for _ in range(2):
        asyncio.run(opened(port, users))
        assert users.statistics.in_flight == 0


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


@pytest.mark.parametrize(
    "broken",
    [
        problem("InvalidCommand", 422),
        # What a controller of another version may say one day.
        events(("0:1", "delta", {"changes": [{"op": "put", "item": {"unheard": "of"}}]}), stay=True),
    ],
    ids=["refused", "not understood"],
)
async def test_a_watch_that_breaks_is_begun_again_and_the_list_stays_meanwhile(broken: Handler) -> None:
    first, second = ({"items": [item(name, 1)], "token": "0:1"} for name in "ab")
    script = (
        events(("0:1", "snapshot", first)),
        broken,
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


async def test_what_an_operator_set_in_a_log_that_is_gone_holds_no_more(tmp_path: Path) -> None:
    port = free_port()
    async with AsyncExitStack() as stack:
        async with controller(tmp_path / "lost", port) as url, Client(url) as client:
            await client.traffic.set("users", policy="random", report_seconds=1.0)
            users = await stack.enter_async_context(Balancer("users", url, retry_share=0.5))
            await until(lambda: users.settings.policy == "random")
        async with controller(tmp_path / "new", port):
            await until(lambda: users.settings == replace(DEFAULTS, retry_share=0.5))


async def test_a_balancer_that_is_opened_again_goes_by_what_is_set_then(tmp_path: Path) -> None:
    port = free_port()
    async with controller(tmp_path / "lost", port) as url, Client(url) as client:
        await client.traffic.set("users", policy="random")
        async with Balancer("users", url) as users:
            await until(lambda: users.settings.policy == "random")
    async with controller(tmp_path / "new", port), users:
        assert users.settings == DEFAULTS


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


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("policy", ["fastest", ["random"], 1]),
        ("subset", [0, -1, "3", True, 1.5]),
        ("attempts_max", [0, "2", None, True]),
        ("timeout_seconds", [0, -1, "10", None, math.nan, math.inf, True]),
        ("failure_seconds", [-1, "1", None, math.nan]),
        ("slow_start_seconds", [-1, "3", math.inf, 3_601]),
        ("eject_after", [-1, "5", True, 1.5]),
        ("eject_seconds", [-1, "5", math.nan]),
        ("limit", ["no", 0]),
        ("in_flight_max", [0, -5, "9", True]),
        ("report_seconds", [-1, 0.01, 11, "5", True]),
        ("retry_share", [-0.1, 1.1, "1", math.nan]),
    ],
)
def test_a_setting_that_is_not_one_is_refused(name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(InvalidCommand, match=f"^{name}: "):
            Balancer("users", **{name: value})


def test_a_setting_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match="polcy"):
        Balancer("users", polcy="random")  # type: ignore[call-arg]


@pytest.mark.parametrize("service", [None, "", 5, "a/b", "users\n"])
def test_a_service_without_a_name_is_refused(service: Any) -> None:
    # Of none it would watch all there are, and call anyone's instances.
    with pytest.raises(InvalidCommand, match=r"^service: "):
        Balancer(service)


async def test_what_a_call_cannot_be_is_refused_and_has_not_begun(client: Client) -> None:
    async def call(attempt: object, request: Request) -> None:
        raise AssertionError("it was sent")

    await register(client, "a")
    async with Balancer("users", client) as users:
        with pytest.raises(InvalidCommand, match="orders cannot go to users"):
            await users.send(Request("orders"), call)
        with pytest.raises(InvalidCommand, match="orders cannot go to users"):
            users.pick(Request("orders"))
        with pytest.raises(InvalidCommand, match=r"^priority: "):
            users.attempt("urgent")  # type: ignore[arg-type]
        with pytest.raises(InvalidCommand, match=r"^avoid: .*\['a'\]"):
            users.attempt(avoid="a")
        assert users.statistics.picks == users.statistics.in_flight == 0


async def test_an_outcome_that_there_is_not_is_refused_and_another_one_may_follow(client: Client) -> None:
    await register(client, "a")
    async with Balancer("users", client) as users:
        attempt = users.pick()
        with pytest.raises(InvalidCommand, match=r"^outcome: must be one of ok, failed, overloaded, cancelled"):
            users.record_request(attempt, "fine")  # type: ignore[arg-type]
        assert (users.statistics.failures, users.statistics.in_flight) == (0, 1)
        users.record_request(attempt, "ok")
        assert users.statistics.in_flight == 0
