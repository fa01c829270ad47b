"""What the cases about balancing have in common: instances in processes of their own, registered with a controller."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from subprocess import PIPE, Popen
from typing import Any, Final

from benchmarks.balance.load.caller import Calls, given
from benchmarks.bench import EMBEDDED, Bench
from benchmarks.controller import HOST, Controller
from benchmarks.process import job, python, running
from benchmarks.rivals.proxies import Way, proxied

SERVICE: Final = "users"


@dataclass(frozen=True, slots=True)
class Kind:
    """How an instance answers; see `benchmarks.balance.load.backend`."""

    takes_seconds: float = 0.0
    at_once: int = 1_000
    waiting: int = 1_000
    status: int = 200

    def command(self, port: int = 0) -> list[str]:
        """What runs it."""
        numbers = (port, self.takes_seconds, self.at_once, self.waiting, self.status)
        return python("benchmarks.balance.load.backend", *numbers)


@contextmanager
def instances(bench: Bench, commands: Sequence[Sequence[str]]) -> Iterator[list[int]]:
    """The processes, each of which prints its port when it listens."""
    with ExitStack() as stack:
        started = [stack.enter_context(running(each, bench.folder / "backend.log", stdout=PIPE)) for each in commands]
        yield [port_of(bench, process) for process in started]


def port_of(bench: Bench, process: Popen[bytes]) -> int:
    """The port that the process prints when it listens."""
    assert process.stdout is not None, "its output is read"
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"an instance has not started: {(bench.folder / 'backend.log').read_text()[-2000:]}")
    return int(line)


@contextmanager
def registered(bench: Bench, ports: Sequence[int]) -> Iterator[Controller]:
    """A controller that knows the instances at these ports as those of the service, i0, i1, …"""
    with bench.fresh(EMBEDDED) as controller:
        for number, port in enumerate(ports):
            spec = {"address": HOST, "port": port}
            status, body = controller.ask("PUT", f"/v1/services/{SERVICE}/instances/i{number}", spec)
            if status != 200:
                raise RuntimeError(f"an instance was not registered: {status} {body.decode()}")
        yield controller


def url_of(controller: Controller) -> str:
    """Where it answers."""
    return f"http://{HOST}:{controller.port}"


def called(calls: Calls) -> list[dict[str, Any]]:
    """Call from a process of its own; what became of the calls of each phase."""
    phases: list[dict[str, Any]] = job("benchmarks.balance.load.caller", given=given(calls))["phases"]
    return phases


def share(phase: dict[str, Any], outcome: str = "answered", priority: str = "") -> float:
    """How many of the phase's calls ended so, in percent; of all, or of one priority."""
    ended: dict[str, int] = phase[outcome]
    sent: dict[str, int] = phase["sent"]
    if priority:
        return 100 * ended.get(priority, 0) / sent[priority]
    return 100 * sum(ended.values()) / sum(sent.values())


def ours_and_theirs(
    bench: Bench, kinds: Sequence[Kind], calls: Calls, policies: Sequence[str], ways: Sequence[Way]
) -> dict[str, list[dict[str, Any]]]:
    """The same calls of the same instances by each policy of ours, and through each proxy alone; the phases by name."""
    found: dict[str, list[dict[str, Any]]] = {}
    with instances(bench, [kind.command() for kind in kinds]) as ports:
        with registered(bench, ports) as controller:
            for policy in policies:
                found[policy] = called(replace(calls, controller=url_of(controller), policy=policy))
        for way in ways:
            with proxied(bench, way, ports) as url:
                found[way.name] = called(replace(calls, proxy=url))
    return found
