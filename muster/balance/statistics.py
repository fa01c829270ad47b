"""What a balancer has done so far and knows now: for people, and as text for Prometheus."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from muster.balance.limit import Priority
from muster.wire.registry.traffic import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceStatistics:
    """An instance as this client sees it. `cost_seconds`: what a call there would cost now; `out_seconds`: for so long it is
    left out from now. `able`: it can take calls.
    """

    instance: str
    incarnation: int
    endpoint: str
    zone: str
    able: bool
    picks: int
    failures: int
    in_flight: int
    cost_seconds: float
    out_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BalancerStatistics:
    """A balancer as a whole. `age_seconds`: so old the list of instances may be; `limit`: of the calls in flight, None while
    there is none; `shed`: calls that were refused, by their priority. `retries`: calls that were repeated, `retries_refused`:
    those that the budget did not allow.
    """

    service: str
    policy: Policy
    age_seconds: float
    picks: int
    failures: int
    in_flight: int
    limit: float | None
    shed: Mapping[Priority, int]
    retries: int
    retries_refused: int
    instances: tuple[InstanceStatistics, ...]


def prometheus(statistics: BalancerStatistics) -> str:
    """The text of Prometheus, in its format 0.0.4."""
    return "".join(f"{line}\n" for line in _lines(statistics))


def _lines(told: BalancerStatistics) -> Iterator[str]:
    service = {"service": told.service}
    each = [({**service, "instance": one.instance}, one) for one in told.instances]
    yield from _metric("picks_total", "Calls that were sent to the instance.", [(to, one.picks) for to, one in each])
    yield from _metric("failures_total", "Calls that failed there.", [(to, one.failures) for to, one in each])
    yield from _metric("in_flight", "Calls that are under way there.", [(to, one.in_flight) for to, one in each])
    yield from _metric("cost_seconds", "What a call there would cost.", [(to, one.cost_seconds) for to, one in each])
    yield from _metric("able", "1 if it can take calls.", [(to, int(one.able)) for to, one in each])
    shed = [({**service, "priority": priority}, count) for priority, count in told.shed.items()]
    yield from _metric("shed_total", "Calls that were refused by the limit.", shed)
    yield from _metric("retries_total", "Calls that were repeated.", [(service, told.retries)])
    yield from _metric("retries_refused_total", "Retries that the budget refused.", [(service, told.retries_refused)])
    yield from _metric("age_seconds", "How old the list of instances may be.", [(service, told.age_seconds)])
    limit = [] if told.limit is None else [(service, told.limit)]
    yield from _metric("limit", "The calls that may be under way; none while there is no limit.", limit)


def _metric(name: str, told: str, samples: Sequence[tuple[dict[str, str], float]]) -> Iterator[str]:
    yield f"# HELP muster_balancer_{name} {told}"
    yield f"# TYPE muster_balancer_{name} {'counter' if name.endswith('_total') else 'gauge'}"
    for labels, value in samples:
        said = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        yield f"muster_balancer_{name}{{{said}}} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
