"""The watch of instances: a change is encoded once, and sent to all who watch it.

    views ──on_batch──▶ ring of recent changes ──▶ who resumes
               └──────▶ one encoded frame per watched service ──▶ its audience

Frames are those of `workers.http.watch.frames`.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import orjson

from domain.registry.instance import Instance, InstanceDeregistered
from infra.log.port import Cursor
from muster.wire.registry.traffic import Traffic
from muster.wire.stream import name_of, service_stream
from muster.wire.token import Positions
from muster.wire.value import value
from projections.layout import Layout
from projections.registry.instances import item
from projections.registry.traffic import TRAFFIC
from workers.http.exchange import JSON_OPTIONS, Request, reading_from
from workers.http.reading import Reader
from workers.http.registry.encoded import Encoded, encode
from workers.http.routing import Route
from workers.http.watch.frames import NOTHING_MISSED, OTHER_LOG, Reason, Resumed, changes, reason_of, snapshot, traffic
from workers.http.watch.stream import settled, stream
from workers.http.watch.subscribers import Audience, Subscriber, Topic
from workers.machine.group import Folded
from workers.views.registry import Change
from workers.views.views import Views
from workers.writer.published import check_name

ring_changes_max: Final = 16_384
resume_changes_max: Final = 4_096
KIND: Final = "instances"
EVERYTHING: Final[Topic] = (KIND, None)
_TRAFFIC: Final[Layout[Traffic]] = Layout(TRAFFIC)


@value
class Trace:
    """A change as the ring keeps it: where it stands, and the instance before and after. `cause` is that of a removal."""

    partition: int
    position: int
    before: Instance | None
    after: Instance | None
    cause: str | None

    @property
    def service(self) -> str:
        """The service that changed."""
        instance = self.after or self.before
        assert instance is not None, "a change of nothing"
        return instance.service


class Hub:
    """What happens to instances, for those who watch them, and the ring of the newest changes.

    The views call `on_batch` from the first batch that they replay; tell `restored` before that if they were filled from
    snapshots: then watchers resume over a restart.
    """

    def __init__(
        self,
        views: Views,
        encoded: Encoded,
        audience: Audience,
        *,
        changes_max: int = ring_changes_max,
    ) -> None:
        self._views = views
        self._encoded = encoded
        self._audience = audience
        self._changes_max = changes_max
        self._ring: deque[Trace] = deque()
        # All that came after a partition's floor is in the ring; of a partition without a floor nothing was read yet.
        self._floors: Positions = views.positions()

    def restored(self) -> None:
        """The views hold what snapshots gave them, at their cursors; from here on the ring misses nothing."""
        self._floors = self._views.positions() | self._floors

    def on_batch(self, partition: int, cursor: Cursor, changed: Sequence[Change]) -> None:
        """Remember the changes and tell those who watch."""
        if partition not in self._floors:
            # Had a snapshot filled the views without a word, what came before this batch is not in the ring.
            self._floors[partition] = changed[0].recorded.position - 1 if changed else cursor.position
        if changed:
            # Also when nobody watches: a watcher that resumes later needs them.
            # An event that takes a mark off the name of an instance that is gone changes no instance.
            traces = [_trace(partition, change) for change in changed if change.before or change.after]
            self._remember(traces)
            if len(self._audience):
                self._tell(traces)

    def on_events(self, folded: Sequence[Folded]) -> None:
        """Tell those who watch a service whose traffic is set. To be called by the views, behind `on_batch`."""
        set_for = {name_of(one.stream) for one, _ in folded if type(one.event) in TRAFFIC.events}
        token = self._views.token() if set_for else ""
        for service in set_for:
            if (KIND, service) in self._audience:
                for frame in self._traffic(service, token):
                    self._audience.tell((KIND, service), frame, token)

    def _traffic(self, service: str | None, token: str) -> Iterator[bytes]:
        """The frame that tells what is set for the clients of the service; none, if nothing ever was."""
        key = (service or "",)
        row = self._views.rows(TRAFFIC).get(key)
        if row is not None:
            yield traffic(token, orjson.dumps(_TRAFFIC.shown(key, row), option=JSON_OPTIONS))

    def _remember(self, traces: Sequence[Trace]) -> None:
        ring = self._ring
        ring.extend(traces)
        while len(ring) > self._changes_max:
            oldest = ring.popleft()
            self._floors[oldest.partition] = oldest.position

    def _tell(self, traces: Sequence[Trace]) -> None:
        everyone = EVERYTHING in self._audience
        encoded: dict[str, list[bytes]] = {}
        for trace in traces:
            if everyone or (KIND, trace.service) in self._audience:
                encoded.setdefault(trace.service, []).append(change_of(trace))
        if not encoded:
            return
        # All who watch get the same bytes, so the id is of all partitions, even where a frame is of one service.
        token = self._views.token()
        for service, some in encoded.items():
            if (KIND, service) in self._audience:
                self._audience.tell((KIND, service), changes(token, some), token)
        if everyone:
            every = [change for each in encoded.values() for change in each]
            self._audience.tell(EVERYTHING, changes(token, every), token)

    def join(self, service: str | None, after: Resumed) -> tuple[Subscriber, Iterator[bytes]]:
        """A watcher of the service (None: of all) and its first frames, without a gap to the frames that follow.

        `after`: where it resumes. Raises NotReady when there are too many watchers, or no more wanted.
        """
        token = self._views.token()
        # Admitted first, and no await up to the snapshot's rows: no batch comes between them and the frames that follow.
        subscriber = self._audience.admit((KIND, service), token)
        missed = None if after is None or after == OTHER_LOG else self._since(after, service)
        if missed is not None:
            first = iter([changes(token, list(map(change_of, missed)))] if missed else [NOTHING_MISSED])
        else:
            first = self._snapshot(service, token, reason_of(after))
        # Also to who resumes: the ring does not keep what was set meanwhile, and to hear it twice does no harm.
        return subscriber, chain(first, list(self._traffic(service, token)))

    def _since(self, after: Positions, service: str | None) -> list[Trace] | None:
        """What has changed after these positions; None when the ring does not cover it, or the views are not that far."""
        now = self._views.positions()
        if any(position > now.get(partition, -1) for partition, position in after.items()):
            return None
        # Of a partition without a floor the ring has nothing, so only its present position will do.
        if any(after.get(partition, -1) < self._floors.get(partition, now[partition]) for partition in now):
            return None
        missed = [
            trace
            for trace in self._ring
            if trace.position > after.get(trace.partition, -1) and service in (None, trace.service)
        ]
        return missed if len(missed) <= resume_changes_max else None

    def _snapshot(self, service: str | None, token: str, reset: Reason | None) -> Iterator[bytes]:
        """The frames of the current state, in pieces: the rows are those of now, however slowly they are taken."""
        instances = self._views.instances
        concerned = instances.values() if service is None else [instances.get(service, {})]
        # Encoded only when their turn comes: a thousand watchers of one service share what the first of them had encoded.
        items = map(self._encoded.one, [one for some in concerned for one in some.values()])
        return snapshot(b'"service":%b,' % orjson.dumps(service), token, items, reset)


def change_of(trace: Trace) -> bytes:
    """The change as watchers see it: `put` the whole item, `patch` what changed of it, or `remove` it."""
    before, after = trace.before, trace.after
    if after is None:
        assert before is not None, "a change of nothing"
        change: dict[str, Any] = {
            "op": "remove",
            "service": before.service,
            "instance": before.id,
            "position": trace.position,
            "cause": trace.cause,
        }
    elif before is None:
        return b'{"op":"put","item":%b}' % encode(after)
    else:
        was, now = item(before), item(after)
        change = {
            "op": "patch",
            "service": after.service,
            "instance": after.id,
            "version": after.version,
            "position": after.position,
            "set": {
                name: value for name, value in now.items() if value != was[name] and name not in ("version", "position")
            },
        }
    return orjson.dumps(change, option=JSON_OPTIONS)


def _trace(partition: int, change: Change) -> Trace:
    event = change.recorded.event
    # Asked only of what is gone: an isinstance that fails costs 0.4 µs.
    cause = event.cause if change.after is None and isinstance(event, InstanceDeregistered) else None
    return Trace(partition, change.recorded.position, change.before, change.after, cause)


@dataclass(frozen=True, slots=True)
class Watching:
    """The route of the instances' watch. It answers by itself: a stream has no reply."""

    reader: Reader
    audience: Audience
    hub: Hub

    async def watch(self, request: Request) -> None:
        """Stream the service's instances (all services' without `service`), from `Last-Event-ID` or `after` on."""
        query = request.query()
        service, after = query.pop("service", None), query.pop("after", None)
        reading = reading_from(query)
        if service is not None:
            check_name("service", service)
        gateway = self.reader.gateway
        every = tuple(range(gateway.partitions))
        concerned = every if service is None else (gateway.partition_of(service_stream(service)),)
        seen = await settled(self.reader, request, reading, after, concerned)
        subscriber, frames = self.hub.join(service, seen)
        await stream(request, self.audience, subscriber, frames)


def routes(watching: Watching) -> tuple[Route, ...]:
    """The watch of instances, which hears from now on also of traffic that is set."""
    watching.reader.gateway.views.follow(watching.hub.on_events)
    summary = "Follow instances: current state, then changes (server-sent events)"
    return (Route("GET", "/v1/watch", watching.watch, summary, "reading"),)
