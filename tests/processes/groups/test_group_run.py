"""Runners of a group's members as real processes: what they run is never there twice, whatever is killed or stopped.

The journal is the witness: what runs as the primary writes its epoch into one file all the time, also what has escaped from its
session, and no entry of an epoch may stand behind one of a later epoch.
"""

import asyncio
import os
import signal
from pathlib import Path

import orjson
import pytest

from tests.processes.groups.group_cluster import GroupCluster, group_cluster, member_of, now, runs
from tests.processes.shard_cluster import eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]
LONG_LEASE = 20.0
"""So long that what happens meanwhile was not brought about by its end."""
SHORT_LEASE = 6.0
"""So short that its end is waited for, and so long that a slow machine does not lose it."""


def written_by(cluster: GroupCluster, epoch: int) -> set[int]:
    """The processes that have written for the epoch."""
    return {entry.pid for entry in cluster.entries() if entry.epoch == epoch}


async def dead(pids: set[int]) -> None:
    """Wait until none of them runs."""

    async def are_dead() -> bool:
        return not any(runs(pid) for pid in pids)

    await eventually(are_dead)


async def both_write(cluster: GroupCluster, epoch: int) -> set[int]:
    """Wait until the command and what has escaped from it have written."""

    async def written() -> set[int] | None:
        found = written_by(cluster, epoch)
        return found if len(found) == 2 else None

    return await eventually(written)


async def test_a_command_that_is_killed_was_seen_to_end_and_another_member_leads(tmp_path: Path) -> None:
    # The lease cannot have ended it: it is longer than the test waits.
    async with group_cluster(tmp_path, lease_seconds=600.0) as cluster:
        await cluster.lead("db1", "db2")
        os.kill((await cluster.beats(1)).pid, signal.SIGKILL)

        row = await cluster.until(lambda row: row.primary == "db2" and row.serving)
        await cluster.beats(2)
        assert row.epoch == 2
        assert await cluster.endings() == [(1, "seen", "its command has ended: killed by SIGKILL")]
        assert cluster.check_journal() == [1, 2]
        # It takes part again, for the next time.
        await cluster.until(lambda row: member_of(row, "db1").status == "active")


async def test_with_the_command_all_that_has_escaped_from_it_ends_before_that_is_said(tmp_path: Path) -> None:
    async with group_cluster(tmp_path, lease_seconds=600.0) as cluster:
        await cluster.lead("db1", "db2", manners=("escaped",))
        pids = await both_write(cluster, 1)
        # Only the command itself leads its session: what has escaped has a parent of its own no more.
        os.kill(next(pid for pid in pids if os.getsid(pid) == pid), signal.SIGKILL)

        await both_write(cluster, 2)
        assert not any(runs(pid) for pid in pids)
        assert [how for _, how, _ in await cluster.endings()] == ["seen"]
        assert cluster.check_journal() == [1, 2]


async def test_what_has_escaped_ends_before_anything_else_is_waited_for(tmp_path: Path) -> None:
    async with group_cluster(tmp_path, lease_seconds=600.0) as cluster:
        hangs, hanging = tmp_path / "hangs", tmp_path / "hanging"
        # A check that does not stop when it is asked to holds the demotion up for a second.
        check = f"[ $MUSTER_MEMBER = db1 ] && [ -e {hangs} ] || exit 0; trap '' TERM; touch {hanging}; while :; do sleep 1; done"
        await cluster.lead("db1", "db2", manners=("escaped",), options=("--check", check))
        pids = await both_write(cluster, 1)
        hangs.touch()

        async def has_begun() -> bool:
            return hanging.exists()

        await eventually(has_begun)
        os.kill(next(pid for pid in pids if os.getsid(pid) == pid), signal.SIGKILL)
        await both_write(cluster, 2)
        assert cluster.check_journal() == [1, 2]


async def test_when_a_runner_is_killed_all_that_it_has_started_dies_before_its_lease_is_over(tmp_path: Path) -> None:
    async with group_cluster(tmp_path, lease_seconds=LONG_LEASE) as cluster:
        await cluster.lead("db1", "db2", manners=("stubborn", "escaped"))
        pids = await both_write(cluster, 1)
        cluster.signal("db1", signal.SIGKILL)

        await dead(pids)
        assert (await cluster.row()).epoch == 1
        await cluster.until(lambda row: row.primary == "db2")
        await cluster.beats(2)
        assert [how for _, how, _ in await cluster.endings()] == ["lease"]
        assert cluster.check_journal() == [1, 2]


async def test_a_command_dies_with_its_runner_though_the_warden_does_not_look(tmp_path: Path) -> None:
    async with group_cluster(tmp_path, lease_seconds=LONG_LEASE) as cluster:
        await cluster.lead("db1", "db2", manners=("stubborn",))
        warden = cluster.warden_of("db1")
        os.kill(warden, signal.SIGSTOP)
        try:
            cluster.signal("db1", signal.SIGKILL)
            await dead(written_by(cluster, 1))
            assert (await cluster.row()).epoch == 1
        finally:
            os.kill(warden, signal.SIGCONT)


async def test_of_a_runner_that_hangs_the_warden_kills_the_command_before_another_one_leads(tmp_path: Path) -> None:
    async with group_cluster(tmp_path, lease_seconds=SHORT_LEASE) as cluster:
        await cluster.lead("db1", "db2", manners=("stubborn", "escaped"))
        pids = await both_write(cluster, 1)
        cluster.children["db1"].suspend()

        await cluster.until(lambda row: row.primary == "db2")
        await cluster.beats(2)
        assert not any(runs(pid) for pid in pids)
        assert [how for _, how, _ in await cluster.endings()] == ["lease"]

        cluster.children["db1"].resume()
        await cluster.until(lambda row: member_of(row, "db1").status == "active")
        assert cluster.check_journal() == [1, 2]


async def test_without_a_controller_the_command_is_over_with_the_lease(tmp_path: Path) -> None:
    async with group_cluster(tmp_path, lease_seconds=SHORT_LEASE) as cluster:
        await cluster.lead("db1", manners=("stubborn", "escaped"))
        pids = await both_write(cluster, 1)
        # The runner has to do it by itself.
        os.kill(cluster.warden_of("db1"), signal.SIGSTOP)
        cluster.children["up"].suspend()
        stopped_at = now()

        await dead(pids)
        os.kill(cluster.warden_of("db1"), signal.SIGCONT)
        last = max(entry.at for entry in cluster.entries())
        # The newest renewal was sent before the controller was stopped.
        assert last < stopped_at + 0.9 * SHORT_LEASE
        assert "half of the lease is over: SIGTERM" in cluster.log_of("db1")
        await cluster.says("db1", "the lease is lost")

        cluster.children["up"].resume()
        await cluster.until(lambda row: row.epoch > 1 and row.primary == "db1")
        await cluster.beats((await cluster.row()).epoch)
        cluster.check_journal()


async def test_a_machine_that_stands_still_for_a_moment_costs_nobody_the_lead(tmp_path: Path) -> None:
    async with group_cluster(tmp_path, lease_seconds=SHORT_LEASE, heartbeat_seconds=SHORT_LEASE) as cluster:
        await cluster.lead("db1", "db2")
        for beats in (80, 100, 120):
            # Not at the same place between two renewals.
            seen = len(cluster.entries())
            await eventually(lambda seen=seen, beats=beats: wrote(cluster, seen + beats))
            for name in ("up", "db1", "db2"):
                cluster.children[name].suspend()
            # Longer than from when a renewal is due until half of the lease is over.
            await asyncio.sleep(0.45 * SHORT_LEASE)
            for name in ("db1", "db2", "up"):
                cluster.children[name].resume()
            await cluster.row()
        assert (await cluster.row()).epoch == 1
        assert "half of the lease is over" not in cluster.log_of("db1")


async def wrote(cluster: GroupCluster, entries: int) -> bool:
    """Whether there are as many entries as this."""
    return len(cluster.entries()) >= entries


async def test_an_operator_lets_another_member_lead(tmp_path: Path) -> None:
    async with group_cluster(tmp_path, lease_seconds=LONG_LEASE) as cluster:
        await cluster.lead("db1", "db2", manners=("escaped",))
        await both_write(cluster, 1)
        await cluster.ask("POST", "/failover", {"to": "db2"})

        await cluster.until(lambda row: row.primary == "db2" and row.serving)
        await cluster.beats(2)
        assert [(epoch, how) for epoch, how, _ in await cluster.endings()] == [(1, "said")]
        assert cluster.check_journal() == [1, 2]
        await cluster.until(lambda row: member_of(row, "db1").status == "active")


async def test_a_runner_that_is_stopped_hands_over_at_once(tmp_path: Path) -> None:
    async with group_cluster(tmp_path, lease_seconds=600.0) as cluster:
        await cluster.lead("db1", "db2")
        cluster.signal("db1", signal.SIGTERM)

        assert await cluster.exit_code("db1") == 0
        await cluster.until(lambda row: row.primary == "db2" and row.serving)
        await cluster.beats(2)
        assert member_of(await cluster.row(), "db1").status == "inactive"
        assert [(epoch, how) for epoch, how, _ in await cluster.endings()] == [(1, "said")]
        assert cluster.check_journal() == [1, 2]


async def test_a_second_runner_of_a_member_ends_the_first_one(tmp_path: Path) -> None:
    async with group_cluster(tmp_path, lease_seconds=SHORT_LEASE) as cluster:
        await cluster.lead("db1", "db2")
        cluster.run("db1", name="db1-again")

        assert await cluster.exit_code("db1") == 1
        assert "StaleIncarnation" in cluster.log_of("db1")
        # It may not say anything for the member any more, so its lease has to run out.
        await cluster.until(lambda row: row.epoch == 2 and row.serving)
        await cluster.beats(2)
        assert cluster.check_journal() == [1, 2]


async def test_hooks_are_run_in_order_with_the_group_on_their_standard_input(tmp_path: Path) -> None:
    async with group_cluster(tmp_path, lease_seconds=LONG_LEASE) as cluster:
        told = tmp_path / "told"
        note = f"cat >> {told}; echo >> {told}"
        await cluster.lead("db1", options=("--promote", note, "--demote", note, "--address", "10.0.0.1:5432"))
        cluster.signal("db1", signal.SIGTERM)

        assert await cluster.exit_code("db1") == 0
        first, promoted, demoted = (orjson.loads(line) for line in told.read_text().splitlines())
        assert [(one["role"], one["epoch"], one["was"]) for one in (first, promoted, demoted)] == [
            ("standby", 0, None),
            ("primary", 1, "standby"),
            ("standby", 1, "primary"),
        ]
        assert {one["member"] for one in (first, promoted, demoted)} == {"db1"}
        assert promoted["primary"] == "db1"
        assert {one["member"]: one["address"] for one in promoted["members"]} == {"db1": "10.0.0.1:5432", "db2": ""}
        assert "promote hook done" in cluster.log_of("db1")


async def test_a_promote_hook_that_fails_lets_another_member_lead_and_says_why(tmp_path: Path) -> None:
    async with group_cluster(tmp_path, lease_seconds=600.0) as cluster:
        cluster.run("db1", "--promote", "echo the disk is full; exit 3")
        row = await cluster.until(lambda row: member_of(row, "db1").status == "failed")
        assert member_of(row, "db1").why == "promote hook: exit code 3: the disk is full"
        cluster.run("db2")

        await cluster.until(lambda row: row.primary == "db2" and row.serving)
        assert {entry.member for entry in cluster.entries()} <= {"db2"}
        assert {how for _, how, _ in await cluster.endings()} == {"said"}
        # Its check passes and its pause is over: it can take over again.
        await cluster.until(lambda row: member_of(row, "db1").status == "active")


async def test_a_hook_that_has_succeeded_is_not_run_again_for_its_epoch(tmp_path: Path) -> None:
    async with group_cluster(tmp_path) as cluster:
        hooks = tmp_path / "hooks"
        # It begins again and again, since its command cannot be started.
        cluster.run("db1", "--role", "always", "--demote", f"echo here >> {hooks}", command=("/is/not/there",))
        await cluster.says("db1", "cannot begin", times=2)
        assert hooks.read_text() == "here\n"
        row = await cluster.until(lambda row: member_of(row, "db1").status == "failed")
        assert "could not be started" in member_of(row, "db1").why


async def test_a_hook_that_hangs_is_ended_with_all_that_it_has_started(tmp_path: Path) -> None:
    async with group_cluster(tmp_path, lease_seconds=600.0) as cluster:
        pids = tmp_path / "pids"
        hang = f"trap '' TERM; setsid sleep 1000 & echo $! $$ > {pids}; while :; do sleep 1; done"
        cluster.run("db1", "--promote", hang, "--hook-timeout", "0.5")

        row = await cluster.until(lambda row: member_of(row, "db1").status == "failed")
        assert member_of(row, "db1").why.startswith("promote hook: it took longer than 0.5 s")
        await dead({int(pid) for pid in pids.read_text().split()})


async def test_a_primary_whose_check_fails_leads_on_if_there_is_nobody_better(tmp_path: Path) -> None:
    async with group_cluster(tmp_path, lease_seconds=LONG_LEASE) as cluster:
        ill = tmp_path / "ill"
        await cluster.lead("db1", options=("--check", f"! cat {ill}"))
        ill.write_text("no room")
        row = await cluster.until(lambda row: member_of(row, "db1").status == "failed")
        assert member_of(row, "db1").why == "check hook: exit code 1: no room"
        ill.unlink()
        row = await cluster.until(lambda row: member_of(row, "db1").status == "active")
        assert (row.epoch, row.primary) == (1, "db1")
        # With somebody who is well it is another matter.
        cluster.run("db2")
        await cluster.until(lambda row: member_of(row, "db2").status == "active")
        ill.write_text("no room")
        await cluster.until(lambda row: row.primary == "db2")
        assert cluster.check_journal() in ([1], [1, 2])


async def test_a_command_that_always_runs_is_switched_by_the_hooks_and_started_again_when_it_ends(
    tmp_path: Path,
) -> None:
    async with group_cluster(tmp_path, lease_seconds=600.0) as cluster:
        hooks = tmp_path / "hooks"
        note = f"echo $MUSTER_ROLE $MUSTER_MEMBER $MUSTER_EPOCH >> {hooks}"
        options = ("--role", "always", "--promote", note, "--demote", note)
        for member in ("db1", "db2"):
            cluster.run(member, *options, command=("sh", "-c", f"echo $$ > {tmp_path}/{member}.pid; exec sleep 1000"))
        await cluster.until(lambda row: row.primary == "db1" and row.serving)
        standby = int((tmp_path / "db2.pid").read_text())
        assert runs(standby)

        await cluster.ask("POST", "/failover", {"to": "db2"})
        await cluster.until(lambda row: row.primary == "db2" and row.serving)
        assert int((tmp_path / "db2.pid").read_text()) == standby
        os.kill(standby, signal.SIGKILL)
        await cluster.until(lambda row: row.primary == "db1" and row.serving)

        async def started_again() -> bool:
            return int((tmp_path / "db2.pid").read_text()) != standby

        await eventually(started_again)
        assert [how for _, how, _ in await cluster.endings()] == ["said", "seen"]
        lines = [line for line in hooks.read_text().splitlines() if not line.endswith(" 0")]
        assert lines == [
            "primary db1 1",
            "standby db1 1",
            "primary db2 2",
            "standby db2 2",
            "primary db1 3",
        ] or lines == [*("primary db1 1", "standby db1 1", "primary db2 2", "primary db1 3", "standby db2 2")]


async def test_a_member_is_an_instance_of_a_service_while_it_runs(tmp_path: Path) -> None:
    async with group_cluster(tmp_path) as cluster:
        cluster.run("db1", "--service", "postgres", "--address", "10.0.0.1:5432")

        async def registered() -> bool:
            return [one.endpoint for one in (await cluster.client.instances("postgres")).items] == ["10.0.0.1:5432"]

        await eventually(registered)
        cluster.signal("db1", signal.SIGTERM)
        assert await cluster.exit_code("db1") == 0
        assert (await cluster.client.instances("postgres")).items == ()


async def test_a_runner_that_waits_for_a_controller_stops_when_it_is_told_to(tmp_path: Path) -> None:
    async with group_cluster(tmp_path) as cluster:
        with cluster.nobody_listens():
            cluster.run("db1")
            # Long before its first try to join is given up.
            await cluster.says(
                "db1", f"cannot join db yet: it waits for an answer from the controller at {cluster.url}"
            )
            cluster.signal("db1", signal.SIGTERM)
            assert await cluster.exit_code("db1") == 0


async def test_a_warden_that_is_killed_has_a_successor(tmp_path: Path) -> None:
    async with group_cluster(tmp_path, lease_seconds=LONG_LEASE) as cluster:
        await cluster.lead("db1", manners=("stubborn", "escaped"))
        pids = await both_write(cluster, 1)
        os.kill(cluster.warden_of("db1"), signal.SIGKILL)
        await cluster.says("db1", "another one is started")

        cluster.signal("db1", signal.SIGKILL)
        await dead(pids)
        assert (await cluster.row()).epoch == 1


async def test_when_its_group_is_deleted_a_runner_stops_what_it_runs_and_ends(tmp_path: Path) -> None:
    async with group_cluster(tmp_path, lease_seconds=LONG_LEASE) as cluster:
        await cluster.lead("db1")
        cluster.run("db2", "--role", "always")
        await cluster.until(lambda row: member_of(row, "db2").status == "active")
        # A group is not deleted under its primary: that one is stopped first, and nobody is to follow it.
        await cluster.ask("PUT", "/pause", {})
        cluster.signal("db1", signal.SIGTERM)
        assert await cluster.exit_code("db1") == 0
        pids = {entry.pid for entry in cluster.entries() if entry.member == "db2"}
        assert any(runs(pid) for pid in pids)
        await cluster.ask("DELETE", "?force=true", {})

        assert await cluster.exit_code("db2") == 1
        assert "GroupNotFound" in cluster.log_of("db2")
        assert not any(runs(pid) for pid in pids)


async def test_a_member_or_a_group_that_is_not_there_is_refused(tmp_path: Path) -> None:
    async with group_cluster(tmp_path) as cluster:
        cluster.run("db7")
        assert await cluster.exit_code("db7") == 1
        assert "MemberNotFound" in cluster.log_of("db7")
