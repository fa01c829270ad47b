"""A controller whose disk takes no more: reads go on, writes are refused with the reason, and it goes on by itself."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from muster import Client, NotReady, Timeout
from tests.muster.controller import ControllerProcess, free_port
from tests.processes.shard_cluster import eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]


def limit_files(pid: int, size: int) -> None:
    """No file that the process writes may become longer than this: so a write fails, as it does on a broken disk."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


async def readiness(url: str) -> tuple[int, bool]:
    """The status of `/readyz`, and whether it names the disk."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/readyz") as answer:
        return answer.status, "I/O error" in await answer.text()


async def test_a_controller_whose_disk_takes_no_more_answers_reads_and_goes_on_with_room(tmp_path: Path) -> None:
    async with started(tmp_path / "data") as process:
        await refuses_and_goes_on(process, tmp_path)
        assert process.stop() == 0
    log = (tmp_path / "data.log").read_text()
    assert log.count("writes are refused") == log.count("writes are taken again") == 1
    assert "Traceback" not in log


@asynccontextmanager
async def started(data: Path) -> AsyncIterator[ControllerProcess]:
    """A controller that does not outlive the test."""
    process = ControllerProcess(data, free_port())
    await process.start()
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # It has been stopped.
            process.kill()


async def refuses_and_goes_on(process: ControllerProcess, tmp_path: Path) -> None:
    async with Client(process.url, timeout_seconds=2) as client:
        await client.register("orders", "a", "10.0.0.1", 80)
        written = (tmp_path / "data" / "log.sqlite-wal").stat().st_size
        limit_files(process.pid, written)
        # Who met the failure itself does not know the outcome; who comes after does. Both hear the reason.
        with pytest.raises((Timeout, NotReady), match="the disk reports an I/O error"):
            await client.register("orders", "b", "10.0.0.2", 80)
        with pytest.raises(NotReady, match="the disk reports an I/O error"):
            await client.register("orders", "b", "10.0.0.2", 80)

        async def names_the_disk() -> bool:
            return await readiness(process.url) == (503, True)

        # In the moment in which it tries again it says that it does.
        await eventually(names_the_disk)
        assert [one.instance for one in (await client.instances("orders")).items] == ["a"]
        limit_files(process.pid, resource.RLIM_INFINITY)
        async with asyncio.timeout(20):
            while True:
                try:
                    await client.register("orders", "c", "10.0.0.3", 80)
                    break
                except NotReady:
                    await asyncio.sleep(0.1)
        assert await readiness(process.url) == (200, False)
        assert "c" in {one.instance for one in (await client.instances("orders")).items}
