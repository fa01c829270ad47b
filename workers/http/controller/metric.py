"""Prometheus metrics: requests by route, garbage collector pauses, watchers, and the state of the views.

What happens is counted as it happens; what is so is looked up when Prometheus asks.
"""

import gc
import time
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from domain.shards.shard import Status
from projections.availability import unavailable
from workers.gateway import CONDITION_KINDS, Gateway
from workers.http.connection.keeper import Keeper
from workers.http.watch.subscribers import Audience

REQUEST_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
PAUSE_SECONDS: Final = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 1.0)

CHECK_GAUGES: Final = {
    "scheduled": "Checks that run here",
    "in_flight": "Checks under way",
    "waiting": "Checks that are due and have no slot",
    "overdue": "Checks that have come to no result for longer than their interval allows",
    "late_p99_seconds": "How late the newest 4,096 runs have started, as the 99th percentile",
}

UNKNOWN: Final = "(unknown)"
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Requests:
    """One route and method: how long it took and how it ended. Plain numbers, which Prometheus is given when it asks: every
    request pays for them.
    """

    __slots__ = ("_seconds", "_statuses", "_within")

    def __init__(self) -> None:
        self._statuses: dict[int, int] = {}
        self._within = [0] * (len(REQUEST_SECONDS) + 1)
        self._seconds = 0.0

    def observe(self, status: int, seconds: float) -> None:
        """One more."""
        self._statuses[status] = self._statuses.get(status, 0) + 1
        self._within[bisect_left(REQUEST_SECONDS, seconds)] += 1
        self._seconds += seconds

    def add_to(self, counts: CounterMetricFamily, times: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Add what was observed to these families."""
        for status, count in self._statuses.items():
            counts.add_metric([*labels, str(status)], count)
        bounds = (*map(floatToGoString, REQUEST_SECONDS), "+Inf")
        times.add_metric(labels, list(zip(bounds, accumulate(self._within), strict=True)), self._seconds)


class Metrics(Collector):
    """All metrics of a controller's HTTP face. `start` begins to time the garbage collector, `stop` ends it.

    `keeper` is that of the connections, once there is a server.
    """

    def __init__(self, gateway: Gateway, audience: Audience) -> None:
        self.requests: dict[tuple[str, str], Requests] = {}
        self.keeper: Keeper | None = None
        self._gateway = gateway
        self._audience = audience
        self._pause_began = 0.0
        # Else each series would have a second one, with the instant at which it began.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        # A registry of its own: the process-wide one has these collectors already, and would refuse them.
        registry = self._registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        self._pauses = _pauses(registry)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)

    def of(self, route: str, method: str) -> Requests:
        """The counts of one route and method."""
        found = self.requests.get((route, method))
        if found is None:
            found = self.requests[route, method] = Requests()
        return found

    def of_no_route(self, method: str) -> Requests:
        """The counts of requests that no route has taken."""
        # One label for all paths that do not exist, and one for all methods of nobody's: a client that tries many must
        # not make as many series.
        return self.of(UNKNOWN, method if method in METHODS else "other")

    def start(self) -> None:
        """Time the garbage collector."""
        gc.callbacks.append(self._on_gc)

    def stop(self) -> None:
        """Leave the garbage collector alone."""
        # The server may be stopped before it has said that it started.
        if self._on_gc in gc.callbacks:
            gc.callbacks.remove(self._on_gc)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For Prometheus' registry."""
        yield from self._of_requests()
        yield from self._of_connections()
        yield from self._of_watchers()
        yield from self._of_views()
        yield from self._of_shards()
        yield from self._of_checks()

    def _on_gc(self, phase: str, info: dict[str, Any]) -> None:
        # One instant is enough: a collection does not begin within another one.
        if phase == "start":
            self._pause_began = time.perf_counter()
        else:
            self._pauses[info["generation"]].observe(time.perf_counter() - self._pause_began)

    def _of_requests(self) -> Iterator[Metric]:
        of = ["route", "method"]
        counts = CounterMetricFamily("muster_http_requests", "Requests answered", labels=[*of, "status"])
        times = HistogramMetricFamily("muster_http_request_seconds", "Time to answer", labels=of)
        for labels, requests in self.requests.items():
            requests.add_to(counts, times, labels)
        yield from (counts, times)

    def _of_connections(self) -> Iterator[Metric]:
        if self.keeper is not None:
            yield GaugeMetricFamily("muster_http_connections", "Connections open", value=len(self.keeper))
            refused = CounterMetricFamily("muster_http_refused", "What clients did over a limit", labels=["limit"])
            for limit, count in self.keeper.refused.items():
                refused.add_metric([limit], count)
            yield refused

    def _of_watchers(self) -> Iterator[Metric]:
        audience = self._audience
        yield GaugeMetricFamily("muster_watchers", "Watch streams open", value=len(audience))
        yield CounterMetricFamily("muster_watch_joined", "Watch streams begun", value=audience.joined_total)
        yield CounterMetricFamily("muster_watch_frames", "Delta frames encoded", value=audience.frames_total)
        yield CounterMetricFamily("muster_watch_cut", "Watchers cut off for reading slowly", value=audience.cut_total)

    def _of_checks(self) -> Iterator[Metric]:
        checks = self._gateway.status().get("checks")
        if not isinstance(checks, dict):
            return
        for name, help_ in CHECK_GAUGES.items():
            yield GaugeMetricFamily(f"muster_checks_{name}", help_, value=checks[name])
        yield CounterMetricFamily("muster_check_runs", "Runs of checks that have ended", value=checks["done"])
        yield CounterMetricFamily("muster_check_runs_unjudged", "Runs that said nothing", value=checks["unjudged"])

    def _of_shards(self) -> Iterator[Metric]:
        views = self._gateway.views.shards
        statuses = Tally(shard.status for space in views.keyspaces.values() for shard in space.shards.values())
        # Shards that were never assigned have no entry among `shards`; they are inactive too.
        statuses["inactive"] += sum(space.count - len(space.shards) for space in views.keyspaces.values())
        unserved = sum((unavailable(space, views.cluster) for space in views.keyspaces.values()), Tally[Status]())
        # Each shard counts once: an active one that nobody serves is no active one to whom an alert wakes.
        statuses -= unserved
        shards = GaugeMetricFamily("muster_shards", "Shards of all keyspaces", labels=["status"])
        # All statuses, also those that no shard has now: a series that vanishes would look like a lack of data.
        for status in ("active", "migrating", "inactive"):
            shards.add_metric([status], statuses[status])
        shards.add_metric(["unavailable"], unserved.total())
        standings = Tally("paused" if row.paused else row.standing for row in views.migrations.values())
        migrations = GaugeMetricFamily("muster_migrations", "Migrations that are remembered", labels=["standing"])
        for standing in ("running", "retrying", "paused", "blocked", "ended"):
            migrations.add_metric([standing], standings[standing])
        lives = Tally(node.alive for node in views.cluster.nodes.values())
        nodes = GaugeMetricFamily("muster_nodes", "Data nodes of the cluster", labels=["alive"])
        for alive in (True, False):
            nodes.add_metric([str(alive).lower()], lives[alive])
        yield from (shards, migrations, nodes)

    def _of_views(self) -> Iterator[Metric]:
        views = self._gateway.views
        position = GaugeMetricFamily("muster_view_position", "Last position folded", labels=["partition"])
        age = GaugeMetricFamily("muster_view_age_seconds", "Time since known to be current", labels=["partition"])
        term = GaugeMetricFamily("muster_term", "Term that the views are in", labels=["partition"])
        voids = CounterMetricFamily("muster_void_records", "Void records passed", labels=["partition"])
        for partition, cursor in views.cursors.items():
            labels = [str(partition)]
            position.add_metric(labels, cursor.position)
            age.add_metric(labels, views.age_seconds(partition))
            term.add_metric(labels, cursor.term)
            voids.add_metric(labels, views.voids[partition])
        yield from (position, age, term, voids, *self._of_partitions())
        yield GaugeMetricFamily("muster_parked_rows", "Rows that stand still", value=len(views.parked))
        yield GaugeMetricFamily("muster_services", "Services with instances", value=len(views.services))
        instances = sum(map(len, views.instances.values()))
        yield GaugeMetricFamily("muster_instances", "Instances registered", value=instances)
        suspects = sum(map(len, views.registry.suspects.values()))
        yield GaugeMetricFamily("muster_suspects", "Instances served though checks fail together", value=suspects)

    def _of_partitions(self) -> tuple[Metric, ...]:
        window = GaugeMetricFamily(
            "muster_ids_window_seconds", "Time that remembered command ids cover", labels=["partition"]
        )
        failing = GaugeMetricFamily("muster_storage_failing", "Writes are refused: no disk", labels=["partition"])
        ahead = GaugeMetricFamily("muster_log_ahead_seconds", "The newest instant is ahead", labels=["partition"])
        failures = CounterMetricFamily("muster_snapshot_failures", "Snapshots that failed", labels=["partition"])
        lost = CounterMetricFamily("muster_commands_lost", "Commands gone or refused unread", labels=["partition"])
        state = GaugeMetricFamily(
            "muster_partition_state", "1: the state of the partition", labels=["partition", "state"]
        )
        refused = GaugeMetricFamily("muster_writing_refused", "History would be lost", labels=["partition"])
        whole = self._gateway.status()
        for status in whole.get("partitions", ()):
            labels = [str(status.get("partition"))]
            state.add_metric([*labels, str(status.get("state"))], 1.0)
            if (seconds := status.get("command_ids_window_seconds")) is not None:
                window.add_metric(labels, seconds)
            failing.add_metric(labels, float(status.get("storage_failure") is not None))
            ahead.add_metric(labels, status.get("log_ahead_seconds", 0.0))
            failures.add_metric(labels, status.get("snapshot_failures", 0))
            lost.add_metric(labels, status.get("commands_lost", 0))
            refused.add_metric(labels, float(status.get("refused") is not None))
        strange = CounterMetricFamily(
            "muster_strange_signs", "Signs of life of another cluster key", value=whole.get("strange_signs", 0)
        )
        found = (
            window,
            failing,
            failures,
            lost,
            refused,
            ahead,
            state,
            _conditions(whole.get("conditions", ())),
            strange,
        )
        return *found, *_of_clock(whole.get("clock", {}))


def _of_clock(clock: Mapping[str, float]) -> tuple[Metric, Metric]:
    """How often the clock has jumped, and by how much events do not follow it yet."""
    jumps = CounterMetricFamily("muster_clock_jumps", "Jumps of the clock", value=clock.get("jumps", 0))
    held_back = clock.get("held_back_seconds", 0.0)
    return jumps, GaugeMetricFamily("muster_clock_held_back_seconds", "The clock beyond events", value=held_back)


def _conditions(now: Iterable[Mapping[str, object]]) -> Metric:
    """What is not as it should be, by kind; a kind of which there is nothing is 0, so that an alert can tell it from no data."""
    found = GaugeMetricFamily("muster_conditions", "What is not as it should be now", labels=["kind"])
    counts = Tally(each["kind"] for each in now)
    for kind in CONDITION_KINDS:
        found.add_metric([kind], counts[kind])
    return found


def _pauses(registry: CollectorRegistry) -> list[Histogram]:
    """The histogram of each generation. Made now: where a pause is observed, nothing may wait for the histogram's lock."""
    pauses = Histogram(
        "muster_gc_pause_seconds",
        "Pauses for garbage collection",
        ["generation"],
        buckets=PAUSE_SECONDS,
        registry=registry,
    )
    return [pauses.labels(str(generation)) for generation in range(3)]
