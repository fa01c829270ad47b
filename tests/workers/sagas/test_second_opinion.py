"""Checks that fail together, of a `muster up`, and balancers that go on calling: what they see decides who is served.

Each balancer reports from an address of its own, as from a host of its own.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from muster import Balancer, Client, Instance, MusterError, Observations, TcpCheck
from muster.wire.telemetry.observations import document_of
from tests.muster.balance.service import Copy
from tests.muster.controller import ControllerProcess, free_port
from tests.workers.http.registry.test_doubts import Relay

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]
NAMES = ("a", "b", "c")
MASS_FLIP_SECONDS = 60.0
REPORT_SECONDS = 1.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ControllerProcess]:
    process = ControllerProcess(tmp_path / "data", free_port(), "--mass-flip-seconds", str(MASS_FLIP_SECONDS))
    yield process
    process.kill()


@asynccontextmanager
async def calling(url: str, address: str) -> AsyncIterator[Balancer]:
    """A client that calls the service all the time, and reports from this address."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(address, 0))) as session,
        aiohttp.ClientSession() as calls,
    ):

        async def report(messages: list[Observations]) -> None:
            # The controller sees where it comes from, so it is not told.
            body = {"observations": [document_of(message._replace(host="")) for message in messages]}
            async with session.post(f"{url}/v1/observations", json=body) as answer:
                answer.raise_for_status()

        async with Balancer("users", url, report_seconds=REPORT_SECONDS, report_to=report) as users:
            task = asyncio.create_task(_call(users, calls))
            try:
                yield users
            finally:
                task.cancel()
                await asyncio.wait([task])


async def _call(users: Balancer, session: aiohttp.ClientSession) -> None:
    while True:
        # Once they are out there is nobody to call.
        with suppress(aiohttp.ClientError, MusterError), users.attempt() as attempt:
            async with session.get(f"http://{attempt.instance.endpoint}/") as answer:
                attempt.answered(failed=answer.status >= 500)
        await asyncio.sleep(0.01)


async def until(client: Client, holds: Callable[[dict[str, Instance]], bool]) -> dict[str, Instance]:
    """The instances by name, once it holds of them."""
    rows: dict[str, Instance] = {}
    try:
        async with asyncio.timeout(MASS_FLIP_SECONDS / 2):
            while True:
                rows = {row.instance: row for row in (await client.instances("users")).items}
                if holds(rows):
                    return rows
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"it does not come to hold of {rows}") from None


async def test_while_clients_are_answered_they_are_served_and_when_these_fail_they_go_at_once(
    server: ControllerProcess,
) -> None:
    await server.start()
    relay, copies = Relay(), {name: Copy(name) for name in NAMES}
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(server.url, actor="test"))
        for name, copy in copies.items():
            await copy.start()
            # Not the service itself is asked, but what stands in the way to it for the checks alone.
            check = TcpCheck(host="127.0.0.1", port=await relay.open(name), name="port", interval_seconds=1.0)
            await client.register("users", name, "127.0.0.1", copy.port, checks=[check])
        await until(client, lambda rows: all(row.health == "healthy" for row in rows.values()))
        for number in range(3):
            await stack.enter_async_context(calling(server.url, f"127.0.0.{number + 2}"))

        relay.cut(*NAMES)
        said = "checks fail together; clients on 3 of 3 hosts see it answer"
        rows = await until(client, lambda rows: all(row.suspect == said for row in rows.values()))
        assert {row.health for row in rows.values()} == {"unhealthy"}
        assert all(row.discoverable for row in rows.values())

        began = time.monotonic()
        for copy in copies.values():
            await copy.kill()
        rows = await until(client, lambda rows: not any(row.discoverable for row in rows.values()))
        # A report of each, and a look at them: with room for a machine that is busy, and far from the time that would do it.
        assert time.monotonic() - began < MASS_FLIP_SECONDS / 3
        assert all(row.suspect is None for row in rows.values())
        last = (await client.history("users", "a")).items[-1]
        assert last.data == {"instance": "a", "because": "observed", "clients": 3, "failing": 3}
