"""A host on a real broker: beside two controllers that share the partitions, and beside a telemetry worker."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

import pytest

from muster import Client
from tests.processes.process_on_kafka import controllers
from tests.servers import SharedKafka
from tests.workers.telemetry.fleet import Worker

pytestmark = [pytest.mark.kafka, pytest.mark.process, pytest.mark.timeout(180)]
ROOT = Path(__file__).parents[3]
SERVICES = [f"s{number}" for number in range(6)]
"""Of several partitions."""


def files(folder: Path, lease_seconds: float) -> Path:
    folder.mkdir()
    for service in SERVICES:
        (folder / f"{service}.toml").write_text(
            f'[[instance]]\nservice = "{service}"\ninstance = "i"\naddress = "127.0.0.1"\nport = 80\n'
            f"lease_seconds = {lease_seconds}\n"
        )
    return folder


@contextmanager
def host(folder: Path, *words: str) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-c", "from workers.cli.host import run; run()", "--config", str(folder), "--name", "h1"]
    with (folder / "host.log").open("ab") as out:
        process = subprocess.Popen([*command, *words], stdout=out, stderr=out, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def here(client: Client) -> set[str]:
    return {row.service for row in (await client.services()).items if row.healthy} & set(SERVICES)


async def until(client: Client, wanted: set[str], seconds: float) -> None:
    found: set[str] = set()
    try:
        async with asyncio.timeout(seconds):
            while (found := await here(client)) != wanted:  # noqa: ASYNC110 the controller is asked
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"{wanted}, and not {found}, within {seconds:g} s") from None


async def test_every_partition_hears_whichever_controller_is_asked(kafka: SharedKafka, tmp_path: Path) -> None:
    prefix = f"h{token_hex(4)}"
    async with controllers(tmp_path, kafka.bootstrap, prefix, 2) as (first, second), Client(second.url) as client:
        with host(files(tmp_path / "files", 3.0), "--url", first.url):
            await until(client, set(SERVICES), 30)
            # Three leases.
            await asyncio.sleep(9)
            assert await here(client) == set(SERVICES)
            histories = [await client.history(service, "i") for service in SERVICES]
            assert [history.count for history in histories] == [1] * len(SERVICES)
        await until(client, set(), 30)


async def test_telemetry_hears_a_host_and_finds_that_it_is_gone(kafka: SharedKafka, tmp_path: Path) -> None:
    prefix = f"h{token_hex(4)}"
    async with controllers(tmp_path, kafka.bootstrap, prefix, 1) as (controller,), Client(controller.url) as client:
        worker = Worker(tmp_path, kafka.bootstrap, prefix, "one", 8)
        words = ["--url", controller.url, "--kafka", kafka.bootstrap, "--prefix", prefix]
        try:
            with host(files(tmp_path / "files", 10.0), *words):
                await until(client, set(SERVICES), 30)
                await asyncio.sleep(20)  # Two leases, of which the controller keeps no time.
                assert await here(client) == set(SERVICES)
                [load] = await client.loads("s0")
                assert (load.instances, load.heard) == (1, 1)
            await until(client, set(), 40)
        finally:
            worker.kill()
