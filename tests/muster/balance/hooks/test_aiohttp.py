"""What `muster.balanced` has besides what all hooks have: other hosts, a session's repeats and its time, and web sockets."""

import ssl
from collections.abc import AsyncIterator

import aiohttp
import pytest
import trustme
from aiohttp import web

from muster import Balancer, Client, balanced
from tests.muster.balance.hooks.copies import Copy
from tests.muster.balance.service import until
from tests.muster.controller import free_port


@pytest.fixture
async def session(users: Balancer) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession("http://users", middlewares=(balanced(users),)) as session:
        yield session


async def test_a_session_repeats_nothing_by_itself(three: list[Copy], session: aiohttp.ClientSession) -> None:
    for copy in three:
        copy.behaviour = "breaks off"
    # It would try once more, wherever it likes.
    with pytest.raises(aiohttp.ClientConnectionError, match="users"):
        await session.get("/users/1")
    assert sorted(copy.asked for copy in three) == [0, 1, 1]


async def test_when_the_callers_time_is_up_nothing_is_tried_again(
    three: list[Copy], session: aiohttp.ClientSession, users: Balancer
) -> None:
    for copy in three:
        copy.behaviour = "hangs"
    with pytest.raises(TimeoutError):
        await session.get("/users/1", timeout=aiohttp.ClientTimeout(total=0.2))
    assert sum(copy.asked for copy in three) == 1
    assert users.statistics.retries == users.statistics.in_flight == 0


async def test_a_call_is_under_way_until_its_body_is_read_or_given_up(
    three: list[Copy], session: aiohttp.ClientSession, users: Balancer
) -> None:
    answer = await session.get("/users/1")
    answer.close()
    assert users.statistics.in_flight == 0
    for copy in three:
        copy.behaviour = "half a body"
    async with session.get("/users/1") as answer:
        assert users.statistics.in_flight == 1
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()
        assert users.statistics.in_flight == 0


async def test_the_path_and_the_query_arrive_as_they_were_asked(
    three: list[Copy], session: aiohttp.ClientSession
) -> None:
    asked = {"/users/Ada%20L%2Fo?of=a%26b&and=%C3%BC", "/users/Ada%20L%2Fo", "/"}
    for path in asked:
        async with session.get(path) as answer:
            assert answer.status == 200
    assert {path for copy in three for path in copy.paths} == asked


async def test_other_hosts_are_left_alone(three: list[Copy], users: Balancer) -> None:
    async with aiohttp.ClientSession(middlewares=(balanced(users),)) as session:
        async with session.get(f"http://127.0.0.1:{three[2].port}/") as answer:
            assert await answer.text() == "users-3"
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"http://127.0.0.1:{free_port()}/")
    assert users.statistics.picks == 0


@pytest.fixture
async def by_tls(url: str) -> AsyncIterator[ssl.SSLContext]:
    """A copy that talks over web sockets, with a certificate for the name `users`; what trusts that."""
    authority, theirs, ours = (
        trustme.CA(),
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH),
        ssl.create_default_context(),
    )
    authority.issue_cert("users").configure_cert(theirs)
    authority.configure_trust(ours)

    async def talk(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("well")
        await socket.receive()
        return socket

    app = web.Application()
    app.router.add_get("/", talk)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=theirs).start()
    async with Client(url, actor="test") as client:
        await client.register("users", "users-1", "127.0.0.1", runner.addresses[0][1])
    yield ours
    await runner.cleanup()


@pytest.mark.parametrize("scheme", ["https", "wss"])
async def test_a_web_socket_is_under_way_until_it_is_closed_and_its_certificate_is_the_service_s(
    url: str, by_tls: ssl.SSLContext, scheme: str
) -> None:
    async with (
        Balancer("users", url) as users,
        aiohttp.ClientSession(middlewares=(balanced(users),)) as session,
        session.ws_connect(f"{scheme}://users/", ssl=by_tls) as socket,
    ):
        assert await socket.receive_str() == "well"
        assert users.statistics.in_flight == 1
        await socket.close()
        await until(lambda: users.statistics.in_flight == 0)
        assert users.statistics.failures == 0
