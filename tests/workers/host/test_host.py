"""A host with a real controller: its instances are here, as healthy as their checks say, until nobody wants them any more."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from muster import Client
from muster.wire.registry.answers import HistoryEntry, Instance
from muster.wire.registry.check import TcpCheck
from muster.wire.registry.spec import Spec
from tests.muster.controller import ControllerProcess, controller, free_port
from workers.host.beats import PlacedHeartbeats
from workers.host.config import HostInstance
from workers.host.host import Host

LEASE = 1.5


def wanted(name: str, *checks: TcpCheck, weight: int = 1, lease: float = LEASE) -> HostInstance:
    spec = Spec(address="127.0.0.1", port=8080, weight=weight, lease_seconds=lease)
    return HostInstance("orders", name, spec, checks, lease)


def tcp(port: int, name: str = "tcp") -> TcpCheck:
    return TcpCheck(host="127.0.0.1", port=port, name=name, interval_seconds=0.1, unhealthy_after=1)


async def until(what: str, holds: Callable[[], Awaitable[bool]], seconds: float = 20.0) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not await holds():  # noqa: ASYNC110 the controller is asked
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s: {what}") from None


class Scene:
    """A host named `h1` at work, and a client that looks."""

    def __init__(self, client: Client, host: Host) -> None:
        self.client, self.host = client, host

    def want(self, *instances: HostInstance) -> None:
        self.host.want({(one.service, one.instance): one for one in instances})

    async def rows(self) -> dict[str, Instance]:
        return {row.instance: row for row in (await self.client.instances("orders", consistency="eventual")).items}

    async def health(self) -> dict[str, str]:
        return {name: row.health for name, row in (await self.rows()).items()}

    async def is_so(self, **health: str) -> None:
        async def holds() -> bool:
            return await self.health() == health

        await until(f"{health}", holds)

    async def events(self, name: str) -> list[str]:
        history = await self.client.history("orders", name)
        return [entry.type.removeprefix("muster.instance.").removesuffix(".v1") for entry in history.items]


@asynccontextmanager
async def scene(url: str, seconds: float = 5.0, **options: object) -> AsyncIterator[Scene]:
    async with Client(url, timeout_seconds=seconds) as client:
        host = Host(client, "h1", **options)  # type: ignore[arg-type]
        running = asyncio.create_task(host.run())
        try:
            yield Scene(client, host)
        finally:
            running.cancel()
            await asyncio.wait([running])


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    async with controller(tmp_path / "data") as found:
        yield found


@asynccontextmanager
async def listening(port: int) -> AsyncIterator[None]:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", port)
    async with server:
        yield


async def test_instances_come_stay_longer_than_their_leases_change_and_leave(url: str) -> None:
    async with scene(url) as one:
        one.want(wanted("a"), wanted("b"))
        await one.is_so(a="healthy", b="healthy")
        await asyncio.sleep(2 * LEASE)  # Two leases: nobody could have stayed without being heard.
        assert await one.events("a") == ["registered"]
        one.want(wanted("b", weight=7), wanted("c"))
        await one.is_so(b="healthy", c="healthy")
        assert (await one.rows())["b"].weight == 7
        assert (await one.events("a"))[-1] == "deregistered"
        await one.host.leave()
        await one.is_so()


async def test_a_host_without_a_controller_says_that_it_waits_and_where(caplog: pytest.LogCaptureFixture) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    caplog.set_level(logging.INFO, "muster.host")
    async with scene(url, seconds=60.0) as one:
        one.want(wanted("a"))

        async def told() -> bool:
            return f"h1 is not heard: it waits for an answer from the controller at {url}" in caplog.messages

        await until("it is said", told)


async def test_an_instance_is_as_its_checks_here_say_and_is_not_offered_before(url: str) -> None:
    port = free_port()
    async with scene(url) as one:
        one.want(wanted("a", tcp(port)))
        await one.is_so(a="unhealthy")
        row = (await one.rows())["a"]
        assert row.cause is not None
        assert row.cause.startswith("tcp: ")
        async with listening(port):
            await one.is_so(a="healthy")
        await one.is_so(a="unhealthy")
    told = [entry.data.get("to") for entry in (await _history(url, "a")) if entry.type.endswith("health_changed.v1")]
    # Its first check may have ended before it was registered: then nothing of it was unknown.
    assert told[told[0] == "unknown" :] == ["unhealthy", "healthy", "unhealthy"]


async def _history(url: str, name: str) -> tuple[HistoryEntry, ...]:
    async with Client(url) as client:
        return (await client.history("orders", name)).items


async def test_a_host_that_starts_again_finds_its_instances_as_they_were(url: str) -> None:
    port, events = free_port(), []
    async with listening(port):
        for _ in range(2):
            # The first one ends without a word, as one that is killed does.
            async with scene(url) as one:
                one.want(wanted("a", tcp(port), lease=60.0))
                await one.is_so(a="healthy")
                await until("it is said", lambda: _told(one, "a"))
            events.append(await _history(url, "a"))
    first, second = events
    assert first[0].type == "muster.instance.registered.v1"
    assert first == second


async def _told(one: Scene, name: str) -> bool:
    return one.host.held["orders", name].told == "healthy"


async def test_whose_checks_are_gone_is_not_ill_by_them_any_more(url: str) -> None:
    async with scene(url) as one:
        one.want(wanted("a", tcp(free_port())))
        await one.is_so(a="unhealthy")
        one.want(wanted("a"))
        await one.is_so(a="healthy")


async def test_what_was_taken_out_on_request_stays_out_until_its_files_change(url: str) -> None:
    async with scene(url) as one:
        one.want(wanted("a"), wanted("b"))
        await one.is_so(a="healthy", b="healthy")
        await one.client.deregister("orders", "a")

        async def given_up() -> bool:
            return one.host.held["orders", "a"].over is not None

        await until("it is left alone", given_up)
        await one.is_so(b="healthy")
        one.want(wanted("a", weight=2), wanted("b"))
        await one.is_so(a="healthy", b="healthy")


async def test_a_successor_is_left_in_peace(url: str) -> None:
    async with scene(url) as one:
        one.want(wanted("a"))
        await one.is_so(a="healthy")
        await one.client.register_spec("orders", "a", Spec(address="10.0.0.9", port=1), holder="another")

        async def given_up() -> bool:
            return one.host.held["orders", "a"].over is not None

        await until("it is left alone", given_up)
        await one.host.leave()
        assert (await one.rows())["a"].address == "10.0.0.9"


async def test_it_outlives_a_controller_that_is_away_for_longer_than_a_lease(tmp_path: Path) -> None:
    server = ControllerProcess(tmp_path / "data", free_port())
    await server.start()
    try:
        # A call gives up long before the controller is back.
        async with scene(server.url, 0.5) as one:
            one.want(wanted("a"), wanted("b"))
            await one.is_so(a="healthy", b="healthy")
            server.kill()
            one.want(wanted("b"), wanted("c"))
            await asyncio.sleep(2 * LEASE)
            await server.start()
            await one.is_so(b="healthy", c="healthy")
    finally:
        server.kill()


class Board:
    """A topic that keeps what was published."""

    def __init__(self) -> None:
        self.sent: list[PlacedHeartbeats] = []

    async def send(self, placed: list[PlacedHeartbeats]) -> None:
        self.sent += placed


async def test_with_a_topic_heartbeats_go_there_many_in_a_message(url: str) -> None:
    board = Board()
    async with scene(url, topic=board) as one:
        one.want(*(wanted(f"i{number}", lease=60.0) for number in range(60)))

        async def heard() -> bool:
            return bool(board.sent)

        await until("heartbeats", heard)
        [(partition, message)] = board.sent
        rows = await one.rows()
        assert (partition, message.agent, message.service, len(message.beats)) == (0, "h1", "orders", 60)
        assert {beat.instance: beat.incarnation for beat in message.beats} == {
            name: row.incarnation for name, row in rows.items()
        }
