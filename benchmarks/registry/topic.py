"""Commands through the topic `muster.commands`, from a batched client, until each outcome is heard."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from benchmarks.bench import KAFKA, Bench
from benchmarks.data import REPORTS
from benchmarks.floors import floor
from benchmarks.process import job
from benchmarks.registry.http import PER_REQUEST, notes
from benchmarks.table import Row, at_least


def run(bench: Bench) -> Iterator[Row]:
    """Registrations, then rounds of health reports to the same instances."""
    if KAFKA not in bench.engines:
        return
    count = bench.size(10_000)
    results: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for _ in range(bench.runs):
        with bench.place(KAFKA) as place, place.controller() as controller:
            controller.wait_until_reigning()
            job("benchmarks.load.publisher", place.bootstrap, place.prefix, bench.size(1_000), count, "register")
            for kind in ("register", "health"):
                before, broker = controller.usage.cpu_seconds, bench.broker_usage().cpu_seconds
                result = job("benchmarks.load.publisher", place.bootstrap, place.prefix, count, 0, kind)
                commands = count * (len(REPORTS) if kind == "health" else 1)
                if result["statuses"] != {"accepted": commands}:
                    raise RuntimeError(f"not every command was accepted: {result['statuses']}")
                used = controller.usage.cpu_seconds - before, bench.broker_usage().cpu_seconds - broker
                result["controller_core_percent"], result["broker_core_percent"] = (
                    cpu / result["seconds"] * 100 for cpu in used
                )
                result["controller_us"] = used[0] / commands * 1e6
                results[kind].append(result)
    for kind, title in (("health", "health reports"), ("register", "registrations")):
        instances = bench.size(3_000)
        stored = floor.records(instances, instances * 9 if kind == "health" else 0)
        append = floor.appended_ms(bench, KAFKA, stored, PER_REQUEST)
        yield Row(
            "topic",
            f"muster.commands to outcome, {title}",
            KAFKA,
            "per second",
            "/s",
            [result["per_second"] for result in results[kind]],
            at_least(15_000) if kind == "health" else None,
            PER_REQUEST / append * 1e3,
            f"raw produce of the events, {PER_REQUEST} at a time",
            notes(results[kind]),
        )
