"""A disk under a log in SQLite that can be filled, and has room again."""

from dataclasses import dataclass
from itertools import count

import pytest
from eventsourcing.persistence import PersistenceError, StoredEvent

from infra.sqlite.log import LogRecorder

_FILLER = count()


@dataclass
class Disk:
    """The file of a log, on a disk that can be filled."""

    recorder: LogRecorder

    def fill(self) -> None:
        """No page may be added to the file, and those that the log has get full."""
        connection = self.recorder._appending()
        [pages] = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(PersistenceError, match="the disk is full"):
            self._pour()

    def _pour(self) -> None:
        for position in _FILLER:
            self.recorder.insert_records("filler", [StoredEvent("", position, "t", b"x" * 100)])

    def empty(self) -> None:
        """There is room again."""
        self.recorder._appending().execute("PRAGMA max_page_count=1000000")
