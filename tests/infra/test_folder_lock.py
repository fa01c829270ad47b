"""A folder that one process holds at a time."""

import os
import threading
from pathlib import Path

import pytest

from infra.folder_lock import FolderHeld, hold, write_holder


def test_a_held_folder_is_refused_with_the_name_of_its_holder(tmp_path: Path) -> None:
    lock = hold(tmp_path / "lock")
    with pytest.raises(FolderHeld) as refused:
        hold(tmp_path / "lock")
    assert refused.value.holder == str(os.getpid())
    write_holder(lock, 7)
    with pytest.raises(FolderHeld) as refused:
        hold(tmp_path / "lock")
    assert refused.value.holder == "7"
    os.close(lock)
    os.close(hold(tmp_path / "lock"))


def test_who_waits_gets_it_when_it_is_let_go(tmp_path: Path) -> None:
    lock = hold(tmp_path / "lock")
    waiting = threading.Thread(target=lambda: os.close(hold(tmp_path / "lock", wait_seconds=30)))
    waiting.start()
    os.close(lock)
    waiting.join(timeout=30)
    assert not waiting.is_alive()
