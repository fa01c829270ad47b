"""PostgreSQL as a failover group: real servers, whose primary is killed while rows are written."""

import asyncio
import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from examples.postgres.cluster import GROUP, MEMBERS, PostgresGroup, below, postgres_group, spawned
from examples.postgres.run import fail_over
from examples.postgres.server import Server
from muster import Event
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


async def test_at_every_instant_commits_wait_for_all_members_that_are_recorded_as_in_sync(tmp_path: Path) -> None:
    async with postgres_group(tmp_path) as group:
        group.kill_runner("db3")
        await in_sync(group, "db1", "db2")
        group.run_member("db3")
        await in_sync(group, *MEMBERS)
        recorded = [
            Instant(event.at, "recorded", frozenset(event.data["in_sync"]) - {"db1"})
            for event in await events_of(group, "in_sync_changed")
        ]
        waited_for = waits_told_by(group.log_of("db1"))
    assert [set(one.names) for one in recorded[-2:]] == [{"db2"}, {"db2", "db3"}], "it has shrunk and grown"
    now = {"recorded": frozenset[str](), "waited for": frozenset[str]()}
    for instant in sorted([*recorded, *waited_for], key=lambda one: one.at):
        now[instant.what] = instant.names
        assert now["recorded"] <= now["waited for"], instant


async def test_a_standby_is_waited_for_once_it_has_said_that_it_is_ready_and_not_because_it_streams(
    tmp_path: Path,
) -> None:
    async with postgres_group(tmp_path) as group:
        for member in ("db2", "db3"):
            group.kill_runner(member)
        await in_sync(group, "db1")
        # Its server alone: nobody has looked what its copy is.
        where = (str(group.servers["db3"].folder), "--address", group.servers["db3"].address)
        alone = spawned("alone", tmp_path, "-m", "examples.postgres", "start", *where)
        try:
            streams = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'db3' AND state = 'streaming'"
            await eventually(lambda: group.asked("db1", streams))
            group.run_member("db2")
            await in_sync(group, "db1", "db2")
        finally:
            await alone.stop(signal.SIGTERM, 20.0)


async def test_a_standby_that_is_ill_is_passed_over_though_it_comes_first_and_holds_every_row(tmp_path: Path) -> None:
    async with postgres_group(tmp_path) as group:
        await group.client.groups.add(GROUP, "db3", priority=9)
        pid = group.servers["db3"].pid
        assert pid is not None, "db3 runs"
        # It takes no connections any more. What it has started goes on receiving, so commits do not wait.
        os.kill(pid, signal.SIGSTOP)
        try:

            async def ill() -> bool:
                return any(told.member == "db3" and told.status == "failed" for told in (await group.row()).members)

            await eventually(ill)
            assert (await group.row()).in_sync == MEMBERS
            await group.kill_primary()
            await group.first_after(1)
        finally:
            os.kill(pid, signal.SIGCONT)
        [promoted] = [event.data for event in await events_of(group, "member_promoted") if event.data["epoch"] == 2]
        [why] = [told["why"] for told in promoted["passed_over"] if told["member"] == "db3"]
        assert promoted["member"] == "db2"
        assert "connection to server at" in why
        assert await group.missing() == dict.fromkeys(MEMBERS, 0)


async def test_without_an_in_sync_set_nobody_leads_who_lacks_more_than_max_lag_until_that_loss_is_accepted(
    tmp_path: Path,
) -> None:
    async with postgres_group(tmp_path, max_lag=LAG_BYTES) as group:
        refused = await lose_a_primary_that_is_ahead(group)
        for member in ("db2", "db3"):
            assert re.search(rf"{member}: its copy is \d+ behind the longest one known; at most {LAG_BYTES}", refused)
        # Without a word about the loss an operator is refused as well.
        assert "DataLossRefused" in await told_by(group, "failover", "--wait", exit_code=1)
        await told_by(group, "failover", "--wait", "--accept-data-loss", "--reason", "the disk of db1 is gone")
        await group.first_after(1)
        row = await group.row()
        kept = set(await group.asked(row.primary or "", "SELECT array_agg(row) FROM written"))
        lost = {one.row for one in group.acknowledged if one.epoch == 1} - kept
        assert lost, "nothing was lost, so nothing was shown"
        history = await told_by(group, "history")
        assert re.search(r"a failover begins .*the disk of db1 is gone", history)
        promoted = (
            f"{row.primary} is the primary of epoch 2 after db1 (lease), though acknowledged writes may be missing"
        )
        assert promoted in history
        # What the new primary does not have is taken back at the old one; the other standby follows as it is.
        group.run_member("db1")
        held = await group.held()
        assert held["db1"] == held["db2"] == held["db3"]


async def test_a_standby_that_was_started_just_before_its_copy_was_found_parted_is_rewound_as_well(
    tmp_path: Path,
) -> None:
    async with postgres_group(tmp_path, max_lag=LAG_BYTES) as group:
        # What a check does that finds it so while the start has looked at the note and the server is not there yet.
        group.servers["db3"].note(parted=True)

        async def rewound() -> bool:
            return not group.servers["db3"].noted.parted

        await eventually(rewound)
        assert await group.missing() == dict.fromkeys(MEMBERS, 0)


async def test_until_then_the_old_primary_leads_again_if_it_comes_back_and_nothing_is_lost(tmp_path: Path) -> None:
    async with postgres_group(tmp_path, max_lag=LAG_BYTES) as group:
        await lose_a_primary_that_is_ahead(group)
        group.run_member("db1")
        await group.first_after(1)
        assert (await group.row()).primary == "db1"
        assert await group.missing() == dict.fromkeys(MEMBERS, 0)


LAG_BYTES: Final = 1 << 20


class Instant(NamedTuple):
    """From when on these standbys are recorded as in sync, or waited for by commits."""

    at: datetime
    what: str
    names: frozenset[str]


def waits_told_by(log: str) -> list[Instant]:
    """When the server has begun to wait for which standbys, as it says itself."""
    told = re.findall(r'^(\S+ \S+) GMT .*"synchronous_standby_names" changed to "(.*)"$', log, re.MULTILINE)
    return [
        Instant(datetime.fromisoformat(at).replace(tzinfo=UTC), "waited for", frozenset(re.findall(r"db\d", names)))
        for at, names in told
    ]


async def events_of(group: PostgresGroup, kind: str) -> list[Event]:
    page = await group.client.newest_events(stream=f"group/{GROUP}", type=f"group.{kind}")
    return list(page.items)


async def in_sync(group: PostgresGroup, *members: str) -> None:
    async def recorded() -> bool:
        return (await group.row()).in_sync == members

    await eventually(recorded)


async def follow_nobody(group: PostgresGroup, member: str) -> None:
    """Let the standby receive nothing more. Its check passes: it has followed the primary of this epoch."""
    server = group.servers[member]
    server.note(follows=None)
    server.reload()

    async def receives_nothing() -> bool:
        return await group.asked(member, "SELECT count(*) FROM pg_stat_wal_receiver") == 0

    await eventually(receives_nothing)


async def lose_a_primary_that_is_ahead(group: PostgresGroup) -> str:
    """Why nobody follows db1, which was lost with more than LAG_BYTES that no standby has received."""
    await group.first_after(0)
    await asyncio.gather(*(follow_nobody(group, member) for member in ("db2", "db3")))
    burst = "SELECT pg_logical_emit_message(true, 'lag', repeat('x', $1)) - '0/0'::pg_lsn"
    reached = await group.asked("db1", burst, 2 * LAG_BYTES)
    # What it does not say before it is lost nobody can know.
    await said_to_reach(group, "db1", int(reached))
    group.kill_runner("db1")
    return await given_up(group)


async def said_to_reach(group: PostgresGroup, member: str, position: int) -> None:
    async def said() -> bool:
        [told] = [told for told in (await group.row()).members if told.member == member]
        return (told.position or 0) >= position

    await eventually(said)


async def given_up(group: PostgresGroup) -> str:
    """Why the failover was given up, once it was."""

    async def why() -> str | None:
        row = await group.row()
        return row.degraded if row.primary is None and "given up" in (row.degraded or "") else None

    return await eventually(why)


async def told_by(group: PostgresGroup, verb: str, *options: str, exit_code: int = 0) -> str:
    """What `muster group VERB` says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "muster", "group", verb, GROUP, "--url", group.url, *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    assert process.returncode == exit_code, out.decode()
    return out.decode()


def signal_tree(group: PostgresGroup, member: str, number: signal.Signals) -> list[int]:
    """Send the signal to all of the member's PostgreSQL."""
    pid = group.servers[member].pid
    assert pid is not None, f"{member} does not run"
    pids = [pid, *below(pid)]
    for one in pids:
        os.kill(one, number)
    return pids


def test_what_one_process_of_a_member_notes_does_not_undo_what_another_one_has(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret")
    servers = [Server(tmp_path, "db1", "127.0.0.1:5432") for _ in range(2)]

    def count(server: Server, field: str) -> None:
        for number in range(1, 101):
            server.note(**{field: number if field == "epoch" else f"127.0.0.1:{number}"})

    with ThreadPoolExecutor(2) as both:
        list(both.map(count, servers, ("epoch", "follows")))
    assert (servers[0].noted.epoch, servers[0].noted.follows) == (100, "127.0.0.1:100")
