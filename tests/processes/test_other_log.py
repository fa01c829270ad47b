"""A data folder is lost under a live watcher, and another one stands in its place, written on: the watcher begins anew."""

import asyncio
import shutil
from contextlib import aclosing
from pathlib import Path

import pytest

from muster import Appeared, Changed, Client, Removed, Snapshot
from tests.muster.controller import ControllerProcess, free_port

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]


async def written(data: Path, port: int, *instances: str) -> ControllerProcess:
    """A controller on the folder that has registered these."""
    controller = ControllerProcess(data, port)
    await controller.start()
    async with Client(controller.url, timeout_seconds=60) as client:
        for instance in instances:
            await client.register("orders", instance, "10.0.0.7", 80)
    return controller


async def test_a_watcher_of_a_folder_that_was_lost_holds_what_the_new_one_has_and_nothing_else(tmp_path: Path) -> None:
    # Killed, so that it leaves no snapshot: the whole of its log could be told as what the watcher has missed.
    (await written(tmp_path / "b", free_port(), *(f"new{number}" for number in range(5)))).kill()
    port = free_port()
    controller = await written(tmp_path / "a", port, "old0", "old1", "old2")
    held: set[str] = set()
    async with Client(controller.url, timeout_seconds=60) as client, asyncio.timeout(150):
        async with aclosing(client.watch("orders")) as watching:
            async for change in watching:
                match change:
                    case Snapshot(instances=instances):
                        held = {instance.instance for instance in instances}
                        assert held == {"old0", "old1", "old2"}
                        controller.kill()
                        shutil.rmtree(tmp_path / "a")
                        shutil.copytree(tmp_path / "b", tmp_path / "a")
                        await controller.start()
                        await client.register("orders", "newest", "10.0.0.7", 80)
                    case Appeared(instance=instance) | Changed(instance=instance):
                        held.add(instance.instance)
                    case Removed(instance=instance):
                        held.remove(instance.instance)
                if "newest" in held and "old0" not in held:
                    break
        assert held == {"newest", *(f"new{number}" for number in range(5))}
        # What the client has seen before holds it up no more.
        assert {one.instance for one in await client.discover("orders")} == held
    assert controller.stop() == 0
