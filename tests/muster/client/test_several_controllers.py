"""A client of several controllers: whom it asks, when it asks the next one, and what it believes."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest
from aiohttp import web

from muster import Appeared, Client, Snapshot
from muster.client.controllers import learning
from muster.wire.error import MusterError, NotReady, Timeout, WrongCluster
from tests.muster.client.scripted import Wire, answer, events, hang_up, item, problem, wire, written
from tests.muster.client.test_watch import delta, put, snapshot

PAGE = answer({"items": [], "token": "0:3", "age_seconds": 0.1}, Muster_Token="0:3")
OTHER_CLUSTER = problem("WrongCluster", 421, "of another cluster", cluster="other")
PROXY = answer("<html>", 502)


@asynccontextmanager
async def closed_port() -> AsyncIterator[str]:
    """The URL of a port at which nobody listens, and nobody else can."""
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


async def silent(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


@asynccontextmanager
async def asked(*servers: Wire, **options: object) -> AsyncIterator[Client]:
    """A client of these servers."""
    async with Client([server.url for server in servers], **options) as client:  # type: ignore[arg-type]
        yield client


async def until(condition: object) -> None:
    async with asyncio.timeout(10):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110 what is waited for sets no event
            await asyncio.sleep(0.01)


def ids(*servers: Wire) -> set[str]:
    """The command ids that they have seen."""
    return {seen.headers["idempotency-key"] for server in servers for seen in server.seen}


async def test_a_connection_that_is_refused_costs_no_time_and_the_one_that_answered_is_asked_first_from_then_on():
    async with closed_port() as dead, wire(PAGE) as living, Client(f"{dead},{living.url}") as client:
        began = time.monotonic()
        for _ in range(50):
            await client.services()
        assert time.monotonic() - began < 1.0
        assert client.url == living.url
        assert client.urls == (living.url, dead)
    assert len(living.seen) == 50


@pytest.mark.parametrize("trouble", [problem("NotReady", 503), problem("Timeout", 504), hang_up, PROXY])
async def test_a_write_goes_on_at_the_next_controller_with_the_same_command_id(trouble: object):
    async with wire(trouble) as one, wire(written()) as other, asked(one, other) as client:  # type: ignore[arg-type]
        assert (await client.heartbeat("orders", "a")).position == 7
    assert (len(one.seen), len(other.seen), len(ids(one, other))) == (1, 1, 1)


async def test_it_pauses_only_once_all_have_failed_and_asks_one_at_a_time():
    under_way: list[str] = []

    async def counted(request: web.Request) -> web.StreamResponse:
        under_way.append(request.host)
        assert len(under_way) == 1
        await asyncio.sleep(0.01)
        under_way.remove(request.host)
        return await problem("NotReady", 503)(request)

    third = wire(counted, counted, written())
    async with wire(counted) as one, wire(counted) as two, third as three, asked(one, two, three) as client:
        await client.heartbeat("orders", "a")
    assert (len(one.seen), len(two.seen), len(three.seen)) == (3, 3, 3)
    assert len(ids(one, two, three)) == 1


async def test_a_silent_controller_leaves_time_for_the_next_one():
    async with wire(silent) as one, wire(written()) as other, asked(one, other, timeout_seconds=1.0) as client:
        await client.heartbeat("orders", "a")
        assert client.url == other.url
        began = time.monotonic()
        await client.heartbeat("orders", "a")
        assert time.monotonic() - began < 0.4
    assert len(one.seen) == 1


async def test_after_a_call_that_its_caller_gave_up_the_next_one_begins_elsewhere():
    async with wire(silent) as one, wire(written()) as other, asked(one, other) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.7):
                await client.heartbeat("orders", "a")
        await client.heartbeat("orders", "a")
    assert (len(one.seen), len(other.seen)) == (1, 1)


async def test_a_refusal_is_an_answer_and_no_other_controller_is_asked():
    async with wire(problem("InvalidInstance", 422)) as one, wire(written()) as other, asked(one, other) as client:
        with pytest.raises(MusterError, match="no"):
            await client.heartbeat("orders", "a")
    assert other.seen == []


async def test_when_none_answers_what_one_has_said_counts_for_more_than_that_another_is_away():
    async with closed_port() as dead, wire(problem("NotReady", 503, "recovering")) as server:
        for urls in ((dead, server.url), (server.url, dead)):
            async with Client(urls, timeout_seconds=0.3) as client:
                with pytest.raises(NotReady, match="recovering"):
                    await client.heartbeat("orders", "a")


async def test_a_write_that_may_have_been_done_at_one_controller_ends_in_timeout_though_the_other_is_away():
    async with closed_port() as dead, wire(hang_up, problem("NotReady", 503)) as server:
        client = Client((server.url, dead), timeout_seconds=0.3)
        async with client:
            with pytest.raises(Timeout, match="the command id beat-1"):
                await client.heartbeat("orders", "a", command_id="beat-1")


async def test_a_write_that_may_have_been_done_stays_unknown_when_its_port_has_another_owner_now():
    async with wire(hang_up, OTHER_CLUSTER) as server, Client(server.url) as client:
        with pytest.raises(Timeout, match="the command id beat-1"):
            await client.heartbeat("orders", "a", command_id="beat-1")


async def test_a_write_that_a_proxy_has_lost_may_have_been_done():
    async with wire(PROXY) as server, Client(server.url, timeout_seconds=0.2) as client:
        with pytest.raises(Timeout, match="502"):
            await client.heartbeat("orders", "a")


async def test_what_it_has_seen_at_one_controller_it_asks_of_the_next():
    async with wire(PAGE, hang_up) as one, wire(PAGE) as other, asked(one, other) as client:
        await client.services()
        await client.services()
    assert other.seen[0].headers["muster-token"] == "0:3"


async def test_a_registration_is_kept_alive_at_another_controller_within_its_lease():
    async with wire(written(), silent) as one, wire(written()) as other, asked(one, other) as client:
        began = time.monotonic()
        async with client.registered("orders", "a", "10.0.0.7", 80, lease_seconds=2.4) as registration:
            await until(lambda: len(other.seen) >= 2)
            assert time.monotonic() - began < 2.4
            assert not registration.lost.is_set()
    assert {seen.path.rpartition("/")[2] for seen in other.seen[:2]} == {"heartbeat"}


# Watches


async def test_a_watch_goes_on_at_the_next_controller_behind_the_last_event():
    begins = events(snapshot("0:1", item("a", 1)))
    goes_on = events(delta("0:2", put("b", 2)), stay=True)
    async with wire(begins, hang_up) as one, wire(goes_on) as other, asked(one, other) as client:
        told = []
        async for change in client.watch("orders"):
            told.append(change)
            if len(told) == 2:
                break
    assert [type(change) for change in told] == [Snapshot, Appeared]
    assert other.seen[0].headers["last-event-id"] == "0:1"


async def test_a_watch_that_breaks_off_wherever_it_begins_pauses():
    breaks_off = events(snapshot("0:1", item("a", 1)))
    async with wire(breaks_off) as one, wire(breaks_off) as other, asked(one, other) as client:
        watching = asyncio.create_task(anext(_behind_the_first(client)))
        await asyncio.sleep(0.5)
        watching.cancel()
        await asyncio.wait([watching])
    # 25 ms at least after the first round, then 50, 100, 200: without pauses it would be hundreds.
    assert 2 <= len(one.seen) <= 6


async def _behind_the_first(client: Client) -> AsyncIterator[object]:
    async for change in client.watch("orders"):
        if not isinstance(change, Snapshot):
            yield change


async def test_a_watch_looks_further_when_a_controller_is_none_or_of_another_cluster():
    watched = events(snapshot("0:1", item("a", 1)), stay=True)
    stranger = answer("hello", 404)
    async with wire(stranger) as one, wire(OTHER_CLUSTER) as two, wire(watched) as three:
        async with asked(one, two, three) as client:
            assert isinstance(await anext(client.watch("orders")), Snapshot)
        async with asked(one, two) as client:
            with pytest.raises(WrongCluster):
                await anext(client.watch("orders"))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "LEARN_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(learning, "ASK_SECONDS_MAX", 0.1)


@pytest.mark.usefixtures("impatient")
async def test_a_watch_goes_on_elsewhere_when_its_controller_has_fallen_silent():
    begins = events(snapshot("0:1", item("a", 1)), stay=True)
    goes_on = events(delta("0:2", put("b", 2)), stay=True)
    async with wire(begins) as one, wire(goes_on) as other, asked(one, other) as client:
        watching = client.watch("orders")
        assert isinstance(await anext(watching), Snapshot)
        one.silent = True
        async with asyncio.timeout(5):
            assert isinstance(await anext(watching), Appeared)
        await watching.aclose()
    assert (len(one.seen), other.seen[0].headers["last-event-id"]) == (1, "0:1")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("alone", [True, False], ids=["nowhere to go", "it answers"])
async def test_a_watch_stays_where_it_is_with_nowhere_to_go_and_while_its_controller_answers(alone: bool):
    begins = events(snapshot("0:1", item("a", 1)), stay=True)
    async with wire(begins) as one, wire(begins) as other:
        async with Client([one.url] if alone else [one.url, other.url]) as client:
            watching = client.watch("orders")
            assert isinstance(await anext(watching), Snapshot)
            one.silent = alone
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await anext(watching)
        assert (len(one.seen), len(other.seen)) == (1, 0)


# Whom it believes


async def test_a_redirect_is_not_followed_with_body_and_actor_and_its_answer_is_not_believed():
    async with wire(written(position=99)) as elsewhere:

        async def away(_: web.Request) -> web.StreamResponse:
            raise web.HTTPTemporaryRedirect(f"{elsewhere.url}/v1/taken", headers={"Muster-Token": "0:99"})

        async with wire(away) as server, Client(server.url, actor="ops") as client:
            with pytest.raises(MusterError, match=r"sends to another address \(307\), which is not followed"):
                await client.heartbeat("orders", "a")
            with pytest.raises(MusterError, match="307"):
                await client.services()
            with pytest.raises(MusterError, match="307"):
                await anext(client.watch("orders"))
            assert client.token == ""
        assert elsewhere.seen == []


async def test_proxies_of_the_environment_are_used_only_when_that_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    async with wire(PAGE) as server, wire(PAGE) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        async with Client(server.url) as client:
            await client.services()
        assert (len(server.seen), len(proxy.seen)) == (1, 0)
        monkeypatch.setenv("MUSTER_TRUST_ENV", "1")
        async with Client(server.url) as client:
            await client.services()
        assert (len(server.seen), len(proxy.seen)) == (1, 1)


async def test_every_request_says_which_cluster_is_meant_if_the_client_was_told():
    async with wire(PAGE) as server:
        async with Client(server.url, cluster="blue") as client:
            await client.services()
        async with Client(server.url) as client:
            await client.services()
    assert [seen.headers.get("muster-cluster") for seen in server.seen] == ["blue", None]


async def test_a_controller_of_another_cluster_is_passed_over_and_alone_it_refuses():
    async with wire(OTHER_CLUSTER) as strange, wire(written()) as ours, asked(strange, ours) as client:
        await client.heartbeat("orders", "a")
        await client.heartbeat("orders", "a")
        assert len(strange.seen) == 1
        async with Client(strange.url) as lost:
            with pytest.raises(WrongCluster) as caught:
                await lost.heartbeat("orders", "a")
    assert caught.value.context == {"cluster": "other"}


async def test_a_strangers_server_is_passed_over_and_a_controller_that_is_away_is_waited_for():
    stranger = answer({"error": "no such page"}, 404)
    async with (
        wire(stranger) as strange,
        wire(problem("NotReady", 503), written()) as ours,
        asked(strange, ours) as client,
    ):
        await client.heartbeat("orders", "a")
    assert (len(strange.seen), len(ours.seen)) == (2, 2)


# Learning


async def test_it_learns_of_others_and_asks_them_when_the_one_that_it_was_given_does_not_answer():
    async with wire(written()) as other:
        async with wire(written()) as given:
            given.controllers = [given.url, other.url]
            client = Client(given.url)
            await client.__aenter__()
            await client.heartbeat("orders", "a")
            await until(lambda: client.urls == (given.url, other.url))
            assert other.seen == []
        await client.heartbeat("orders", "a")
        assert len(other.seen) == 1
        await client.__aexit__()


async def test_it_returns_to_one_that_it_was_given_as_soon_as_that_answers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(learning, "LEARN_EVERY_SECONDS", 0.05)
    async with wire(problem("NotReady", 503), written()) as given, wire(written()) as other:
        given.controllers = other.controllers = [other.url]
        async with Client(given.url) as client:
            client._transport.controllers.learn(given.url, [other.url])
            await client.heartbeat("orders", "a")
            assert client.url == other.url
            await until(lambda: client.url == given.url)
