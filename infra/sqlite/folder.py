"""The data folder of the embedded engine: which files are in it, who holds it, and how many partitions it was made with."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import orjson

from infra.folder_lock import FolderHeld, hold
from infra.sqlite.failure import is_damage, reason
from muster.wire.error import Corrupt, NotReady

LOG_FILE: Final = "log.sqlite"
SNAPSHOT_FILE: Final = "snapshots.sqlite"
LOCK_FILE: Final = "lock"
ENGINE_FILE: Final = "engine.json"

partitions_max: Final = 10_000
"""Each costs a writer: a larger number in `engine.json` is damage."""

WHAT_TO_DO: Final = (
    "`muster verify` says up to where the log is whole; put a backup in the place of the data folder "
    "(docs/operations.md, When a partition is corrupt)"
)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the data folder: two writers of one log would each believe itself. Raises NotReady."""
    try:
        lock = hold(folder / LOCK_FILE)
    except FolderHeld as taken:
        detail = f"the data folder {folder} is held by process {taken.holder}; stop it, or use another --data"
        raise NotReady(detail) from None
    except OSError as error:
        raise unusable(folder, error) from error
    try:
        yield
    finally:
        os.close(lock)


def prepared(folder: Path, wanted: int | None, *, read_only: bool) -> int:
    """The folder, made if missing, and with how many partitions. A stream's partition follows from them, so they never change.

    Raises NotReady, and Corrupt when what the folder says of itself cannot be read. `read_only`: nothing is written.
    """
    if wanted is not None and wanted > partitions_max:
        raise NotReady(f"--partitions {wanted} is more than {partitions_max}")
    try:
        if read_only and not (folder / LOG_FILE).exists():
            raise NotReady(f"{folder} holds no log of muster")
        if not read_only:
            folder.mkdir(parents=True, exist_ok=True)
        found = _partitions(folder, wanted, read_only=read_only)
    except OSError as error:
        raise unusable(folder, error) from error
    if wanted not in (None, found):
        raise NotReady(f"{folder} was made with --partitions {found}; leave the option out, or use another --data")
    return found


def unusable(folder: Path, error: OSError) -> NotReady:
    """The error for a folder in which the system refuses something."""
    which = f" ({error.filename})" if error.filename not in (None, str(folder)) else ""
    return NotReady(f"the data folder {folder} cannot be used: {error.strerror}{which}")


def _partitions(folder: Path, wanted: int | None, *, read_only: bool) -> int:
    path = folder / ENGINE_FILE
    if path.exists():
        return _read(path)
    # A log that is there knows better than the option: the file may have been lost.
    found = _partitions_of(folder / LOG_FILE) or wanted or 1
    if not read_only:
        # Under another name first: on a full disk an empty file would be left, and the folder could never be opened.
        written = path.with_suffix(".new")
        written.write_bytes(orjson.dumps({"partitions": found}))
        written.replace(path)
    return found


def _read(path: Path) -> int:
    try:
        found = orjson.loads(path.read_bytes())["partitions"]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        found = None
    if type(found) is not int or not 1 <= found <= partitions_max:
        raise Corrupt(
            f'{path} is damaged: it says how many partitions the log has, like {{"partitions":1}}. Put it back from a backup, '
            "or remove it: the number is then taken from the log"
        )
    return found


def _partitions_of(log: Path) -> int:
    """How many partitions have a record; 0: there is no log yet. Each has one from its first writer on."""
    if not log.exists():
        return 0
    found, name = 0, ""
    try:
        with closing(sqlite3.connect(f"{log.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            # From name to name by the index: a log has many records and few partitions.
            while row := connection.execute(
                "SELECT originator_id FROM stored_events WHERE originator_id>? ORDER BY originator_id LIMIT 1", (name,)
            ).fetchone():
                found, name = found + 1, row[0]
    except sqlite3.Error as error:
        if is_damage(error):
            raise damaged(log, error) from error
    return found


def damaged(file: Path, error: BaseException) -> Corrupt:
    """The error for a file of the log that is none any more."""
    return Corrupt(f"{file} is damaged: {reason(error)}. {WHAT_TO_DO}", reason=reason(error))
