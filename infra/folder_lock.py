"""A folder that one process holds at a time. The lock goes with the process, however that ends; the file says who has it."""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

poll_seconds: Final = 0.05


class FolderHeld(Exception):
    """Another process holds the folder; `holder` is its process id, as far as the file says it."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


def hold(lock: Path, wait_seconds: float = 0.0) -> int:
    """Hold the lock file, and write our process id into it. Returns its descriptor: closing it lets go.

    Waits up to `wait_seconds` for a holder that is about to end. Raises FolderHeld.
    """
    file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                # The holder has the lock before it has written its id: the file may still be empty.
                text = os.pread(file, 20, 0).decode(errors="replace")
                holder = text if text.isdecimal() else "not yet known"
                os.close(file)
                raise FolderHeld(holder) from None
            time.sleep(poll_seconds)
    write_holder(file, os.getpid())
    return file


def write_holder(lock: int, pid: int) -> None:
    """Name another process as the holder of a held lock: a child that works in the folder for us."""
    os.truncate(lock, 0)
    # The lock is what counts. On a full disk nobody is named, and who looks for the holder has to ask elsewhere.
    with suppress(OSError):
        os.pwrite(lock, str(pid).encode(), 0)
