"""A server as our child: when it is suspended, none of its threads runs on."""

import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.child import ChildProcess

COUNTS = """
import sys, threading
counts = [0] * 8
def count(index):
    while True:
        counts[index] += 1
        open(sys.argv[1] + f"/{index}", "w").write(str(counts[index]))
for index in range(8):
    threading.Thread(target=count, args=(index,)).start()
"""


@pytest.mark.process
def test_a_suspended_child_does_nothing_more_once_suspend_has_returned(tmp_path: Path) -> None:
    written = tmp_path / "written"
    written.mkdir()
    child = ChildProcess("counter", tmp_path / "child")
    with child.folder_held():
        child.spawn([sys.executable, "-c", COUNTS, str(written)])
    try:
        for _ in range(20):
            while len(list(written.iterdir())) < 8:
                assert child.pid is not None, "it counts for ever"
            child.suspend()
            seen = changed_at(written)
            subprocess.run([sys.executable, "-c", "sum(range(300_000))"], check=True)  # time for a thread that runs on
            assert changed_at(written) == seen
            child.resume()
    finally:
        child.kill()


def changed_at(folder: Path) -> list[int]:
    return [file.stat().st_mtime_ns for file in sorted(folder.iterdir())]
