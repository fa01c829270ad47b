"""Whom checks may ask, as a table, and at the moment of connecting."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from muster.wire.error import NotReady
from muster.wire.registry.check import HttpCheck, TcpCheck
from tests.workers.health.test_checker import Target
from workers.health.probe import Asker, Prober
from workers.health.targets import Targets, endpoints

OWN = ("10.0.0.7",)
PORT = 8740


@pytest.mark.parametrize(
    ("setting", "address", "allowed"),
    [
        ("own", "10.0.0.7", True),
        ("own", "::ffff:10.0.0.7", True),
        ("own", "10.0.0.8", False),
        ("own", "127.0.0.1", False),
        ("any", "10.0.0.8", True),
        ("any", "169.254.169.254", True),
        ("10.0.0.0/8", "10.0.0.8", True),
        ("10.0.0.0/8", "::ffff:10.0.0.8", True),
        ("10.0.0.0/8, fd00::/8", "fd00::8", True),
        ("10.0.0.0/8", "192.168.0.1", False),
        ("192.168.0.0/16", "10.0.0.7", False),
        ("own,192.168.0.0/16", "10.0.0.7", True),
        ("own,192.168.0.0/16", "192.168.3.4", True),
        ("own,192.168.0.0/16", "10.0.0.8", False),
    ],
)
def test_the_setting_says_whom_a_check_may_ask(setting: str, address: str, allowed: bool):
    refusal = Targets(setting).refusal(address, 80, OWN, ())
    assert (refusal is None) == allowed
    assert refusal is None or refusal.startswith("not allowed: ")


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254"])
def test_nobodys_own_address_is_where_a_cloud_tells_its_secrets(address: str):
    assert Targets("own").refusal(address, 80, (address,), ()) is not None
    assert Targets(f"own,{address}").refusal(address, 80, (), ()) is None


@pytest.mark.parametrize(
    ("protected", "address", "forbidden"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("0.0.0.0", "127.0.0.2", True),
        ("0.0.0.0", "0.0.0.0", True),
        ("::", "127.0.0.1", True),
        ("::", "::1", True),
        ("0.0.0.0", "192.0.2.1", False),
        ("10.0.0.9", "10.0.0.9", True),
    ],
)
def test_what_is_protected_is_never_asked_whatever_the_setting(protected: str, address: str, forbidden: bool):
    for setting in ("any", "own", f"{address}"):
        refusal = Targets(setting).refusal(address, PORT, (address,), (protected,))
        assert (refusal is not None) == forbidden


def test_an_unspecified_address_leads_to_this_machine():
    assert Targets("any").refusal("0.0.0.0", PORT, (), ("127.0.0.1",)) is not None


@pytest.mark.parametrize("setting", ["", "own;any", "10.0.0.0/33", "localhost", "any,10.0.0.0/8"])
def test_a_setting_that_cannot_be_read_is_refused(setting: str):
    with pytest.raises(NotReady, match="--check-targets"):
        Targets(setting)


@pytest.mark.parametrize(
    ("servers", "found"),
    [
        ("", []),
        ("a:1,b", [("a", 1), ("b", 9)]),
        ("[fd00::7]:1", [("fd00::7", 1)]),
        ("postgresql://me:s%40cret@db:5433/x?sslmode=disable", [("db", 5433)]),
        ("postgresql://me@/x?host=db&port=7", [("db", 7)]),
        ("postgresql:///x?host=/run/postgresql", []),
        ("postgres://a:1,b:2/x", [("a", 1), ("b", 2)]),
    ],
)
def test_the_endpoints_of_servers_are_taken_from_their_settings(servers: str, found: list[tuple[str, int]]):
    assert endpoints(servers, 9) == found


@pytest.mark.parametrize(
    ("host", "address", "refused"),
    [
        ("10.0.0.8", "10.0.0.7", True),
        ("localhost", "10.0.0.7", True),
        ("10.0.0.7", "10.0.0.7", False),
        ("orders.internal", "10.0.0.7", False),
        ("10.0.0.8", "orders.internal", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("localhost", "localhost", True),
        ("127.0.0.1", "orders.internal", True),
        ("::1", "localhost", False),
    ],
)
def test_what_can_never_be_asked_is_known_at_the_registration(host: str, address: str, refused: bool):
    targets = Targets("own", [("localhost", PORT), ("kafka.internal", PORT)])
    assert (targets.refusal_for_good(host, PORT, address) is not None) == refused


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    target = Target()
    await target.start()
    yield target
    await target.stop()


def check(target: Target, host: str, **changes: Any) -> HttpCheck:
    return target.check(url=f"http://{host}:{target.port}/", timeout_seconds=2.0, **changes)


async def test_each_address_is_judged_when_it_is_connected_to(target: Target, monkeypatch: pytest.MonkeyPatch):
    """A name may have another address by then; of several, those that may be asked are."""
    known = {"good.test": ["127.0.0.1"], "bad.test": ["127.0.0.2"], "both.test": ["127.0.0.2", "127.0.0.1"]}

    def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    asker = Asker("127.0.0.1", "service/orders")
    async with Prober(None, Targets("own")) as prober:
        assert (await prober.run(check(target, "good.test"), asker)).text == "HTTP 200"
        assert (await prober.run(check(target, "both.test"), asker)).text == "HTTP 200"
        told = await prober.run(check(target, "bad.test"), asker)
        assert (told.success, told.text) == (
            False,
            "not allowed: 127.0.0.2 is not the address that the instance has registered (`--check-targets`)",
        )
        known["good.test"] = ["127.0.0.2"]
        assert (await prober.run(check(target, "good.test"), asker)).text == told.text
        assert (await prober.run(check(target, "127.0.0.1"), Asker("good.test", "service/orders"))).success is False
        told = await prober.run(check(target, "127.0.0.1"), Asker("gone.test", "service/orders"))
        assert told.text.startswith("not allowed: cannot resolve gone.test")
    async with Prober(None, Targets("any", [("gone.test", target.port)])) as prober:
        told = await prober.run(check(target, "127.0.0.1"), asker)
        assert told.text.startswith("not allowed: cannot resolve gone.test")
    async with Prober(None, Targets("any", [("good.test", target.port)])) as prober:
        known["good.test"] = ["127.0.0.1"]
        told = await prober.run(check(target, "127.0.0.1"), asker)
        assert told.text.endswith("belongs to this controller, its Kafka or its PostgreSQL")


async def test_the_second_address_is_tried_while_the_first_is_silent(target: Target, monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as silent, socket.socket() as waiting, socket.socket() as another:
        # With its queue full, this one answers no more: as a host that is off, or behind a firewall.
        silent.bind(("127.0.0.9", target.port))
        silent.listen(0)
        for one in (waiting, another):
            one.setblocking(False)
            one.connect_ex(("127.0.0.9", target.port))
        addresses = ["127.0.0.9", "127.0.0.1"]
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses],
        )
        async with Prober() as prober:
            asker = Asker("127.0.0.1", "service/orders")
            assert (await prober.run(check(target, "127.0.0.9"), asker)).text == "no answer within 2 s"
            assert (await prober.run(check(target, "two.test"), asker)).text == "HTTP 200"
            tcp = TcpCheck(host="two.test", port=target.port, timeout_seconds=1.0)
            assert (await prober.run(tcp, asker)).text == "connected"


async def test_a_name_server_that_is_silent_holds_up_only_those_who_ask_it(
    target: Target,
    monkeypatch: pytest.MonkeyPatch,
):
    released = asyncio.Event()
    loop = asyncio.get_running_loop()

    def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        if host.endswith(".silent.test"):
            asyncio.run_coroutine_threadsafe(released.wait(), loop).result()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with Prober() as prober:
        silent = [
            asyncio.create_task(prober.run(check(target, f"n{number}.silent.test"), Asker("127.0.0.1", "service/bad")))
            for number in range(200)
        ]
        crowded = "not judged: too many names of this service are being looked up"
        told = await prober.run(check(target, "good.test"), Asker("127.0.0.1", "service/orders"))
        assert told.text == "HTTP 200"
        released.set()
        texts = {(await one).text for one in silent}
    assert texts == {crowded, "HTTP 200"}


async def test_a_name_that_many_ask_for_is_looked_up_once_at_a_time(target: Target, monkeypatch: pytest.MonkeyPatch):
    released, asked = threading.Event(), []

    def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        assert released.wait(20), "nobody has let it go on"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with Prober() as prober:
        asker = Asker("127.0.0.1", "service/orders")
        runs = [asyncio.create_task(prober.run(check(target, "many.test"), asker)) for _ in range(5)]
        for _ in range(5):
            await asyncio.sleep(0)  # Each of them has come to ask.
        released.set()
        assert {(await run).text for run in runs} == {"HTTP 200"}
    assert asked == ["many.test"]
