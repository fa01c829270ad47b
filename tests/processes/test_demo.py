"""The demonstration itself: it holds, nothing of it stays behind, and it notices what it claims to notice."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from examples.demo.audit import breach, damaged_copy
from examples.demo.claims import Claims
from examples.demo.cluster import ROOT, Cluster
from examples.demo.compare import differences, watch_breaches
from examples.demo.shards import KEYSPACE, LATE, NODES, SHARDS, checked
from examples.shards.journal import read_journals
from infra.shards.record import ShardWrite, StoredWrite
from infra.shards.store import ShardStore
from muster import Appeared, Change, Changed, Client, Event, Instance, Removed, Snapshot
from muster.wire.shards.driver import ShardId
from muster.wire.shards.key import shard_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def instance(position: int, health: str = "healthy") -> Instance:
    return Instance(
        service="users",
        instance="users-1",
        address="127.0.0.1",
        port=80,
        health=health,  # type: ignore[arg-type]
        discoverable=health == "healthy",
        incarnation=0,
        version=position,
        position=position,
        registered_at=NOW,
        health_since=NOW,
    )


def event(position: int, kind: str) -> Event:
    return Event(
        partition=0,
        position=position,
        stream="service/users",
        at=NOW,
        type=f"muster.instance.{kind}.v1",
        data={"instance": "users-1", "incarnation": 0},
    )


EVENTS = [event(1, "registered"), event(2, "health_changed"), event(3, "health_changed"), event(4, "deregistered")]
CHANGES: list[Change] = [
    Snapshot((), ""),
    Appeared(instance(1), "0:1"),
    Changed(instance(2, "unhealthy"), instance(1), "0:2"),
    Changed(instance(3), instance(2, "unhealthy"), "0:3"),
    Removed(instance(3), "requested", "0:4"),
]


def test_no_claims_are_no_success() -> None:
    assert Claims().exit_code == 1


def test_one_broken_claim_is_a_failure() -> None:
    claims = Claims()
    claims.claim("the sky is up", True)
    assert claims.exit_code == 0
    claims.claim("the earth is flat", False)
    assert (claims.exit_code, claims.held) == (1, 1)


def test_a_watch_that_told_everything_once_has_no_breach() -> None:
    assert watch_breaches(EVENTS, CHANGES, {}) == []


@pytest.mark.parametrize("number", range(1, len(CHANGES)))
def test_a_gap_and_a_repeat_in_a_watch_are_breaches(number: int) -> None:
    assert watch_breaches(EVENTS, CHANGES[:number] + CHANGES[number + 1 :], {}) != []
    assert watch_breaches(EVENTS, [*CHANGES[:number], CHANGES[number], *CHANGES[number:]], {}) != []


def test_changes_out_of_order_are_a_breach() -> None:
    assert watch_breaches(EVENTS, [CHANGES[0], CHANGES[1], CHANGES[3], CHANGES[2], CHANGES[4]], {}) != []


def test_differences_name_the_field() -> None:
    before, after = {("users", "users-1"): instance(1)}, {("users", "users-1"): instance(1, "unhealthy")}
    assert differences(before, before) == []
    assert [found.partition(" was ")[0] for found in differences(before, after)] == [
        "users/users-1: discoverable",
        "users/users-1: health",
    ]
    assert differences(before, {}) == ["users/users-1 is missing"]


@pytest.mark.process
async def test_damage_to_a_log_is_noticed(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    try:
        await cluster.start_controller()
        async with Client(cluster.url) as client:
            for number in range(9):
                await client.register("users", f"users-{number}", "127.0.0.1", 80)
    finally:
        await cluster.close()
    flipped = damaged_copy(cluster.data, tmp_path / "flipped", "a flipped bit")
    removed = damaged_copy(cluster.data, tmp_path / "removed", "a missing record")
    found = [await breach(cluster, tmp_path / name) for name in ("data", "flipped", "removed")]
    assert found[0] == ("sound", None)
    assert found[1][1] == flipped
    assert f"record {removed} is missing" in found[2][0]


@pytest.mark.process
@pytest.mark.timeout(240)
async def test_the_demonstration_holds_and_its_checker_misses_a_write_that_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "left"
    ended = await asyncio.to_thread(demonstration, tmp_path, "--folder", str(left))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "47 of 47 claims held" in ended.stdout
    assert "✗" not in ended.stdout
    assert left_behind(tmp_path) == [str(left)]
    cluster = Cluster(left)
    assert (await checked(cluster, left / "journals"))["breaches"] == []
    key = an_acknowledged_write(left / "journals")
    node = remove(cluster, key)
    assert node in (*NODES, LATE)
    [breach] = (await checked(cluster, left / "journals"))["breaches"]
    assert breach.startswith(f"I3 {key} holds None, but ")


def an_acknowledged_write(journals: Path) -> str:
    """The key of a write that nothing has followed."""
    entries = read_journals(journals.glob("*.jsonl"))
    last = [operations[-1] for operations in entries.writes.values()]
    return next(one.key for one in last if one.acknowledged and one.number is not None)


def remove(cluster: Cluster, key: str) -> str:
    """Remove the key from the files of the node that serves it; the node."""
    shard = ShardId(KEYSPACE, shard_of(key, SHARDS))
    for node in (*NODES, LATE):
        with closing(ShardStore(cluster.data_of(node))) as store:
            record = store.record(shard)
            if record is not None and record.state == "serving":
                [written] = store.write([ShardWrite(shard, record.epoch, key, None)])
                assert isinstance(written, StoredWrite)
                return node
    raise AssertionError(f"nobody serves {key}")


@pytest.mark.process
@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.timeout(300)
def test_the_demonstration_holds_on_kafka_and_postgresql(tmp_path: Path) -> None:
    ended = demonstration(tmp_path, "--kafka", "local", "--postgres", "local")
    if ended.returncode == 2 and os.environ.get("CI") != "true":
        pytest.skip(ended.stderr)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "55 of 55 claims held" in ended.stdout
    assert left_behind(tmp_path) == []


@pytest.mark.process
async def test_a_demonstration_that_is_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *command(), cwd=ROOT, env=environment(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while b"watcher" not in await process.stdout.readline():
            pass
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert left_behind(tmp_path) == []


def demonstration(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*options),
        cwd=ROOT,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def command(*options: str) -> list[str]:
    return [sys.executable, "-u", "-m", "examples.demo", *options]


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder)}


def left_behind(folder: Path) -> list[str]:
    """Files in the folder, and processes that name it."""
    processes = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended meanwhile
            continue
        if str(folder) in line and entry.parent.name != str(os.getpid()):
            processes.append(line)
    return [*map(str, folder.iterdir()), *processes]
