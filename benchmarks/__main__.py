"""Measure, print the table, write the figures.

python -m benchmarks [CASE ...] [--runs N] [--engine NAME] [--scale F] [--rival NAME] [--results FILE]
"""

import argparse
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.balance import clients, fails, flip, kill, overload, pick, slow
from benchmarks.bench import ENGINES, Bench
from benchmarks.groups import busy, controller_lost, lost, postgres, renewals, switch
from benchmarks.groups import failover as group_failover
from benchmarks.log import failover, memory, projector, restart, verify
from benchmarks.pace import PACE
from benchmarks.registry import discover, flushed, health, heartbeats, http, topic, watch
from benchmarks.rivals import etcd, patroni
from benchmarks.shards import copying, cutover, keyspace, live_sagas, sagas
from benchmarks.table import Row, show, write
from benchmarks.telemetry import silence

RESULTS: Final = Path(__file__).parent / "results.json"
LOAD_MAX: Final = 0.5

CASES: Final[dict[str, Callable[[Bench], Iterable[Row]]]] = {
    "http": http.run,
    "flushed": flushed.run,
    "commands": http.run_batches,
    "topic": topic.run,
    "heartbeats": heartbeats.run,
    "watch": watch.run,
    "fanout": watch.run_fanout,
    "discover": discover.run,
    "checks": health.run,
    "projector": projector.run,
    "restart": restart.run,
    "cold_start": restart.run_cold,
    "verify": verify.run,
    "memory": memory.run,
    "failover": failover.run,
    "keyspace": keyspace.run,
    "copying": copying.run,
    "cutover": cutover.run,
    "cutover_abort": cutover.run_abort,
    "sagas": sagas.run,
    "live_sagas": live_sagas.run,
    "group_failover": group_failover.run,
    "group_lost": lost.run,
    "group_switch": switch.run,
    "group_busy": busy.run,
    "group_controller": controller_lost.run,
    "group_postgres": postgres.run,
    "group_renewals": renewals.run,
    "balance_pick": pick.run,
    "balance_clients": clients.run,
    "balance_slow": slow.run,
    "balance_fails": fails.run,
    "balance_overload": overload.run,
    "balance_flip": flip.run,
    "balance_kill": kill.run,
    "telemetry": silence.run,
}
RIVALS: Final[dict[str, Callable[[Bench], Iterable[Row]]]] = {"etcd": etcd.run, "patroni": patroni.run}
PROXIES: Final = "proxies"
"""A rival that is no case of its own: nginx, HAProxy and Envoy, beside ours in the cases about balancing."""


def measured(bench: Bench, cases: Sequence[str]) -> Iterator[Row]:
    """The rows of the cases, as they come."""
    for name in cases:
        began = time.monotonic()
        print(f"{name} …", file=sys.stderr, end=" ", flush=True)
        yield from (CASES | RIVALS)[name](bench)
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of: {' '.join(CASES)}; all of them by default")
    parser.add_argument("--runs", type=int, default=3, help="of each case; the median is quoted")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="only this one")
    parser.add_argument("--scale", type=float, default=1.0, help="of all sizes; the targets are meant for 1")
    rivals = [*RIVALS, PROXIES]
    parser.add_argument("--rival", choices=rivals, action="append", default=[], help="measure this one too, at the end")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.cases if name not in CASES]:
        parser.error(f"there is no case {unknown[0]!r}; the cases are {' '.join(CASES)}")
    # It tells of topics that are not there yet.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    # SIGTERM must run the finally blocks, which stop what was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if os.getloadavg()[0] > LOAD_MAX:
        print(
            f"the machine is busy (load {os.getloadavg()[0]:.1f}): figures measured now are worse than they should be",
            file=sys.stderr,
        )
    if arguments.scale == 1:
        PACE.learn()
    folder = Path(tempfile.mkdtemp(prefix="muster-bench-"))
    bench = Bench(
        folder, arguments.runs, arguments.scale, tuple(arguments.engine or ENGINES), PROXIES in arguments.rival
    )
    rows: list[Row] = []
    try:
        cases = [*(arguments.cases or CASES), *(rival for rival in arguments.rival if rival in RIVALS)]
        for row in measured(bench, cases):
            # A target is meant for the full size.
            rows.append(row if bench.scale == 1 else replace(row, target=None))
    finally:
        bench.close()
        shutil.rmtree(folder, ignore_errors=True)
        if rows:
            write(arguments.results, rows, scale=arguments.scale)
            show(rows)


if __name__ == "__main__":
    main()
