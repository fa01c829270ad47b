"""An embedded log in the simulation: SQLite's own file, in a folder, on a disk that gets full. Its calls take time.

It stands where a `Broker` stands. Several controllers share it, as they never do for long: it is the unique key of a record
that decides between them.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

from infra.log.recorder import RecorderLog
from infra.sqlite.log import LogRecorder, SqliteLog
from tests.infra.sqlite import disk as sqlite

T = TypeVar("T")

poll_seconds: Final = 0.5


class Disk:
    """One partition in a file. `calm`: nothing goes wrong any more."""

    number = 0

    def __init__(self, chance: Random, time: Callable[[], float]) -> None:
        self._chance, self._time = chance, time
        self._folder = TemporaryDirectory()
        self._recorder = LogRecorder(Path(self._folder.name) / "log.sqlite")
        self._recorder.create_table()
        self._disk = sqlite.Disk(self._recorder)
        self._full_until = 0.0
        self._calm = self.full = False

    @property
    def calm(self) -> bool:
        """Whether nothing goes wrong any more."""
        return self._calm

    @calm.setter
    def calm(self, calm: bool) -> None:
        self._calm = calm
        self._full_until = 0.0

    def fills(self, seconds: float) -> None:
        """It is full for so long: what is there can be read, and nothing is added to it."""
        self._full_until = self._time() + seconds
        if not self.full:
            self.full = True
            self._disk.fill()

    def opened(self, clock: Callable[[], datetime], *, fence: bool) -> RecorderLog:
        """The partition, for one process. Without a broker there is no fence."""
        return SqliteLog(self._recorder, 0, thread=self, now=clock, poll_seconds=poll_seconds)

    def records(self, start: int = 0) -> list[tuple[int, None, bytes]]:
        """(position, None, value) of all records from a position on, as anybody would read them."""
        return self._recorder.select_records("muster.events/0", start - 1, 2**62)

    async def call(self, function: Callable[[], T]) -> T:
        """As the thread of a log makes its calls: whoever is killed meanwhile does not know whether it was made."""
        await asyncio.sleep(self._latency())
        if self.full and self._time() >= self._full_until:
            self.full = False
            self._disk.empty()
        try:
            return function()
        finally:
            await asyncio.sleep(self._latency())

    def _latency(self) -> float:
        return 0.0 if self._calm else self._chance.choices([0.0, 0.001, 0.05], [80, 18, 2])[0]

    def remove(self) -> None:
        """Remove the file."""
        self._recorder.close()
        self._folder.cleanup()
