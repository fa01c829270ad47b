"""A local broker that is killed: it comes back, the controller goes on, and the log of a minute can be read."""

import asyncio
import os
import signal
from pathlib import Path

import aiohttp
import pytest

from tests.processes.test_ready import SPEC
from tests.processes.test_stop import ready

pytestmark = [pytest.mark.kafka, pytest.mark.process, pytest.mark.timeout(120)]


async def test_a_local_broker_that_is_killed_is_started_again_and_floods_no_log(tmp_path: Path) -> None:
    async with ready(tmp_path, "--kafka", "local") as controller, aiohttp.ClientSession() as session:
        before = len(controller.log().splitlines())
        os.kill(int((tmp_path / "data/kafka/lock").read_text()), signal.SIGKILL)
        async with asyncio.timeout(60):
            while "a local server runs again" not in controller.log():  # noqa: ASYNC110 — another process's log
                await asyncio.sleep(0.1)
            while True:
                async with session.put(f"{controller.url}/v1/services/s0/instances/b", json=SPEC) as answer:
                    if answer.status == 200:
                        break
        said = controller.log()
        assert said.count("a local server has ended") == 1
        assert "Traceback" not in said
        assert len(said.splitlines()) - before < 200
