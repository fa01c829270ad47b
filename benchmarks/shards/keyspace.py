"""Values by key, from `muster.Keyspace` to a data node's disk: call by call, and in batches."""

from collections import defaultdict
from collections.abc import Iterator
from statistics import median
from subprocess import PIPE
from typing import Any, Final, NamedTuple

from benchmarks.bench import EMBEDDED, Bench, middle
from benchmarks.controller import HOST
from benchmarks.floors import floor
from benchmarks.load.keyspace_load import BATCH_OPERATIONS, IN_FLIGHT, MESSAGE_OPERATIONS
from benchmarks.process import job, python, running
from benchmarks.shards.fleet import Fleet, fleet
from benchmarks.table import Row, Target, at_least

KEYSPACE: Final = "users"
_SHARDS: Final = 16
_KEYS: Final = 20_000


class _Kind(NamedTuple):
    """`group`: how many writes one durable transaction of the floor has; 0: it is about reads."""

    name: str
    title: str
    operations: int
    target: Target
    group: int


_KINDS: Final = (
    _Kind("puts", f"put in batches of {BATCH_OPERATIONS:,}", 100_000, at_least(10_000), MESSAGE_OPERATIONS),
    _Kind("gets", f"get in batches of {BATCH_OPERATIONS:,}", 200_000, at_least(10_000), 0),
    _Kind("put", f"put, {IN_FLIGHT} in flight", 20_000, at_least(1_500), IN_FLIGHT),
    _Kind("get", f"get, {IN_FLIGHT} in flight", 40_000, at_least(3_000), 0),
)


def run(bench: Bench) -> Iterator[Row]:
    """One data node with 16 shards. The embedded engine only: neither a put nor a get asks the controller anything."""
    keys = max(BATCH_OPERATIONS, bench.size(_KEYS))
    results: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _ in range(bench.runs):
        with fleet(bench, "n1") as there:
            there.create(KEYSPACE, _SHARDS, "n1")
            loaded(there, KEYSPACE, "puts", keys, keys)
            for kind in _KINDS:
                results[kind.name].append(loaded(there, KEYSPACE, kind.name, bench.size(kind.operations), keys))
    echoed = _echoed(bench, keys)
    for kind in _KINDS:
        least, told = echoed[kind.name], f"bare gRPC {echoed[kind.name]:,.0f}"
        if kind.group:
            disk = kind.group / floor.committed_ms(bench, kind.group) * 1e3
            least, told = min(least, disk), f"the lesser of {told} and raw LMDB {disk:,.0f}, {kind.group} a transaction"
        yield Row(
            "keyspace",
            kind.title,
            EMBEDDED,
            "per second",
            "/s",
            [result["per_second"] for result in results[kind.name]],
            kind.target,
            least,
            told,
            costs(results[kind.name]) | {"call p99 ms": middle(results[kind.name], "p99_ms")},
        )


def loaded(there: Fleet, keyspace: str, kind: str, operations: int, keys: int) -> dict[str, Any]:
    """Load from another process, with the shares of a core that controller and nodes took meanwhile."""
    before = there.cpu_seconds()
    result = job("benchmarks.load.keyspace_load", f"{there.url}#{keyspace}", kind, operations, keys)
    for role, cpu in there.cpu_seconds().items():
        result[f"{role}_core_percent"] = (cpu - before[role]) / result["seconds"] * 100
    return result


def costs(results: list[dict[str, Any]]) -> dict[str, float]:
    """The processes' shares of a core, as medians."""
    roles = ("nodes", "generator", "controller")
    return {f"{role} % core": median(result[f"{role}_core_percent"] for result in results) for role in roles}


def _echoed(bench: Bench, keys: int) -> dict[str, float]:
    """Operations per second of a server that only answers, by kind."""
    with running(python("benchmarks.floors.echo"), bench.folder / "echo.log", stdout=PIPE) as process:
        assert process.stdout is not None
        address = f"{HOST}:{int(process.stdout.readline())}"
        return {
            kind.name: job("benchmarks.load.keyspace_load", address, kind.name, bench.size(kind.operations), keys)[
                "per_second"
            ]
            for kind in _KINDS
        }
