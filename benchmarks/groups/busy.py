"""Nobody fails, and one core is kept busy: how often another member leads all the same."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from subprocess import PIPE, Popen
from typing import Final

import orjson

from benchmarks.bench import KAFKA, Bench
from benchmarks.controller import HOST, Controller
from benchmarks.groups.fleet import GroupFleet, group_fleet
from benchmarks.log.failover import pair
from benchmarks.process import python, running
from benchmarks.registry.watch import SERVICE, register
from benchmarks.table import Row, at_most

SECONDS: Final = 300.0
_HOSTED: Final = 18
_RUN: Final = 2
_MEMBERS: Final = ("m1", "m2", "m3")
_INSTANCES: Final = 10
_PER_SECOND: Final = 50.0
_SPIN: Final = (sys.executable, "-c", "while True: pass")


def run(bench: Bench) -> Iterator[Row]:
    """20 groups of three: of 18 the members are in three processes, of two they have runners of their own."""
    for engine in bench.engines:
        with _controllers(bench, engine) as controllers, group_fleet(bench, *controllers) as there:
            found = busy(bench, there, controllers, SECONDS * bench.scale)
        title = f"{_HOSTED + _RUN} groups of {len(_MEMBERS)}, one core kept busy for {SECONDS * bench.scale:g} s"
        notes = {
            "controllers": float(len(controllers)),
            "reigns that ended": found["depositions"],
            "longest between two renewals of a primary ms": found["longest_ms"],
            "controller % core": found["controller_core_percent"],
            "members % core": found["members_core_percent"],
        }
        yield Row(
            *("group_busy", title, engine, "false failovers", "", [found["failovers"]], at_most(0)),
            *(0.0, "nobody fails, so none is due", notes),
        )


@contextmanager
def _controllers(bench: Bench, engine: str) -> Iterator[Sequence[Controller]]:
    """One; on Kafka two, each of which could depose the other one."""
    if engine == KAFKA:
        with pair(bench) as both:
            yield both
    else:
        with bench.fresh(engine) as controller:
            yield (controller,)


def busy(bench: Bench, there: GroupFleet, controllers: Sequence[Controller], seconds: float) -> dict[str, float]:
    """Keep one core busy for so long; how many epochs have changed, and what it took."""
    register(controllers[0].port, _INSTANCES)
    hosted = [f"hosted{number}" for number in range(_HOSTED)]
    own = [f"run{number}" for number in range(_RUN)]
    for group in hosted:
        there.have(group, _MEMBERS)
    with ExitStack() as stack:
        services = [stack.enter_context(_service(bench, there.urls, member, hosted)) for member in _MEMBERS]
        for group in own:
            there.create(group, members=_MEMBERS)
        for service in services:
            _said(bench, service)
        before = {group: there.stands(group)["epoch"] for group in (*hosted, *own)}
        terms, used = _terms(controllers), there.there.cpu_seconds()["controller"]
        with running(_SPIN, bench.folder / "spin.log"):
            _report(bench, there.there.controller, seconds)
        after = {group: there.row(group)["epoch"] for group in before}
        cpu = there.there.cpu_seconds()["controller"] - used
        depositions = _terms(controllers) - terms
        told = [_told(bench, service) for service in services]
    return {
        "failovers": float(sum(after[group] - before[group] for group in before)),
        "depositions": float(depositions),
        "longest_ms": max(one["longest_renewal_ms"] for one in told),
        "members_core_percent": sum(one["core_percent"] for one in told),
        "controller_core_percent": cpu / seconds * 100,
    }


def _report(bench: Bench, controller: Controller, seconds: float) -> None:
    """Write all the time, for so long: reports of health, so that the writers have something to append."""
    flips = max(_INSTANCES, round(_PER_SECOND * seconds))
    command = python("benchmarks.load.reporter", HOST, controller.port, SERVICE, _INSTANCES, flips, _PER_SECOND)
    with running(command, bench.folder / "reporter.log", stdout=PIPE) as reporting:
        assert reporting.stdout is not None, "a reporter without its pipe"
        told = orjson.loads(reporting.stdout.read() or b"{}")
    if told.get("statuses") != {"200": flips}:
        raise RuntimeError(
            f"not every report was accepted: {told or (bench.folder / 'reporter.log').read_text()[-2000:]}"
        )


@contextmanager
def _service(bench: Bench, urls: str, member: str, groups: list[str]) -> Iterator[Popen[bytes]]:
    """A process that hosts this member of all the groups."""
    command = python("benchmarks.load.members", urls, member, *groups)
    with running(command, bench.folder / "members.log", stdin=PIPE, stdout=PIPE) as process:
        yield process


def _said(bench: Bench, service: "Popen[bytes]") -> bytes:
    """The next line of the process. Raises when it has none."""
    assert service.stdout is not None, "a service without its pipe"
    if not (line := service.stdout.readline()):
        raise RuntimeError(f"the members failed: {(bench.folder / 'members.log').read_text()[-2000:]}")
    return line


def _told(bench: Bench, service: "Popen[bytes]") -> dict[str, float]:
    assert service.stdin is not None, "a service without its pipe"
    service.stdin.close()
    told: dict[str, float] = orjson.loads(_said(bench, service))
    return told


def _terms(controllers: Sequence[Controller]) -> int:
    """The sum of all partitions' terms: it grows with each reign."""
    return sum(max(terms) for terms in zip(*(_terms_of(one) for one in controllers), strict=True))


def _terms_of(controller: Controller) -> list[int]:
    return [part["term"] for part in controller.status()["partitions"]]
