"""Writes over HTTP: one client, several in flight, and whole lists of commands; the generator is another process."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final

from benchmarks.bench import EMBEDDED, KAFKA, Bench, middle
from benchmarks.controller import HOST, Controller
from benchmarks.data import REPORTS, service, spec
from benchmarks.floors import floor
from benchmarks.load import http_load
from benchmarks.process import job
from benchmarks.table import Row, Target, at_least, at_most

PER_REQUEST: Final = 100
BATCH_CONNECTIONS: Final = 8
_ANSWER: Final = b'{"status":"accepted","partition":0,"position":12345,"version":123,"incarnation":123}'
_SIZES: Final = {1: 3_000, 8: 15_000, 64: 20_000}
_TARGETS: Final[dict[tuple[str, int], tuple[tuple[str, str, Target], ...]]] = {
    **{(engine, 1): (("p50_ms", "ms", at_most(1.2)), ("p99_ms", "ms", at_most(8))) for engine in (EMBEDDED, KAFKA)},
    (KAFKA, 8): (("per_second", "/s", at_least(4_000)), ("p99_ms", "ms", at_most(15))),
    (KAFKA, 64): (("per_second", "/s", at_least(5_000)), ("p99_ms", "ms", at_most(40))),
    (EMBEDDED, 8): (("per_second", "/s", at_least(3_000)), ("p99_ms", "ms", at_most(15))),
    (EMBEDDED, 64): (("per_second", "/s", at_least(4_000)), ("p99_ms", "ms", at_most(40))),
}


def registrations(first: int, count: int) -> list[bytes]:
    """`PUT` requests of the data set."""
    return [
        http_load.request("PUT", f"/v1/services/{service(number)}/instances/i{number}", spec(number))
        for number in range(first, first + count)
    ]


def batches(
    kind: str, first: int, count: int, *, status: str = "unhealthy", services: int = 100, turn: int = 0
) -> list[bytes]:
    """`POST /v1/commands` requests with 100 commands each: `register` or `report_health`; `turn` tells repeats apart."""
    requests = []
    for start in range(first, first + count, PER_REQUEST):
        commands: list[dict[str, Any]] = []
        for number in range(start, min(start + PER_REQUEST, first + count)):
            data: dict[str, Any] = {"instance": f"i{number}"}
            data |= {"spec": spec(number)} if kind == "register" else {"status": status, "cause": "bench"}
            stream = f"service/{service(number, services)}"
            commands.append(
                {
                    "id": f"{kind}-{number}-{status}-{turn}",
                    "type": f"muster.instance.{kind}.v1",
                    "stream": stream,
                    "data": data,
                }
            )
        requests.append(http_load.request("POST", "/v1/commands", {"commands": commands}))
    return requests


def populate(controller: Controller, count: int) -> None:
    """Register the first `count` instances of the data set, quickly."""
    for first in range(0, count, 20_000):
        sent(controller.port, BATCH_CONNECTIONS, batches("register", first, min(20_000, count - first)))


def sent(port: int, connections: int, requests: Sequence[bytes]) -> dict[str, Any]:
    """Send the requests from another process; raises if one was refused."""
    result = job("benchmarks.load.http_load", HOST, port, connections, given=http_load.packed(list(requests)))
    if result["statuses"] != {"200": len(requests)}:
        raise RuntimeError(f"not every request was accepted: {result['statuses']}")
    result["seconds"] = result["requests"] / result["per_second"]
    return result


def measured(
    bench: Bench, controller: Controller, engine: str, connections: int, requests: list[bytes]
) -> dict[str, Any]:
    """`sent`, with the shares of a core that the controller and the broker took meanwhile."""
    before, broker = controller.usage.cpu_seconds, bench.broker_usage().cpu_seconds if engine == KAFKA else 0.0
    result = sent(controller.port, connections, requests)
    result["controller_core_percent"] = (controller.usage.cpu_seconds - before) / result["seconds"] * 100
    if engine == KAFKA:
        result["broker_core_percent"] = (bench.broker_usage().cpu_seconds - broker) / result["seconds"] * 100
    result["controller_us"] = (controller.usage.cpu_seconds - before) / result["requests"] * 1e6
    result["controller_mb"] = controller.usage.memory_mb
    return result


def notes(results: list[dict[str, Any]]) -> dict[str, float]:
    """The costs beside the figure, as medians."""
    names = {
        "controller_core_percent": "controller % core",
        "controller_us": "controller µs each",
        "generator_core_percent": "generator % core",
        "watcher_core_percent": "watchers % core",
        "broker_core_percent": "broker % core",
        "controller_mb": "controller MB",
    }
    return {told: middle(results, name) for name, told in names.items() if name in results[0]}


def run(bench: Bench) -> Iterator[Row]:
    """Acknowledged registrations with 1, 8 and 64 requests in flight."""
    stored = floor.records(bench.size(floor.BATCHES), 0)
    for engine, partitions in ((EMBEDDED, 1), (KAFKA, 1), (KAFKA, 8)):
        if engine not in bench.engines:
            continue
        results: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for _ in range(bench.runs):
            with bench.fresh(engine, partitions) as controller:
                first = bench.size(500)
                sent(controller.port, 8, registrations(0, first))
                for connections, count in _SIZES.items():
                    requests = registrations(first, bench.size(count))
                    results[connections].append(measured(bench, controller, engine, connections, requests))
                    first += len(requests)
        append = floor.appended_ms(bench, engine, stored)
        with floor.plain_http(_ANSWER, bench.folder / "plain.log") as port:
            for connections, count in _SIZES.items():
                plain = sent(port, connections, registrations(0, bench.size(count)))
                yield from _rows(engine, partitions, connections, results[connections], plain, append)


def _rows(
    engine: str, partitions: int, connections: int, results: list[dict[str, Any]], plain: dict[str, Any], append: float
) -> Iterator[Row]:
    title = "registrations over HTTP, 1 client" if connections == 1 else f"the same, {connections} in flight"
    if partitions > 1:
        title = f"{title}, {partitions} partitions"
    for name, unit, aim in _TARGETS[engine, connections]:
        # The targets are meant for one writer; more partitions are for more controllers.
        target = aim if partitions == 1 else None
        alone = connections == 1 and name == "p50_ms"
        yield Row(
            "http",
            title,
            engine,
            name.removesuffix("_ms").replace("_", " "),
            unit,
            [result[name] for result in results],
            target,
            plain[name] + (append if alone else 0),
            f"plain HTTP {plain[name]:.2f} + raw append {append:.2f}" if alone else "plain HTTP",
            notes(results) if name != "p99_ms" else {},
        )


def run_batches(bench: Bench) -> Iterator[Row]:
    """`POST /v1/commands`, 100 per request: registrations, then rounds of health reports to the same instances."""
    count = bench.size(10_000)
    for engine in bench.engines:
        results: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for _ in range(bench.runs):
            with bench.fresh(engine) as controller:
                sent(controller.port, BATCH_CONNECTIONS, batches("register", count, bench.size(1_000)))
                reports = [
                    request
                    for turn, status in enumerate(REPORTS)
                    for request in batches("report_health", 0, count, status=status, turn=turn)
                ]
                for kind, requests in (("register", batches("register", 0, count)), ("report_health", reports)):
                    result = measured(bench, controller, engine, BATCH_CONNECTIONS, requests)
                    result["controller_us"] /= PER_REQUEST
                    results[kind].append(result)
        for kind, title in (("report_health", "health reports"), ("register", "registrations")):
            instances = bench.size(3_000)
            stored = floor.records(instances, instances * 9 if kind == "report_health" else 0)
            append = floor.appended_ms(bench, engine, stored, PER_REQUEST)
            yield Row(
                "commands",
                f"POST /v1/commands, 100 {title} per request",
                engine,
                "per second",
                "/s",
                [result["per_second"] * PER_REQUEST for result in results[kind]],
                at_least(15_000) if kind == "report_health" else None,
                PER_REQUEST / append * 1e3,
                f"raw append, {PER_REQUEST} at a time",
                notes(results[kind]),
            )
