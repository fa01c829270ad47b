"""PostgreSQL as a failover group: real servers, whose primary is killed while rows are written."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from examples.postgres.cluster import MEMBERS, PostgresGroup, below, postgres_group
from examples.postgres.run import fail_over
from tests.processes.shard_cluster import eventually

pytestmark = [pytest.mark.postgres, pytest.mark.process, pytest.mark.timeout(300)]


async def test_no_acknowledged_row_is_missing_when_primaries_are_killed_and_each_returns_as_a_standby(
    tmp_path: Path,
) -> None:
    async with postgres_group(tmp_path) as group:
        for _ in range(2):
            killed, _ = await fail_over(group)
            row = await group.whole()
            assert row.primary != killed
            assert killed in row.in_sync
        assert {one.epoch for one in group.acknowledged} == {1, 2, 3}
        assert await group.missing() == dict.fromkeys(MEMBERS, 0)


async def test_commits_wait_for_a_standby_of_the_in_sync_set_until_the_group_has_recorded_that_it_is_gone(
    tmp_path: Path,
) -> None:
    async with postgres_group(tmp_path) as group:
        await group.first_after(0)
        standby = next(member for member in MEMBERS if member != "db1")
        frozen = signal_tree(group, standby, signal.SIGSTOP)

        async def waits() -> tuple[int] | None:
            before = len(group.acknowledged)
            waiting = await group.asked("db1", "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
            # Two looks, between which nothing was acknowledged, though another standby answers.
            return (before,) if waiting and before == len(group.acknowledged) else None

        async def waits_still() -> tuple[int] | None:
            first, second = await waits(), await waits()
            return first if first is not None and first == second else None

        (count,) = await eventually(waits_still)
        for pid in frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        async def goes_on() -> bool:
            return len(group.acknowledged) > count + 10

        await eventually(goes_on)
        offset = time.time() - time.monotonic()
        lost = [
            one
            for one in (await group.client.newest_events(type="in_sync_changed")).items
            if one.data["cause"] == "lost"
        ]
        assert standby not in lost[0].data["in_sync"]
        # The row that waited was acknowledged after that was recorded.
        assert group.acknowledged[count].at + offset > lost[0].at.timestamp()


def signal_tree(group: PostgresGroup, member: str, number: signal.Signals) -> list[int]:
    """Send the signal to all of the member's PostgreSQL."""
    pid = group.servers[member].pid
    assert pid is not None, f"{member} does not run"
    pids = [pid, *below(pid)]
    for one in pids:
        os.kill(one, number)
    return pids
