"""A data node whose files are damaged does not start: it says which, and leaves them as they are."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.shards.soundness import DATA_FILE
from muster.wire.error import Corrupt
from tests.infra.shards.test_store import SHARD, opened, put, serving
from workers.node.process import STORE_FILE, check_data, store_id

ROOT = Path(__file__).parents[3]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "n1"
    with opened(folder) as store:
        serving(store)
        for number in range(100):
            put(store, f"k{number}", b"v" * 2_000)
    store_id(folder)
    return folder


def started(data: Path) -> subprocess.CompletedProcess[str]:
    """As a process, since LMDB could end this one."""
    command = [
        sys.executable,
        "-m",
        "muster",
        "node",
        "run",
        "--id",
        "n1",
        "--data",
        str(data),
        "--url",
        "http://127.0.0.1:1",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def cut(file: Path) -> None:
    with file.open("r+b") as cutting:
        cutting.truncate(file.stat().st_size // 2)


def cut_short(file: Path) -> None:
    with file.open("r+b") as cutting:
        cutting.truncate(3 * 4_096)


def overwritten(file: Path) -> None:
    file.write_text("this is no store\n" * 5_000)


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def gone(file: Path) -> None:
    file.unlink()


@pytest.mark.process
@pytest.mark.parametrize("damage", [cut, cut_short, overwritten, emptied, gone])
def test_a_damaged_store_is_told_and_left_as_it_is(damage: Callable[[Path], None], data: Path):
    damage(data / DATA_FILE)
    before = (data / DATA_FILE).read_bytes() if (data / DATA_FILE).exists() else None
    ended = started(data)
    assert ended.returncode == 1, (ended.returncode, ended.stderr)
    assert ended.stderr.startswith(f"Corrupt: the store in {data} is damaged: ")
    assert ended.stderr.count("\n") == 1
    assert before == ((data / DATA_FILE).read_bytes() if (data / DATA_FILE).exists() else None)


def test_a_file_whose_free_end_was_never_written_is_sound(data: Path):
    # As LMDB itself may leave it: the last pages are free, and behind the end of the file.
    with opened(data) as store:
        store.drop(SHARD, 2)
    with (data / DATA_FILE).open("r+b") as file:
        file.truncate((data / DATA_FILE).stat().st_size - 4_096)
    with opened(data) as store:
        assert store.record(SHARD) is not None


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"two words", b"x" * 65])
def test_an_id_that_is_none_is_told(text: bytes, data: Path):
    (data / STORE_FILE).write_bytes(text)
    with pytest.raises(Corrupt, match="holds no id"):
        store_id(data)


def test_a_folder_that_was_never_used_is_no_damaged_one(tmp_path: Path):
    check_data(tmp_path)
    check_data(tmp_path / "not there yet")
