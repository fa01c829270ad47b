"""The files of a host that runs, read again."""

import asyncio
from pathlib import Path
from threading import Event

from muster.client.client import Client
from tests.workers.host.test_config import PLAIN
from workers.host.host import Host
from workers.host.process import read_again


class SlowFolder(type(Path())):  # type: ignore[misc]
    """A folder that is not read before somebody has said so."""

    read = Event()
    in_time = False

    def __fspath__(self) -> str:
        SlowFolder.in_time = SlowFolder.read.wait(5)
        return str(self)


async def test_while_files_are_read_the_host_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(PLAIN)
    host, changed = Host(Client("http://127.0.0.1:9"), "h1"), asyncio.Event()
    reading = asyncio.create_task(read_again(host, SlowFolder(tmp_path), "direct", changed))
    changed.set()
    async with asyncio.timeout(60):
        while changed.is_set():  # noqa: ASYNC110 it is cleared where reading begins
            await asyncio.sleep(0)
        SlowFolder.read.set()
        while not host.held:  # noqa: ASYNC110 a host has no event of that
            await asyncio.sleep(0.01)
    reading.cancel()
    assert (list(host.held), SlowFolder.in_time) == ([("users", "users-1")], True)
