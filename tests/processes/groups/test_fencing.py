"""Fencing by a hook, with real processes: a primary's whole tree stands still, and another member's runner sees to its end.

The lease is far longer than a test waits: nothing is ended by it.
"""

import os
import shlex
import signal
import sys
from contextlib import suppress
from pathlib import Path

import orjson
import pytest

from tests.processes.groups.group_cluster import GroupCluster, group_cluster, member_of, now, processes, runs
from tests.processes.shard_cluster import eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]
LEASE = 120.0


def tree_of(cluster: GroupCluster, name: str) -> list[int]:
    """The runner, and all that it has started, the warden too."""
    runner = cluster.children[name].pid
    assert runner is not None, f"{name} does not run"
    found, known = [runner], processes()
    for parent in found:
        found += [pid for pid, above, _ in known if above == parent]
    return found


def freeze(cluster: GroupCluster, name: str) -> list[int]:
    """The member's host stands still: nothing of it looks at a clock."""
    frozen = tree_of(cluster, name)
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    return frozen


def thaw(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def fence(line: str) -> tuple[str, str]:
    return "--fence", line


def powers_off(victims: Path, document: Path) -> str:
    """A hook that kills what stands in the file, and keeps what it was told."""
    return f"cat > {document}; xargs kill -9 < {victims} && echo $MUSTER_FENCE at $MUSTER_FENCE_ADDRESS is off"


def _is_there(path: Path) -> bool:
    return path.exists()


async def exists(path: Path) -> None:
    async def there() -> bool:
        return _is_there(path)

    await eventually(there)


async def failures(cluster: GroupCluster) -> list[tuple[str, str]]:
    """Who could not fence, and why."""
    found = await cluster.client.newest_events(type="fencing_failed")
    return [(event.data["member"], event.data["why"]) for event in found.items]


async def test_a_host_that_is_frozen_is_fenced_and_followed_long_before_its_lease_is_over(tmp_path: Path) -> None:
    victims, document = tmp_path / "victims", tmp_path / "document"
    async with group_cluster(tmp_path, fencing="hook", lease_seconds=LEASE) as cluster:
        hook = fence(powers_off(victims, document))
        await cluster.lead("db1", "db2", manners=("stubborn", "escaped"), options=("--address", "127.0.0.1:7", *hook))
        frozen = freeze(cluster, "db1")
        victims.write_text("\n".join(str(pid) for pid in frozen))
        began = now()

        await cluster.until(lambda row: row.primary == "db2" and row.serving)
        assert now() - began < LEASE / 4
        await cluster.beats(2)
        assert not any(runs(pid) for pid in frozen)
        assert await cluster.endings() == [(1, "hook", "db2 has fenced it: db1 at 127.0.0.1:7 is off")]
        assert cluster.check_journal() == [1, 2]
        told = orjson.loads(document.read_bytes())
        [promotion] = [
            event.data
            for event in (await cluster.client.newest_events(type="member_promoted")).items
            if event.data["epoch"] == 2
        ]
        assert (promotion["was"], promotion["ended"]) == ("db1", "hook")
        incarnation = told["fence"].pop("incarnation")
        assert told["fence"] == {"member": "db1", "address": "127.0.0.1:7", "epoch": 1}
        assert incarnation == told["members"][0]["incarnation"]
        assert (told["member"], told["role"], told["fencing"]) == ("db2", "standby", "hook")


async def test_a_hook_that_fails_is_recorded_and_another_member_tries(tmp_path: Path) -> None:
    victims, document = tmp_path / "victims", tmp_path / "document"
    async with group_cluster(tmp_path, fencing="hook", lease_seconds=LEASE) as cluster:
        await cluster.ask("PUT", "/members/db3", {"priority": 1})
        await cluster.lead("db1")
        cluster.run("db2", *fence("echo no such volume; exit 3"))
        cluster.run("db3", *fence(powers_off(victims, document)))
        await cluster.until(lambda row: all(member_of(row, name).status == "active" for name in ("db2", "db3")))
        victims.write_text("\n".join(str(pid) for pid in freeze(cluster, "db1")))

        await cluster.until(lambda row: row.epoch == 2 and row.serving)
        assert await failures(cluster) == [("db2", "fence hook: exit code 3: no such volume")]
        assert [(how, detail.partition(" ")[0]) for _, how, detail in await cluster.endings()] == [("hook", "db3")]
        assert cluster.check_journal()[0] == 1


async def test_a_primary_that_is_heard_again_is_left_alone(tmp_path: Path) -> None:
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    slow = f"import signal, sys, pathlib; path = pathlib.Path({str(ended)!r})"
    slow += "; signal.signal(signal.SIGTERM, lambda *_: (path.touch(), sys.exit(1)))"
    slow += f"; pathlib.Path({str(begun)!r}).touch(); signal.pause()"
    async with group_cluster(tmp_path, fencing="hook", lease_seconds=LEASE) as cluster:
        hook = fence(f"exec {shlex.join([sys.executable, '-c', slow])}")
        await cluster.lead("db1", "db2", options=hook)
        frozen = freeze(cluster, "db1")
        await exists(begun)
        thaw(frozen)

        await cluster.until(lambda row: row.primary == "db2" and row.serving)
        await exists(ended)
        assert [how for _, how, _ in await cluster.endings()] == ["said"]
        assert await failures(cluster) == []
        await cluster.beats(2)
        assert cluster.check_journal() == [1, 2]


async def test_a_switch_that_an_operator_asks_for_fences_nobody_who_is_heard(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    async with group_cluster(tmp_path, fencing="hook", lease_seconds=LEASE) as cluster:
        await cluster.lead("db1", "db2", options=fence(f"touch {begun}"))
        await cluster.ask("POST", "/failover", {"to": "db2"})
        await cluster.until(lambda row: row.primary == "db2" and row.serving)
        assert [how for _, how, _ in await cluster.endings()] == ["said"]
        assert not begun.exists()
