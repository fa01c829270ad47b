"""Commands over a data folder whose files are damaged: they say what is, where, and what to do; nothing to try again."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from infra.settings import Settings
from infra.sqlite.folder import ENGINE_FILE, LOCK_FILE, LOG_FILE, SNAPSHOT_FILE
from muster import Client
from muster.cli import main
from tests.muster.controller import controller
from workers.cli.backup import backup
from workers.controller.process import running

PAGE_BYTES = 4_096


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a log of many pages, and a snapshot."""
    folder = tmp_path_factory.mktemp("sound") / "data"

    async def fill() -> None:
        async with controller(folder) as url, Client(url) as client:
            for number in range(30):
                await client.register("s", f"i{number}", "10.0.0.1", 80, metadata={"k": "v" * 2_000})

    asyncio.run(fill())
    return folder


@pytest.fixture
def data(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "data"))


def muster(*words: str | Path) -> Result:
    command, *more = map(str, words)
    if command == "backup":
        # By its own object: an environment that was set up before there was the command knows no entry point of it.
        return CliRunner().invoke(backup, more)
    return CliRunner().invoke(main, [command, *more])


def cut(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(20_000)


def overwritten(file: Path) -> None:
    file.write_text("this is no database\n" * 2_000)


def page(file: Path) -> None:
    """One page of the middle, so that what stands before it can be read."""
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // PAGE_BYTES // 2 * PAGE_BYTES)
        opened.write(b"\xff" * PAGE_BYTES)


DAMAGES = pytest.mark.parametrize("damage", [cut, overwritten, page])


@DAMAGES
@pytest.mark.parametrize("command", ["verify", "replay", "backup"])
def test_over_a_damaged_log_each_command_says_that_it_is_corrupt(
    command: str, damage: Callable[[Path], None], data: Path, tmp_path: Path
):
    damage(data / LOG_FILE)
    told = muster(command, *([tmp_path / "copy"] if command == "backup" else []), "--data", data)
    assert told.exit_code == 1, told.output
    assert told.stderr.startswith("Corrupt: ")
    assert not (tmp_path / "copy").exists()


@DAMAGES
def test_verify_says_what_stands_before_the_damage_and_what_to_do(damage: Callable[[Path], None], data: Path):
    damage(data / LOG_FILE)
    document = json.loads(muster("verify", "--data", data, "--json").stdout)
    [partition] = document["partitions"]
    assert partition["breach"]["position"] == partition["position"] + 1
    assert "put a backup in the place of the data folder" in document["verdict"]
    if damage is page:
        assert partition["events"] > 3


@pytest.mark.parametrize("damage", [cut, overwritten])
def test_a_controller_does_not_start_on_a_file_that_is_no_database(damage: Callable[[Path], None], data: Path):
    damage(data / LOG_FILE)
    told = muster("up", "--data", data, "--http", "127.0.0.1:0")
    assert told.exit_code == 1
    assert told.stderr.startswith(f"Corrupt: {data / LOG_FILE} is damaged")
    assert "put a backup in the place of the data folder" in told.stderr


@DAMAGES
async def test_damaged_snapshots_stop_no_start_and_are_made_anew(
    damage: Callable[[Path], None], data: Path, caplog: pytest.LogCaptureFixture
):
    file = data / SNAPSHOT_FILE
    if damage is page:
        file.write_bytes(file.read_bytes()[:PAGE_BYTES] + b"\xff" * (file.stat().st_size - PAGE_BYTES))
    else:
        damage(file)
    for _ in range(2):
        caplog.clear()
        async with controller(data) as url, Client(url) as client:
            assert len((await client.instances("s")).items) == 30
    assert "no snapshot can be read" not in caplog.text


def test_damaged_snapshots_are_left_out_of_a_backup(data: Path, tmp_path: Path):
    overwritten(data / SNAPSHOT_FILE)
    told = muster("backup", tmp_path / "copy", "--data", data)
    assert told.exit_code == 0, told.output
    assert not (tmp_path / "copy" / SNAPSHOT_FILE).exists()


@pytest.mark.parametrize(
    "text", ["", "text", "[]", "{}", '{"partitions":0}', '{"partitions":"1"}', '{"partitions":1e9}']
)
@pytest.mark.parametrize("command", ["up", "verify"])
def test_a_damaged_number_of_partitions_is_told(command: str, text: str, data: Path):
    (data / ENGINE_FILE).write_text(text)
    told = muster(command, "--data", data, *(["--http", "127.0.0.1:0"] if command == "up" else []))
    assert (told.exit_code, told.stderr.split(":")[0]) == (1, "Corrupt"), told.output
    assert ENGINE_FILE in told.stderr


async def test_a_lost_number_of_partitions_is_taken_from_the_log(tmp_path: Path):
    data = tmp_path / "data"
    async with running(Settings(data=data, http="127.0.0.1:0", partitions=3)) as one, Client(one.url) as client:
        await client.register("s", "a", "10.0.0.1", 80)
    (data / ENGINE_FILE).unlink()
    told = await asyncio.to_thread(muster, "verify", "--data", data, "--json")
    assert len(json.loads(told.stdout)["partitions"]) == 3
    assert not (data / ENGINE_FILE).exists(), "a command that reads has written"
    async with controller(data) as url, Client(url) as client:
        assert [instance.instance for instance in (await client.instances("s")).items] == ["a"]


def test_a_lock_that_cannot_be_taken_is_told(data: Path):
    (data / LOCK_FILE).unlink()
    (data / LOCK_FILE).mkdir()
    told = muster("up", "--data", data, "--http", "127.0.0.1:0")
    assert told.exit_code == 1
    assert told.stderr == f"NotReady: the data folder {data} cannot be used: Is a directory ({data / LOCK_FILE})\n"
