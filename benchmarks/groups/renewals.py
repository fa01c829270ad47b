"""What it costs a controller to hear the members of many failover groups; they are another process."""

from collections.abc import Iterator
from typing import Any, Final

from benchmarks.bench import Bench, middle
from benchmarks.controller import HOST
from benchmarks.floors import floor
from benchmarks.load.renewer import LISTS, MEMBERS, SHARE
from benchmarks.process import job
from benchmarks.table import Row, Target, at_most

GROUPS: Final = 1_000
SECONDS: Final = 10
HOSTS: Final = 3
"""Processes that host many members each, as many as a group has members: of each group one."""
_ANSWER: Final = b'{"status":"unchanged","partition":0,"position":12345,"version":123,"incarnation":123}'
_OUTCOME: Final = (
    b'{"id":"00000000000000000000000000012345","status":"unchanged","partition":0,"position":12345,"version":123,'
    b'"incarnation":123,"error":null}'
)
# A request each is more than the mark on plain HTTP alone: decision 33.
_CASES: Final[tuple[tuple[str, int | None, Target | None], ...]] = (
    (f"in lists, by {HOSTS} processes", HOSTS, at_most(25)),
    ("one each, by a process for each member", None, None),
)


def run(bench: Bench) -> Iterator[Row]:
    """The controller's share of a core, and the time until a renewal is answered."""
    groups, seconds = bench.size(GROUPS), max(2, int(SECONDS * bench.scale))
    for engine in bench.engines:
        for title, hosts, target in _CASES:
            processes = groups * MEMBERS if hosts is None else hosts
            results = []
            for _ in range(bench.runs):
                with bench.fresh(engine) as controller:
                    results.append(_measured(controller.port, controller.process.pid, groups, processes, seconds))
            plain = _floor(bench, groups, processes, seconds)
            yield from _rows(f"renewals of {groups:,} groups x {MEMBERS}, {title}", engine, results, plain, target)


def _measured(
    port: int, pid: int, groups: int, processes: int, seconds: int, what: str = "controller"
) -> dict[str, Any]:
    return job("benchmarks.load.renewer", HOST, port, pid, groups, processes, seconds, what)


def _floor(bench: Bench, groups: int, processes: int, seconds: int) -> dict[str, Any]:
    """The same requests at the same pace, answered with as many bytes."""
    alone = processes == groups * MEMBERS
    in_a_list = max(1, round(groups * MEMBERS * SHARE / (processes * LISTS)))
    answer = _ANSWER if alone else b'{"items":[%b]}' % b",".join([_OUTCOME] * in_a_list)
    with floor.plain_server(answer, bench.folder / "plain.log") as (port, pid):
        return _measured(port, pid, groups, processes, seconds, "floor")


def _rows(
    title: str, engine: str, results: list[dict[str, Any]], plain: dict[str, Any], target: Target | None
) -> Iterator[Row]:
    names = {
        "controller_us": "controller µs each",
        "generator_core_percent": "generator % core",
        "requests_per_second": "requests/s",
        "renewals_per_second": "renewals/s",
    }
    notes = {told: middle(results, name) for name, told in names.items()}
    for figure, unit, name, aim in (
        ("controller % core", "%", "controller_core_percent", target),
        ("answered p99", "ms", "p99_ms", None),
    ):
        yield Row(
            "group_renewals",
            title,
            engine,
            figure,
            unit,
            [result[name] for result in results],
            aim,
            plain[name],
            "plain HTTP",
            notes if name != "p99_ms" else {},
        )
