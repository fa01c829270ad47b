"""What it costs a caller to pick an instance and to say what became of its call."""

from collections.abc import Iterator
from typing import get_args

from benchmarks.balance.picker import FEW, MANY
from benchmarks.bench import EMBEDDED, Bench, middle
from benchmarks.process import job
from benchmarks.table import Row, at_most
from muster.wire.registry.traffic import Policy


def run(bench: Bench) -> Iterator[Row]:
    """Each policy, and the default one with a zone too. The floor of many instances is few of them."""
    for policy, zone in (*((policy, "") for policy in get_args(Policy)), ("least_cost", "z1")):
        told = [
            job("benchmarks.balance.picker", policy, bench.size(100_000), *filter(None, [zone]))
            for _ in range(bench.runs)
        ]
        title = f"pick and record, {policy}{' in a zone' if zone else ''}"
        yield Row("balance_pick", title, EMBEDDED, f"of {FEW}", "us", [one["few"] for one in told], at_most(10))
        many = [one["many"] for one in told]
        yield Row(
            "balance_pick", title, EMBEDDED, f"of {MANY:,}", "us", many, at_most(10), middle(told, "few"), f"of {FEW}"
        )
