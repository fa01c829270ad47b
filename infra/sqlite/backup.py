"""A copy of a data folder, made while a controller writes to it: SQLite's own online backup of each file.

    snapshots ─▶ log ─▶ how many partitions ─▶ all on the disk ─▶ the copy gets its name

The log is copied after the snapshots, so that it holds at least what they were taken of. Each file is copied in one step, from
one state of it: readers do not stop a writer in SQLite's WAL mode. The copy has another name until it is whole: a crash leaves a
folder that nobody takes for a backup.
"""

import logging
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from infra.sqlite.failure import is_damage, reason
from infra.sqlite.folder import ENGINE_FILE, LOG_FILE, SNAPSHOT_FILE, damaged
from muster.wire.error import NotReady, Refused

_LOG: Final = logging.getLogger("muster.log")


class BackupRefused(Refused):
    """The copy cannot be made where it was wanted."""


def copied(folder: Path, target: Path) -> Path:
    """Copy the data folder to a folder beside `target`, which it is to become; see `named`. Blocks.

    Raises BackupRefused (there is something at the target already, or it cannot be made), NotReady (the folder holds no log, or
    cannot be read) and Corrupt (its log is damaged).
    """
    if not (folder / LOG_FILE).exists():
        raise NotReady(f"{folder} holds no log of muster; name the data folder with --data")
    _check_empty(target)
    partial = _made(target)
    try:
        _copy_snapshots(folder / SNAPSHOT_FILE, partial / SNAPSHOT_FILE)
        _copy(folder / LOG_FILE, partial / LOG_FILE)
        if (folder / ENGINE_FILE).exists():
            shutil.copyfile(folder / ENGINE_FILE, partial / ENGINE_FILE)
    except sqlite3.Error as error:
        discard(partial)
        if is_damage(error):
            raise damaged(folder / LOG_FILE, error) from error
        raise NotReady(f"{folder} could not be copied: {error}") from error
    except BaseException:
        discard(partial)
        raise
    return partial


def named(partial: Path, target: Path) -> None:
    """Give the copy its name, once all of it is on the disk."""
    for file in sorted(partial.iterdir()):
        _sync(file)
    _sync(partial)
    # A folder takes the place of an empty one, and of no other.
    try:
        partial.replace(target)
    except OSError as error:
        discard(partial)
        raise BackupRefused(f"{target} cannot be made: {error.strerror}") from error
    _sync(target.parent)


def discard(partial: Path) -> None:
    """Remove a copy that is no good."""
    shutil.rmtree(partial, ignore_errors=True)


def _made(target: Path) -> Path:
    partial = target.with_name(f"{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Of a copy that was cut off: nobody else gives a folder this name.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    except OSError as error:
        raise BackupRefused(f"{target} cannot be made: {error.strerror}") from error
    return partial


def _check_empty(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise BackupRefused(f"{target} is a file; name a folder that is empty or not there yet")
    if target.exists() and any(target.iterdir()):
        raise BackupRefused(f"{target} is not empty; name a folder that is empty or not there yet")


def _copy_snapshots(source: Path, target: Path) -> None:
    """Copy them if they can be read: they only make a start faster, and what restores them does without."""
    if not source.exists():
        return
    try:
        _copy(source, target)
    except sqlite3.Error as error:
        _LOG.warning("the backup has no snapshots, and the log in it is whole without: %s: %s", source, reason(error))
        target.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    # By its URI, read-only: a backup must not make a file that is not there, nor change one that is.
    with (
        closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=ro", uri=True)) as here,
        closing(sqlite3.connect(target)) as there,
    ):
        # In one step: with several, each write in between would start the copy again.
        here.backup(there, pages=-1)
        # One file and nothing beside it, whoever opens it next.
        there.execute("PRAGMA journal_mode=DELETE")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
