"""What SQLite says when a file cannot be read or written, in words for a person; and whether something may be stored."""

import sqlite3
from typing import Final

from eventsourcing.persistence import PersistenceError

from infra.log.recorder import Damaged, NothingStored

_WORDS: Final = {
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_READONLY: "the file is read-only",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_BUSY: "another process holds the file",
    sqlite3.SQLITE_IOERR: "the disk reports an I/O error",
}

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

# With these SQLite has taken the statement back before it says so. After an I/O error only the file can tell.
_TAKEN_BACK: Final = frozenset(_WORDS) - {sqlite3.SQLITE_IOERR}


def reason(error: BaseException) -> str:
    """Why a call failed, in one clause. Takes errors of sqlite3, and those of the recorder that were made from them."""
    code = _code(error)
    return f"{_WORDS[code]} ({error})" if code in _WORDS else str(error)


def is_damage(error: BaseException) -> bool:
    """Whether the file itself is damaged, so that trying again is in vain."""
    return _code(error) in _DAMAGED


def reading_failure(error: BaseException) -> PersistenceError:
    """The error of a recorder for one that came up while something was read."""
    # The statements are ours and right: what SQLite cannot make sense of then is a file without our table.
    if _code(error) == sqlite3.SQLITE_ERROR:
        return Damaged(f"the file holds no log ({error})")
    return Damaged(reason(error)) if is_damage(error) else PersistenceError(reason(error))


def failure(error: sqlite3.Error) -> PersistenceError:
    """The error of a recorder for one of sqlite3, at a statement that was to store something."""
    if is_damage(error):
        return Damaged(reason(error))
    kind = NothingStored if _code(error) in _TAKEN_BACK else PersistenceError
    return kind(reason(error))


def _code(error: BaseException) -> int | None:
    """The primary result code. Errors that Python makes itself have none."""
    found = error if isinstance(error, sqlite3.Error) else error.__cause__
    # The lowest byte is the kind of failure; the others say at which call of the system it came up.
    return getattr(found, "sqlite_errorcode", 0) & 0xFF or None
