"""How fast a move copies its shard, beside the same bytes through the same streams into LMDB without a saga."""

import shutil
from collections.abc import Iterator
from statistics import median
from typing import Any, Final

from benchmarks.bench import EMBEDDED, Bench
from benchmarks.process import job
from benchmarks.shards.fleet import Fleet, fleet, step
from benchmarks.shards.keyspace import loaded
from benchmarks.table import Row, at_least

KEYSPACE: Final = "copied"
_RECORDS: Final = 200_000
_FLOOR_IS: Final = "the driver alone, from the same node into another one"


def run(bench: Bench) -> Iterator[Row]:
    """One shard of 200 MB: copied by the driver alone, then moved; to and fro."""
    records = bench.size(_RECORDS)
    with fleet(bench, "n1", "n2") as there:
        there.create(KEYSPACE, 1, "n1")
        loaded(there, KEYSPACE, "puts", records, records)
        results = [_copied(bench, there, records, "n2" if turn % 2 == 0 else "n1") for turn in range(bench.runs)]
    title = f"copy of a shard, {results[0]['bytes'] / 1e6:,.0f} MB in {records:,} values"
    yield Row(
        "copying",
        title,
        EMBEDDED,
        "of the floor",
        "%",
        [result["floor_seconds"] / result["seconds"] * 100 for result in results],
        at_least(60),
        100.0,
        _FLOOR_IS,
    )
    yield Row(
        "copying",
        title,
        EMBEDDED,
        "per second",
        "MB",
        [result["bytes"] / result["seconds"] / 1e6 for result in results],
        None,
        median(result["bytes"] / result["floor_seconds"] / 1e6 for result in results),
        _FLOOR_IS,
        {
            "nodes % core": median(result["nodes_core_percent"] for result in results),
            "controller % core": median(result["controller_core_percent"] for result in results),
            "floor's target % core": median(result["floor_core_percent"] for result in results),
            "whole move s": median(result["move_seconds"] for result in results),
        },
    )


def _copied(bench: Bench, there: Fleet, records: int, target: str) -> dict[str, Any]:
    """Copy the shard with the driver alone, then move it; what both took."""
    [shard] = there.ask("GET", f"/v1/keyspaces/{KEYSPACE}/shards")["items"]
    folder = bench.folder / "copier"
    alone = job("benchmarks.floors.copier", shard["address"], KEYSPACE, 0, shard["epoch"], folder)
    shutil.rmtree(folder)
    if alone["records"] != records:
        raise RuntimeError(f"{alone['records']} of {records} values were copied")
    before = there.cpu_seconds()
    moved = there.moved(KEYSPACE, 0, target)
    used = {role: cpu - before[role] for role, cpu in there.cpu_seconds().items()}
    return {
        "bytes": alone["bytes"],
        "floor_seconds": alone["seconds"],
        "floor_core_percent": alone["core_percent"],
        "seconds": step(moved, "copy")["seconds"],
        "move_seconds": moved["seconds"],
        **{f"{role}_core_percent": cpu / moved["seconds"] * 100 for role, cpu in used.items()},
    }
