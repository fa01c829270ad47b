"""A group of real processes under faults: for a while here, for as long as wanted by `python -m tests.processes.groups.chaos`.

And a host that freezes just before it writes: what a lease cannot prevent, what a guard does, and that the check would find it.
"""

import os
import secrets
import signal
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from tests.processes.groups.chaos import manners, play
from tests.processes.groups.entries import misnumbered, outlived, overlaps, reigns_of, strangers
from tests.processes.groups.hosts import Hosts, Log, running_hosts, signalled
from tests.processes.shard_cluster import eventually
from tests.servers import SharedKafka

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]
MEMBERS: Final = 3

seconds = float(os.environ.get("MUSTER_CHAOS_SECONDS", "11"))


async def faults_find_nothing(folder: Path, log: Log, *, guarded: bool) -> None:
    """One round of faults, as a seed has them; whoever wants the same ones again sets MUSTER_CHAOS_SEED."""
    seed = int(os.environ.get("MUSTER_CHAOS_SEED", secrets.randbelow(1_000_000)))
    how: dict[str, Any] = {"lease_seconds": 1.5 if guarded else 2.0, "guarded": guarded}
    async with running_hosts(folder, log, members=MEMBERS, manners=manners(Random(seed), MEMBERS), **how) as hosts:
        told = await play(hosts, seed, seconds, **how)
    print(told)
    assert told.breaches == []
    assert told.epochs > 1


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "unguarded, and no host freezes"])
async def test_no_entry_of_an_older_epoch_stands_behind_one_of_a_newer(tmp_path: Path, guarded: bool) -> None:
    await faults_find_nothing(tmp_path, Log(), guarded=guarded)


@pytest.mark.kafka
@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "unguarded, and no host freezes"])
async def test_nor_while_controllers_on_kafka_take_over_from_each_other(
    kafka: SharedKafka, tmp_path: Path, guarded: bool
) -> None:
    log = Log(kafka.bootstrap, f"chaos-{secrets.token_hex(4)}")
    await faults_find_nothing(tmp_path, log, guarded=guarded)


async def frozen_before_its_write(hosts: Hosts) -> None:
    """The primary's host freezes between its writer's look and its write; when it thaws, the writer comes first.

    Another member leads meanwhile, and has written.
    """
    host, epoch = hosts.leading(), hosts.entries()[-1].epoch
    hosts.gate.touch()

    async def stands_at_gate() -> bool:
        return hosts.stand_at_gate()

    await eventually(stands_at_gate)
    [writer] = host.pids("command")
    frozen = await host.stopped("host")

    async def is_over() -> bool:
        entries = hosts.entries()
        newer = [entry.epoch > epoch for entry in entries].index(True)
        return hosts.refusals() > 0 or any(entry.process == writer for entry in entries[newer:])

    try:
        hosts.gate.unlink()
        assert (await hosts.writes(epoch)).member != host.name
        # Alone at first: whoever would end it thaws a moment later.
        signalled([writer], signal.SIGCONT)
        await eventually(is_over)
    finally:
        signalled(frozen, signal.SIGCONT)


async def test_without_a_guard_the_check_finds_what_a_host_writes_that_was_frozen(tmp_path: Path) -> None:
    async with running_hosts(tmp_path, Log(), guarded=False, lease_seconds=1.0) as hosts:
        await frozen_before_its_write(hosts)
        entries, reigns = hosts.entries(), reigns_of(await hosts.events())
    assert list(overlaps(entries)) != []
    assert any("after the epoch had ended (lease)" in found for found in outlived(entries, reigns))
    assert [*misnumbered(entries), *strangers(entries, reigns)] == []


async def test_with_a_guard_it_is_refused(tmp_path: Path) -> None:
    async with running_hosts(tmp_path, Log(), guarded=True, lease_seconds=1.0) as hosts:
        await frozen_before_its_write(hosts)
        entries, reigns = hosts.entries(), reigns_of(await hosts.events())
        assert hosts.refusals() == 1
    assert [*overlaps(entries), *misnumbered(entries), *strangers(entries, reigns)] == []
