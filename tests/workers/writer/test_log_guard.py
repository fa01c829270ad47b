"""What the log stands on: looked at again and again, told once, and not forgotten because a broker is away."""

import logging
from collections.abc import Mapping

import pytest

from muster.wire.error import NotReady
from workers.writer.log_guard import LogGuard


class Examined:
    """An examination whose findings the test chooses; an error is raised."""

    def __init__(self) -> None:
        self.found: Mapping[int, str] | NotReady = {}
        self.changes = 0
        self.guard = LogGuard(self._examine, self._changed)

    async def _examine(self) -> Mapping[int, str]:
        if isinstance(self.found, NotReady):
            raise self.found
        return self.found

    def _changed(self) -> None:
        self.changes += 1

    async def look(self, found: Mapping[int, str] | NotReady) -> None:
        self.found = found
        await self.guard.look()


async def test_a_fault_is_told_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    examined = Examined()
    for found in ({}, {1: "compacted"}, {1: "compacted"}, {}, {}):
        await examined.look(found)
    assert examined.changes == 2
    assert [record.getMessage() for record in caplog.records] == [
        "nothing is written to partition 1: compacted",
        "partition 1 is written again",
    ]


async def test_one_partition_is_refused_and_the_others_are_not() -> None:
    examined = Examined()
    await examined.look({1: "its beginning is gone"})
    assert (examined.guard.refused(0), examined.guard.refused(1)) == (None, "its beginning is gone")


async def test_a_broker_that_is_away_has_mended_nothing() -> None:
    examined = Examined()
    await examined.look({0: "compacted"})
    await examined.look(NotReady("away"))
    assert examined.guard.refused(0) == "compacted"
    assert examined.changes == 1
