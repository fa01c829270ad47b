"""A failover group of real processes under faults without end, whose primaries append to one file; then the file is checked.

    python -m tests.processes.groups.chaos [--seconds 60] [--seed 7] [--kafka local|HOST:PORT] [--unguarded] [--members 3]

With a guard, hosts freeze too, and no entry of an older epoch may ever stand behind one of a newer epoch. Without one, none may
as long as no host freezes as a whole, nor may anything be written for an epoch once the log says that it is over.

Faults come in rounds. After each of them all is well again, and the group has to be led within a bound. At the end the log is
verified, with the invariants of failovers, and compared with the file. The seed gives the same faults at the same times again;
whom they meet is up to the processes. Exit code 1: something was found; the folder of the run is kept then.
"""

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from infra.local.kafka import LocalKafka
from infra.option import LOCAL
from tests.processes.groups.entries import misnumbered, outlived, overlaps, read_entries, reigns_of, strangers
from tests.processes.groups.hosts import GROUP, Hosts, Log, running_hosts
from tests.processes.groups.nemesis import Nemesis, planned

round_seconds: Final = 20.0
lead_seconds_max: Final = 60.0
"""How long after the last fault of a round the group may take until it is led."""


@dataclass
class Told:
    """What a run has come to. `lead_seconds`: how long after each round it took until the group was led."""

    seed: int
    breaches: list[str] = field(default_factory=list)
    entries: int = 0
    epochs: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    refusals: int = 0
    starts: int = 0
    lead_seconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}: {self.entries:,} entries of {self.epochs} epochs, {self.starts} starts of runners, "
            f"{self.refusals} refusals by the guard",
            f"epochs ended: {dict(self.endings)}",
            f"faults: {self.faults.total()}, {dict(sorted(self.faults.items()))}",
            f"led again after each round within {max(self.lead_seconds, default=0.0):.1f} s",
            *self.breaches[:20],
            f"{len(self.breaches)} breaches",
        ]
        return "\n".join(lines)


async def play(hosts: Hosts, seed: int, seconds: float, *, lease_seconds: float, guarded: bool) -> Told:
    """The whole history, and all that is to be found in it."""
    chance, nemesis, told = Random(seed), Nemesis(hosts), Told(seed)
    rounds = max(1, round(seconds / round_seconds))
    for _ in range(rounds):
        length = min(seconds, round_seconds)
        faults = planned(chance, length, list(hosts.hosts), lease_seconds=lease_seconds, frozen=guarded)
        print(f"seed {seed}, the faults of this round:", *faults, sep="\n  ", flush=True)
        await nemesis.strike(faults)
        told.lead_seconds.append(await led_again(hosts))
    events = await hosts.events()
    await hosts.stop()
    entries, reigns = read_entries(hosts.file), reigns_of(events)
    told.breaches += [*overlaps(entries), *misnumbered(entries), *strangers(entries, reigns)]
    if not guarded:
        told.breaches += outlived(entries, reigns)
    verified = await hosts.verified()
    if not verified["ok"]:
        told.breaches.append(f"muster verify --fold --moves: {verified}")
    told.entries, told.epochs = len(entries), len({entry.epoch for entry in entries})
    told.endings = Counter(reign.how or "not" for reign in reigns.values())
    told.faults, told.refusals = nemesis.counts, hosts.refusals()
    told.starts = sum(host.starts for host in hosts.hosts.values())
    return told


async def led_again(hosts: Hosts) -> float:
    """Wait until the group is led, and its primary writes; how long that took. Raises TimeoutError, behind its time."""
    since, began = time.time(), time.monotonic()
    async with asyncio.timeout(lead_seconds_max):
        while True:
            row = await hosts.client.groups.one(GROUP, consistency="strong")
            newest = hosts.entries()[-1:]
            if row.serving and newest and newest[0].epoch == row.epoch and newest[0].at > since:
                return time.monotonic() - began
            await asyncio.sleep(0.05)


def manners(chance: Random, members: int) -> dict[str, list[str]]:
    """What the members run does not all stop when it is asked to, nor stay in its session."""
    found = {}
    for number in range(1, members + 1):
        found[f"db{number}"] = [manner for manner in ("--stubborn", "--escaped") if chance.random() < 0.4]
    return found


@asynccontextmanager
async def log_at(kafka: str | None, folder: Path) -> AsyncIterator[Log]:
    """Where the log is; a Kafka of its own lives as long as the block."""
    prefix = f"chaos-{secrets.token_hex(4)}"
    if kafka == LOCAL:
        async with LocalKafka(folder / "kafka") as server:
            yield Log(server.bootstrap, prefix)
    else:
        yield Log(kafka, prefix)


async def run(chosen: argparse.Namespace, folder: Path) -> Told:
    """One run, as it was asked for."""
    guarded = not chosen.unguarded
    async with log_at(chosen.kafka, folder) as log:
        how = {"members": chosen.members, "guarded": guarded, "manners": manners(Random(chosen.seed), chosen.members)}
        async with running_hosts(folder, log, lease_seconds=chosen.lease_seconds, **how) as hosts:
            about = {"lease_seconds": chosen.lease_seconds, "guarded": guarded}
            return await play(hosts, chosen.seed, chosen.seconds, **about)


def main() -> int:
    """Run; 1 if something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.processes.groups.chaos")
    parser.add_argument("--seconds", type=float, default=60.0, help="of faults")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument(
        "--kafka", metavar="local|HOST:PORT", help="two controllers on a Kafka, instead of one with its own log"
    )
    parser.add_argument("--unguarded", action="store_true", help="no guard, and no frozen hosts")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--lease-seconds", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, help="a new folder for all that the processes say and leave; it is kept")
    chosen = parser.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="muster-chaos-"))
    folder.mkdir(exist_ok=True)
    try:
        told = asyncio.run(run(chosen, folder))
    except BaseException:
        print(f"broken: seed {chosen.seed}; what the processes have said is in {folder}", file=sys.stderr)
        raise
    print(told)
    if told.breaches:
        print(f"what the processes have said is in {folder}", file=sys.stderr)
        return 1
    if chosen.folder is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
