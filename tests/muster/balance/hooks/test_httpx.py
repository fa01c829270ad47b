"""What `muster.BalancedTransport` has besides what all hooks have: URLs, streams, and transports that it is given."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpcore
import httpx
import pytest

from muster import BalancedTransport, Balancer, Client, InvalidCommand
from muster.balance.hooks import httpx_transport
from tests.muster.balance.hooks.copies import Copy
from tests.muster.balance.service import until

ODD = "/users/Ada%20L%2Fo?of=a%26b&and=%C3%BC"


class Told(httpx.AsyncHTTPTransport):
    """A transport of a user's own, which looks at the URLs that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.urls.append(str(request.url))
        return await super().handle_async_request(request)


@pytest.fixture
async def client(users: Balancer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(mounts={"muster://": BalancedTransport(users)}) as client:
        yield client


async def test_the_answer_s_url_is_the_one_that_was_asked(three: list[Copy], client: httpx.AsyncClient) -> None:
    assert str((await client.get("muster://users/users/1")).url) == "muster://users/users/1"


async def test_the_path_and_the_query_arrive_as_they_were_asked(three: list[Copy], client: httpx.AsyncClient) -> None:
    assert (await client.get(f"muster://users{ODD}")).status_code == 200
    assert {path for copy in three for path in copy.paths} == {ODD}


async def test_a_call_that_no_copy_answers_in_time_ends_as_httpx_has_it(url: str, three: list[Copy]) -> None:
    for copy in three:
        copy.behaviour = "hangs"
    async with (
        Balancer("users", url, timeout_seconds=0.1) as users,
        httpx.AsyncClient(mounts={"muster://": BalancedTransport(users)}) as client,
    ):
        with pytest.raises(httpx.ReadTimeout, match=r"users: no answer in 0\.1 s"):
            await client.get("muster://users/")


class Stalls(httpcore.AsyncNetworkBackend):
    """Connects, and then keeps the event loop so long that an attempt's time is up before its next step."""

    def __init__(self, inner: httpcore.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(self, *args: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        stream = await self._inner.connect_tcp(*args, **options)
        time.sleep(0.3)  # noqa: ASYNC251 as a busy process does
        # The time is looked at behind the next step, which is to take hold of the connection.
        await asyncio.sleep(0)
        return stream


async def test_calls_that_are_given_up_in_time_leave_no_connection_that_nobody_uses(
    url: str, three: list[Copy]
) -> None:
    inner = httpx.AsyncHTTPTransport()
    inner._pool._network_backend = Stalls(inner._pool._network_backend)
    async with (
        Balancer("users", url, timeout_seconds=0.2) as users,
        httpx.AsyncClient(mounts={"muster://": BalancedTransport(users, transport=inner)}) as client,
    ):
        with pytest.raises(httpx.ReadTimeout, match=r"users: no answer in 0\.2 s"):
            await client.get("muster://users/")
        assert [one.info() for one in inner._pool.connections if not one.is_idle() and not one.is_closed()] == []
        assert users.statistics.in_flight == 0


async def test_headers_that_come_byte_by_byte_are_not_waited_for_for_ever(url: str) -> None:
    async def drips(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        part = b"HTTP/1.1 200 OK\r\nslow: "
        with suppress(ConnectionError):
            while True:
                writer.write(part)
                part = b"h"
                await writer.drain()
                await asyncio.sleep(0.05)

    server = await asyncio.start_server(drips, "127.0.0.1", 0)
    async with (
        server,
        Client(url, actor="test") as registry,
        Balancer("users", url, timeout_seconds=0.2, attempts_max=1) as users,
        httpx.AsyncClient(mounts={"muster://": BalancedTransport(users)}) as client,
        asyncio.timeout(20),
    ):
        await registry.register("users", "slow", "127.0.0.1", server.sockets[0].getsockname()[1])
        await until(lambda: len(users.statistics.instances) == 1)
        with pytest.raises(httpx.ReadTimeout, match=r"users: no answer in 0\.2 s"):
            await client.get("muster://users/")
        assert users.statistics.in_flight == 0


class KnowsNoTimes(httpx.AsyncBaseTransport):
    """A transport that waits for an answer for as long as it takes, whatever the times of the request."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError("nobody answers")


async def test_a_transport_that_knows_no_times_is_cancelled_in_time(
    url: str, three: list[Copy], monkeypatch: pytest.MonkeyPatch
) -> None:
    # With it this transport would be waited for for an hour.
    monkeypatch.setattr(httpx_transport, "GRACE_SECONDS", 3_600.0)
    async with (
        Balancer("users", url, timeout_seconds=0.1) as users,
        httpx.AsyncClient(mounts={"muster://": BalancedTransport(users, transport=KnowsNoTimes())}) as client,
        asyncio.timeout(60),
    ):
        with pytest.raises(httpx.ReadTimeout, match=r"users: no answer in 0\.1 s"):
            await client.get("muster://users/")
        assert users.statistics.in_flight == 0


@pytest.mark.parametrize("location", ["/to?a=%2F", "http://users/to?a=%2F", "to?a=%2F"])
async def test_a_redirect_within_the_service_is_followed(
    three: list[Copy], client: httpx.AsyncClient, location: str
) -> None:
    for copy in three:
        copy.moved["/from"] = location
    answer = await client.get("muster://users/from", follow_redirects=True)
    assert (answer.status_code, str(answer.url)) == (200, "muster://users/to?a=%2F")


async def test_a_redirect_out_of_the_service_leads_out(three: list[Copy], client: httpx.AsyncClient) -> None:
    for copy in three:
        copy.moved["/from"] = f"http://127.0.0.1:{three[2].port}/to"
    answer = await client.get("muster://users/from", follow_redirects=True)
    assert (answer.text, answer.url.host) == ("users-3", "127.0.0.1")


async def test_another_service_is_refused_and_gets_no_call_of_this_one(
    three: list[Copy], client: httpx.AsyncClient
) -> None:
    with pytest.raises(InvalidCommand, match="orders cannot go to users"):
        await client.post("muster://orders/1")
    assert sum(copy.asked for copy in three) == 0


@pytest.mark.parametrize("mount", ["http://", "all://"])
async def test_however_it_is_mounted_another_host_gets_no_call_of_this_service(
    three: list[Copy], users: Balancer, mount: str
) -> None:
    async with httpx.AsyncClient(mounts={mount: BalancedTransport(users)}) as client:
        with pytest.raises(InvalidCommand, match="payments cannot go to users"):
            await client.post("http://payments/1", headers={"Authorization": "Bearer secret"})
        assert sum(copy.asked for copy in three) == 0
        assert (await client.get("http://users/1")).status_code == 200


async def test_what_is_asked_for_by_tls_never_goes_without_it(three: list[Copy], users: Balancer) -> None:
    async with httpx.AsyncClient(transport=BalancedTransport(users)) as client:
        # The copies understand no TLS.
        with pytest.raises(httpx.ConnectError):
            await client.get("https://users/1")
    assert sum(copy.asked for copy in three) == 0


async def test_only_a_scheme_of_connections_is_one(users: Balancer) -> None:
    with pytest.raises(InvalidCommand, match="scheme"):
        BalancedTransport(users, scheme="muster")


async def test_a_transport_that_it_is_given_is_asked_for_whole_urls(three: list[Copy], users: Balancer) -> None:
    own = Told()
    async with httpx.AsyncClient(mounts={"muster://": BalancedTransport(users, transport=own)}) as client:
        for _ in three:
            assert (await client.get(f"muster://users{ODD}")).status_code == 200
    assert sorted(own.urls) == sorted(f"http://127.0.0.1:{copy.port}{ODD}" for copy in three)


async def test_a_call_is_under_way_until_its_body_is_read(
    three: list[Copy], client: httpx.AsyncClient, users: Balancer
) -> None:
    async with client.stream("GET", "muster://users/"):
        assert users.statistics.in_flight == 1
    assert (users.statistics.in_flight, users.statistics.failures) == (0, 0)


async def test_a_body_that_breaks_off_is_a_failure_of_its_copy(
    three: list[Copy], client: httpx.AsyncClient, users: Balancer
) -> None:
    for copy in three:
        copy.behaviour = "half a body"
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("muster://users/")
    assert (users.statistics.in_flight, users.statistics.failures) == (0, 1)
