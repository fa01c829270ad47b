"""A primary is lost together with the controller that writes its group: on Kafka the other controller takes over first."""

import signal
import time
from collections.abc import Iterator
from typing import Final

from benchmarks.bench import KAFKA, Bench
from benchmarks.floors import parts
from benchmarks.groups.fleet import LEASE_SECONDS, group_fleet, signal_all
from benchmarks.log.failover import name_in, pair, partition_count
from benchmarks.table import Row, at_most
from workers.writer.writer import reign_seconds

_TAKEOVER_SECONDS: Final = 1.0
"""What the other controller may take until it writes the partition, and the group until the hook starts."""


def run(bench: Bench) -> Iterator[Row]:
    """SIGKILL of the writer of the group's partition and of the primary's runner, warden and command at once."""
    if KAFKA not in bench.engines:
        return
    taken = [_lost(bench) for _ in range(bench.runs)]
    floor = parts.measured_alone(bench, KAFKA)
    yield Row(
        "group_controller",
        "SIGKILL of the group's controller, runner, warden and command at once → the other's promote hook starts",
        KAFKA,
        "through the other",
        "s",
        taken,
        at_most(LEASE_SECONDS + reign_seconds + _TAKEOVER_SECONDS),
        LEASE_SECONDS + reign_seconds + (floor.ms - floor.end) / 1e3,
        f"the lease of {LEASE_SECONDS:g} s, {reign_seconds:g} s more in a new reign, the parts of a failover",
    )


def _lost(bench: Bench) -> float:
    with pair(bench) as (victim, survivor), group_fleet(bench, survivor, victim) as there:
        group = name_in("group/", min(victim.reigned()), partition_count(victim))
        there.create(group, lease_seconds=LEASE_SECONDS)
        primary, lines = there.settled(group, seconds=0.0), there.lines[group]
        pids = [victim.process.pid, *there.tree(group, primary.member)]
        lost_at = time.monotonic()
        signal_all(pids, signal.SIGKILL)
        promoted = lines.next("promote", primary.epoch + 1)
        if promoted.member == primary.member:
            raise RuntimeError(f"{primary} was lost, and then {promoted}")
        return promoted.at - lost_at
