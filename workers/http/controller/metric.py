"""Prometheus metrics: requests by route, garbage collector pauses, watchers, and the state of the views.

What happens on every request is counted in plain lists and given to Prometheus when it asks.
"""

import gc
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from workers.gateway import Gateway
from workers.http.watch.subscribers import Audience

REQUEST_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
PAUSE_SECONDS: Final = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 1.0)

UNKNOWN: Final = "(unknown)"
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Times:
    """A histogram of seconds, cheap to observe."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """One more."""
        # From the left: a value at a bound counts below it, as Prometheus' `le` has it.
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative counts by upper bound, and the sum, as Prometheus wants them."""
        total, found = 0.0, []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            found.append((bound, total))
        return found, self._sum


class Requests:
    """One route and method: how long it took and how it ended."""

    __slots__ = ("statuses", "times")

    def __init__(self) -> None:
        self.times = Times(REQUEST_SECONDS)
        self.statuses: dict[int, int] = {}

    def observe(self, status: int, seconds: float) -> None:
        """One more."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.times.observe(seconds)


class Metrics(Collector):
    """All metrics of a controller's HTTP face. `start` begins to time the garbage collector, `stop` ends it."""

    def __init__(self, gateway: Gateway, audience: Audience) -> None:
        self.requests: dict[tuple[str, str], Requests] = {}
        self._gateway = gateway
        self._audience = audience
        self._pauses = [Times(PAUSE_SECONDS) for _ in range(3)]
        self._pause_began = 0.0
        # A registry of its own: the process-wide one has these collectors already, and would refuse them.
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

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
        yield from self._of_watchers()
        yield from self._of_views()
        yield from self._of_shards()
        pauses = HistogramMetricFamily(
            "muster_gc_pause_seconds", "Pauses for garbage collection", labels=["generation"]
        )
        for generation, times in enumerate(self._pauses):
            pauses.add_metric([str(generation)], *times.buckets())
        yield pauses

    def _on_gc(self, phase: str, info: dict[str, Any]) -> None:
        # One instant is enough: a collection does not begin within another one.
        if phase == "start":
            self._pause_began = time.perf_counter()
        else:
            self._pauses[info["generation"]].observe(time.perf_counter() - self._pause_began)

    def _of_requests(self) -> Iterator[Metric]:
        counts = CounterMetricFamily("muster_http_requests", "Requests answered", labels=["route", "method", "status"])
        seconds = HistogramMetricFamily("muster_http_request_seconds", "Time to answer", labels=["route", "method"])
        for (route, method), requests in self.requests.items():
            seconds.add_metric([route, method], *requests.times.buckets())
            for status, count in requests.statuses.items():
                counts.add_metric([route, method, str(status)], count)
        yield counts
        yield seconds

    def _of_watchers(self) -> Iterator[Metric]:
        audience = self._audience
        yield GaugeMetricFamily("muster_watchers", "Watch streams open", value=len(audience))
        yield CounterMetricFamily("muster_watch_joined", "Watch streams begun", value=audience.joined_total)
        yield CounterMetricFamily("muster_watch_frames", "Delta frames encoded", value=audience.frames_total)
        yield CounterMetricFamily("muster_watch_cut", "Watchers cut off for reading slowly", value=audience.cut_total)

    def _of_shards(self) -> Iterator[Metric]:
        views = self._gateway.views.shards
        statuses = Counter(shard.status for space in views.keyspaces.values() for shard in space.shards.values())
        # Shards that were never assigned have no entry among `shards`; they are inactive too.
        untouched = sum(space.count - len(space.shards) for space in views.keyspaces.values())
        shards = GaugeMetricFamily("muster_shards", "Shards of all keyspaces", labels=["status"])
        # All statuses, also those that no shard has now: a series that vanishes would look like a lack of data.
        for status in ("active", "migrating", "inactive"):
            shards.add_metric([status], statuses[status] + (untouched if status == "inactive" else 0))
        standings = Counter("paused" if row.paused else row.standing for row in views.migrations.values())
        migrations = GaugeMetricFamily("muster_migrations", "Migrations that are remembered", labels=["standing"])
        for standing in ("running", "retrying", "paused", "blocked", "ended"):
            migrations.add_metric([standing], standings[standing])
        lives = Counter(node.alive for node in views.cluster.nodes.values())
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

    def _of_partitions(self) -> tuple[Metric, ...]:
        window = GaugeMetricFamily(
            "muster_ids_window_seconds", "Time that remembered command ids cover", labels=["partition"]
        )
        failing = GaugeMetricFamily("muster_storage_failing", "Writes are refused: no disk", labels=["partition"])
        failures = CounterMetricFamily("muster_snapshot_failures", "Snapshots that failed", labels=["partition"])
        partitions = self._gateway.status().get("partitions", ())
        for status in partitions if isinstance(partitions, list) else ():
            labels = [str(status.get("partition"))]
            if (seconds := status.get("command_ids_window_seconds")) is not None:
                window.add_metric(labels, seconds)
            failing.add_metric(labels, float(status.get("storage_failure") is not None))
            failures.add_metric(labels, status.get("snapshot_failures", 0))
        return window, failing, failures
