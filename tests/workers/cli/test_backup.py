"""`muster backup`: while the controller runs and writes, whole, verified, and never over something that is there."""

import asyncio
import json
import sqlite3
from pathlib import Path

from click.testing import CliRunner, Result

from infra.sqlite.folder import LOG_FILE
from muster import Client
from muster.cli import main
from tests.muster.controller import controller
from workers.cli.backup import backup


async def muster(command: str, *words: str) -> Result:
    """By its own object: an environment that was set up before there was the command knows no entry point of it."""
    found, more = (backup, words) if command == "backup" else (main, (command, *words))
    return await asyncio.to_thread(CliRunner().invoke, found, more)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_copy_that_is_made_under_writes_is_whole_and_serves(tmp_path: Path):
    acknowledged: list[str] = []
    stopped = asyncio.Event()

    async def write(client: Client) -> None:
        while not stopped.is_set():
            name = f"i{len(acknowledged)}"
            await client.register("s", name, "10.0.0.1", 80)
            acknowledged.append(name)

    async with controller(tmp_path / "data") as url, Client(url) as client:
        writing = asyncio.create_task(write(client))
        async with asyncio.timeout(20):
            while len(acknowledged) < 20:  # noqa: ASYNC110 what is waited for sets no event
                await asyncio.sleep(0.01)
        before = list(acknowledged)
        told = await muster("backup", str(tmp_path / "copy"), "--data", str(tmp_path / "data"))
        during = len(acknowledged) - len(before)
        stopped.set()
        await writing
    assert told.exit_code == 0, told.output
    assert during > 0, "the writer was held up"
    assert "Sound: " in told.stdout
    assert "To restore: " in told.stdout
    assert names_in(tmp_path / "copy") == ["engine.json", LOG_FILE, "snapshots.sqlite"]
    # Restored: the copy is the data folder of a controller that has all that was acknowledged before.
    async with controller(tmp_path / "copy") as url, Client(url) as client:
        assert {instance.instance for instance in (await client.instances("s")).items} >= set(before)
        await client.register("s", "after", "10.0.0.1", 80)


async def test_nothing_is_written_over(tmp_path: Path):
    async with controller(tmp_path / "data") as url, Client(url) as client:
        await client.register("s", "a", "10.0.0.1", 80)
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "mine").write_text("x")
        (tmp_path / "file").write_text("x")
        for name in ("full", "file"):
            refused = await muster("backup", str(tmp_path / name), "--data", str(tmp_path / "data"))
            assert (refused.exit_code, refused.stderr.split(":")[0]) == (1, "BackupRefused")
        (tmp_path / "empty").mkdir()
        told = await muster("backup", str(tmp_path / "empty"), "--data", str(tmp_path / "data"), "--json")
        assert json.loads(told.stdout)["partitions"][0]["breach"] is None
    assert names_in(tmp_path) == ["data", "empty", "file", "full"]


async def test_a_damaged_log_gives_no_copy(tmp_path: Path):
    async with controller(tmp_path / "data") as url, Client(url) as client:
        await client.register("s", "a", "10.0.0.1", 80)
    with sqlite3.connect(tmp_path / "data" / LOG_FILE) as database:
        database.execute(
            "UPDATE stored_events SET state = replace(state, '10.0.0.1', '10.0.0.2') WHERE originator_version = 1"
        )
    database.close()
    told = await muster("backup", str(tmp_path / "copy"), "--data", str(tmp_path / "data"))
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.startswith(
        "Corrupt: the copy is none, because the log is damaged. Not sound: partition 0 is damaged at"
    )
    assert not (tmp_path / "copy").exists()
    verified = await muster("verify", "--data", str(tmp_path / "data"))
    assert verified.exit_code == 1
    assert verified.stderr.splitlines()[-1].startswith("Not sound: partition 0 is damaged at position 1")
    assert "What to do: stop the controller, put a backup" in verified.stderr


async def test_without_a_log_and_on_kafka_it_says_what_to_do(tmp_path: Path):
    nothing = await muster("backup", str(tmp_path / "copy"), "--data", str(tmp_path))
    assert nothing.exit_code == 2
    assert "holds no log" in nothing.stderr
    kafka = await muster("backup", str(tmp_path / "copy"), "--kafka", "broker:9092")
    assert kafka.exit_code == 1
    assert "min.insync.replicas=2" in kafka.stderr
