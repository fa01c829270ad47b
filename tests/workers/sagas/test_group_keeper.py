"""The keeper of groups looks at what waits for time to pass, and at nothing else."""

import asyncio
from datetime import datetime

from domain.groups.commands import Failover
from domain.groups.state import FailoverGroup
from tests.domain.groups.beginnings import at, created, folded, here, joined, led, ready
from workers.sagas.group_keeper import GroupKeeper, look_seconds
from workers.views.registry import RegistryViews
from workers.views.table import AllParked


class Kept:
    """A keeper of these groups; `looks`: how often it has asked for the time, which is so many `seconds` after noon."""

    def __init__(self, **groups: FailoverGroup) -> None:
        self.begun: list[str] = []
        self.looks = 0
        self.seconds = 0.0
        self.keeper = GroupKeeper(self._observed, RegistryViews(AllParked()), self._now)
        self.keeper.began(groups)
        self.looks = 0

    def _observed(self, stream: str, command: object) -> None:
        assert command == Failover(automatic=True)
        self.begun.append(stream)

    def _now(self) -> datetime:
        self.looks += 1
        return at(self.seconds)

    async def after(self, turns: float) -> "Kept":
        """The same, so many looks at the time later."""
        keeping = asyncio.create_task(self.keeper.run())
        await asyncio.sleep(turns * look_seconds)
        keeping.cancel()
        return self


# The others have not come yet, and get some time to.
ONE_IS_HERE = folded(*created(), joined("db1"), ready("db1"))


async def test_what_waits_for_time_begins_when_that_has_passed() -> None:
    kept = await Kept(db=ONE_IS_HERE).after(1.5)
    assert (kept.begun, kept.looks > 0) == ([], True)
    kept.seconds = 60
    assert (await kept.after(1.5)).begun == ["db"]


async def test_a_group_that_waits_for_nothing_is_not_looked_at() -> None:
    kept = Kept(db=folded(*led()), other=folded(*created()))
    kept.seconds = 60
    assert ((await kept.after(2.5)).looks, kept.begun) == (0, [])


async def test_nor_one_any_more_that_has_what_it_has_waited_for() -> None:
    kept = Kept(db=ONE_IS_HERE)
    kept.keeper.changed([("db", "", folded(*led()))])
    kept.looks, kept.seconds = 0, 60
    assert ((await kept.after(2.5)).looks, kept.begun) == (0, [])


async def test_a_new_writer_begins_what_the_one_before_has_left_undone() -> None:
    assert Kept(db=folded(*here())).begun == ["db"]


async def test_without_a_reign_nothing_is_begun() -> None:
    kept = Kept(db=ONE_IS_HERE)
    kept.keeper.ended()
    kept.seconds = 60
    assert (await kept.after(1.5)).begun == []
