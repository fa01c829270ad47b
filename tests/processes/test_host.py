"""`muster host run` as a process: its files, SIGHUP, a broken file, SIGKILL and SIGTERM."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from muster import Client
from tests.muster.controller import controller

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]
RUN = "from workers.cli.host import run; run()"


def table(name: str, port: int = 8080, more: str = "") -> str:
    return f'[[instance]]\nservice = "orders"\ninstance = "{name}"\naddress = "127.0.0.1"\nport = {port}\n{more}\n'


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with controller(tmp_path / "data") as url, Client(url) as found:
        yield found


@contextmanager
def host(folder: Path, url: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-c", RUN, "--config", str(folder), "--url", url, "--name", "h1"]
    with log.open("ab") as out, subprocess.Popen(command, stdout=out, stderr=out, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


async def healths(client: Client) -> dict[str, str]:
    return {row.instance: row.health for row in (await client.instances("orders")).items}


async def is_so(client: Client, **health: str) -> None:
    found = None
    try:
        async with asyncio.timeout(40):
            while (found := await healths(client)) != health:  # noqa: ASYNC110 the controller is asked
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{health}, and not {found}") from None


async def said(log: Path, words: str) -> None:
    async with asyncio.timeout(20):
        while words not in await asyncio.to_thread(log.read_text):  # noqa: ASYNC110 a file has no event
            await asyncio.sleep(0.05)


@asynccontextmanager
async def service() -> AsyncIterator[int]:
    """The port of a service that is well at /health and knows nothing else."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="well")

    application = web.Application()
    application.router.add_get("/health", answer)
    async with TestServer(application) as server:
        assert server.port is not None
        yield server.port


async def test_all_instances_of_a_host_are_kept_by_one_process(client: Client, tmp_path: Path) -> None:
    async with service() as port:
        await life(client, tmp_path, port)


async def life(client: Client, tmp_path: Path, port: int) -> None:
    folder, log = tmp_path / "instances", tmp_path / "host.log"
    folder.mkdir()
    check = f'[[instance.check]]\nkind = "http"\nurl = "http://127.0.0.1:{port}/health"\ninterval_seconds = 0.2\n'
    (folder / "a.toml").write_text(table("a", port, check) + table("b"))
    with host(folder, client.url, log) as process:
        await is_so(client, a="healthy", b="healthy")
        # A broken file changes nothing, and is told.
        (folder / "b.toml").write_text(table("c", 0))
        process.send_signal(signal.SIGHUP)
        await said(log, "b.toml: instance 1: port: ")
        await is_so(client, a="healthy", b="healthy")
        # Added, changed, removed.
        (folder / "a.toml").write_text(table("a", port, check.replace("/health", "/nothing")))
        (folder / "b.toml").write_text(table("c"))
        process.send_signal(signal.SIGHUP)
        await is_so(client, a="unhealthy", c="healthy")
        assert (await client.instance("orders", "a")).cause == "http: HTTP 404, expected 2xx"
        process.kill()
    again = tmp_path / "again.log"
    with host(folder, client.url, again) as process:
        await said(again, "orders/c is registered")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
    await is_so(client)
    history = [entry.type.removeprefix("muster.instance.") for entry in (await client.history("orders", "c")).items]
    # Found as it was by the process that started again, and taken out by its end.
    assert history == ["registered.v1", "deregistered.v1"]


async def test_files_that_are_wrong_from_the_beginning_end_it_at_once(client: Client, tmp_path: Path) -> None:
    folder, log = tmp_path / "instances", tmp_path / "host.log"
    folder.mkdir()
    (folder / "a.toml").write_text(table("a", more="wieght = 3"))
    with host(folder, client.url, log) as process:
        assert await asyncio.to_thread(process.wait, 20) == 1
    assert log.read_text() == "InvalidInstance: a.toml: instance 1: wieght: there is no such field\n"
