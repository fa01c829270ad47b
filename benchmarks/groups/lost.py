"""A runner is lost with all that it has started, as with its host: nobody has seen the end, so the lease is waited for."""

import signal
import time
from collections.abc import Callable, Iterator
from typing import Final

from benchmarks.bench import Bench
from benchmarks.floors import parts
from benchmarks.groups.fleet import LEASE_SECONDS, GroupFleet, group_fleet, signal_all
from benchmarks.table import Row, at_most

_LOSSES: Final = 5
_MORE_SECONDS: Final = 0.3
GROUP: Final = "lost"


def run(bench: Bench) -> Iterator[Row]:
    """SIGKILL, and SIGSTOP, of runner, warden and command at once: the longest of some."""
    losses = max(2, round(_LOSSES * min(1.0, bench.scale)))
    for engine in bench.engines:
        killed, stopped = [], []
        for _ in range(bench.runs):
            with bench.fresh(engine) as controller, group_fleet(bench, controller) as there:
                there.create(GROUP, lease_seconds=LEASE_SECONDS)
                killed.append([_lost(there, _killed) for _ in range(losses)])
                stopped.append([_lost(there, _stopped) for _ in range(losses)])
        floor = parts.measured_alone(bench, engine)
        floor_is = f"the lease of {LEASE_SECONDS:g} s from the last renewal, and the parts of a failover"
        for title, runs in (("SIGKILL", killed), ("SIGSTOP", stopped)):
            yield Row(
                "group_lost",
                f"{title} of runner, warden and command at once → the other's promote hook starts",
                engine,
                f"longest of {losses}",
                "s",
                [max(taken) for taken in runs],
                at_most(LEASE_SECONDS + _MORE_SECONDS),
                LEASE_SECONDS + (floor.ms - floor.end) / 1e3,
                floor_is,
                {"shortest s": min(min(taken) for taken in runs)},
            )


def _lost(there: GroupFleet, lose: Callable[[GroupFleet, str], Callable[[], None]]) -> float:
    """Lose the primary; the seconds until the other member's hook started."""
    primary, lines = there.settled(GROUP, seconds=0.0), there.lines[GROUP]
    lost_at = time.monotonic()
    returns = lose(there, primary.member)
    promoted = lines.next("promote", primary.epoch + 1)
    if promoted.member == primary.member:
        raise RuntimeError(f"{primary} was lost, and then {promoted}")
    returns()
    return promoted.at - lost_at


def _killed(there: GroupFleet, member: str) -> Callable[[], None]:
    signal_all(there.tree(GROUP, member), signal.SIGKILL)
    return lambda: there.run(GROUP, member)


def _stopped(there: GroupFleet, member: str) -> Callable[[], None]:
    tree = there.tree(GROUP, member)
    signal_all(tree, signal.SIGSTOP)
    return lambda: signal_all(tree, signal.SIGCONT)
