"""The ASGI application of a controller: joins the faces' routes to one table, and answers requests by it."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from infra.log.codec import CloudEventMapper
from muster.wire.error import MusterError, Refused
from projections.catalogue import PROJECTIONS
from projections.projection import AnyProjection
from workers.gateway import Gateway
from workers.http import commands, listing
from workers.http.asgi import Receive, Scope, Send
from workers.http.audit import events
from workers.http.controller import operation
from workers.http.controller.metric import Metrics, Requests
from workers.http.doors import Doors
from workers.http.exchange import Headers, Reply, Request, problem, problem_of
from workers.http.groups import groups
from workers.http.openapi.document import document
from workers.http.reading import Reader, Unready, always_ready
from workers.http.registry import heartbeats, loads, observations, reads, traffic, writes
from workers.http.registry import watch as instance_watch
from workers.http.registry.encoded import Encoded
from workers.http.registry.watch import Hub
from workers.http.routing import Handler, Route, Table
from workers.http.sagas import sagas
from workers.http.shards import keyspaces, migrations, nodes, tasks
from workers.http.shards import loads as shard_loads
from workers.http.shards import watch as shard_watch
from workers.http.shards.watch import ShardHub
from workers.http.watch.subscribers import Audience
from workers.views.views import Views

LOG: Final = logging.getLogger("muster.http")
OPEN: Final = Doors()


def application(
    gateway: Gateway,
    *,
    unready: Unready = always_ready,
    unwritten: Unready = always_ready,
    mapper: CloudEventMapper | None = None,
    stale_after_seconds: float = 30.0,
    more: Sequence[Route] = (),
    doors: Doors = OPEN,
    projections: Sequence[AnyProjection] = PROJECTIONS,
) -> "Application":
    """The HTTP face of the controller. Make it before the log is replayed, so that watchers can resume over a restart.

    `unready` says why reads cannot be answered yet (None: they can), `unwritten` why writes are not taken; `mapper`
    opens events that are compressed or enciphered; views older than `stale_after_seconds` are called stale in their
    answers; `more` are routes beside the API's; `projections` are the read models that the views keep; `doors` says
    what may not come in.
    """
    views = gateway.views
    encoded, audience = Encoded(views), Audience(views)
    hub, shard_hub = Hub(views, encoded, audience), ShardHub(views, audience)
    # The cache comes first: a watcher's frame must not be made from bytes that the batch has made untrue.
    views.listen(encoded.on_batch)
    views.listen(hub.on_batch)
    views.shards.listen(shard_hub.on_batch)
    metrics = Metrics(gateway, audience)
    reader = Reader(gateway, unready, stale_after_seconds, unwritten)
    routes: tuple[Route, ...] = (
        *events.routes(events.Past(reader, mapper or CloudEventMapper())),
        # The document is made when it is asked for: here the table of routes is not complete yet.
        *operation.routes(gateway, reader, metrics, lambda: document(routes)),
        *reads.routes(reads.Present(reader, encoded)),
        *listing.routes(reader, audience, projections),
        *instance_watch.routes(instance_watch.Watching(reader, audience, hub)),
        *shard_watch.routes(reader, audience, shard_hub),
        *tasks.routes(gateway, reader, shard_hub.progressed),
        *_plain_routes(gateway, reader),
        *more,
    )
    return Application(routes, metrics, (hub, shard_hub, audience), doors, reader.staleness)


def _plain_routes(gateway: Gateway, reader: Reader) -> tuple[Route, ...]:
    """The routes that need nothing but the gateway and the reader."""
    return (
        *writes.routes(gateway),
        *traffic.routes(gateway),
        *heartbeats.routes(gateway),
        *loads.routes(gateway),
        *observations.routes(gateway),
        *commands.routes(gateway),
        *keyspaces.routes(gateway, reader),
        *nodes.routes(gateway, reader),
        *shard_loads.routes(gateway),
        *migrations.routes(gateway, reader),
        *sagas.routes(gateway, reader),
        *groups.routes(gateway),
    )


class Application:
    """ASGI. Call `drain` before the server stops: it ends the watch streams, which would not end by themselves."""

    def __init__(
        self,
        routes: Sequence[Route],
        metrics: Metrics,
        watches: tuple[Hub, ShardHub, Audience],
        doors: Doors,
        staleness: Callable[[], Headers],
    ) -> None:
        self.routes = routes
        self._staleness = staleness
        self._doors = doors
        self.metrics = metrics
        self._watches = watches
        self._table: Table[tuple[Handler, Requests]] = Table(_rows(routes, metrics))

    def restored(self) -> None:
        """Say that the views were filled from snapshots, before the log is replayed onto them."""
        self._watches[0].restored()

    def drain(self) -> None:
        """End all watch streams, with what is queued for them; take no new ones."""
        _, shard_hub, audience = self._watches
        # Its timer first: what it sends later would only lengthen streams that are to end.
        shard_hub.close()
        audience.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (or live with the server)."""
        if scope["type"] != "http":
            return await self._lifespan(receive, send)
        refused = self._doors.refusal(scope["method"], scope["headers"], scope.get("http_version"))
        if refused is not None:
            # Judged before the path, so it is counted under no route, and no handler sees a request that may not come in.
            self.metrics.of_no_route(scope["method"]).observe(refused.status, 0.0)
            return await refused.send(send)
        found = self._table.find(_path_of(scope))
        if found is None:
            return await self._unknown(scope, send)
        place, parts = found
        known = place.methods.get(scope["method"])
        if known is None:
            return await _not_allowed(scope["method"], sorted(place.methods)).send(send)
        handler, counts = known
        # The time includes waiting for the body and for the views: it is what the client waited.
        began = time.perf_counter()
        try:
            reply = await handler(Request(scope, receive, send, parts, place.names))
        except MusterError as error:
            reply = problem_of(error)
            # "There is no such service" is an answer, too: from a view that stands still it may be wrong.
            if scope["method"] in ("GET", "HEAD") and isinstance(error, Refused):
                reply.headers += self._staleness()
        except Exception as error:  # noqa: BLE001 the rim: one request's fault is logged and answered, the others go on
            reply = _unexpected(error)
        # A stream has answered by itself, and is not counted: it lasts as long as its client stays.
        if reply is not None:
            await reply.send(send)
            counts.observe(reply.status, time.perf_counter() - began)
        return None

    async def _unknown(self, scope: Scope, send: Send) -> None:
        path = _path_of(scope)
        shorter = path.rstrip("/")
        if shorter != path and self._table.find(shorter) is not None:
            # 307 keeps method and body, so that a write with a slash too many is repeated as it was.
            query = b"?" + scope["query_string"] if scope["query_string"] else b""
            reply = Reply(b"", 307, [(b"location", shorter.encode() + query)])
        else:
            reply = problem({"name": "RouteNotFound", "status": 404, "detail": f"there is nothing at {path}"})
        await reply.send(send)
        self.metrics.of_no_route(scope["method"]).observe(reply.status, 0.0)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Time the garbage collector for as long as the server runs."""
        try:
            while (message := await receive())["type"] != "lifespan.shutdown":
                if message["type"] == "lifespan.startup":
                    self.metrics.start()
                    await send({"type": "lifespan.startup.complete"})
        finally:
            self.metrics.stop()
        await send({"type": "lifespan.shutdown.complete"})


def _rows(routes: Sequence[Route], metrics: Metrics) -> Iterator[tuple[str, str, tuple[Handler, Requests]]]:
    for route in routes:
        found = route.handler, metrics.of(route.path, route.method)
        yield route.method, route.path, found
        # Whoever wants only the head is answered as by GET; the server leaves out the body. A stream has no end to wait for.
        if route.method == "GET" and route.answer is not None:
            yield "HEAD", route.path, found


def _path_of(scope: Scope) -> str:
    """The path as it was sent. Servers need not give it, and test suites do not."""
    raw: bytes | None = scope.get("raw_path")
    return scope["path"] if raw is None else raw.decode("latin-1")


def _not_allowed(method: str, allowed: list[str]) -> Reply:
    detail = f"{method} is not for this path; {', '.join(allowed)} would be"
    reply = problem({"name": "MethodNotAllowed", "status": 405, "detail": detail})
    return Reply(reply.body, 405, [*reply.headers, (b"allow", ", ".join(allowed).encode())], reply.media)


def _unexpected(error: Exception) -> Reply:
    LOG.error("a request failed", exc_info=error)
    detail = "the controller failed at this request; its log says why"
    return problem({"name": "InternalError", "status": 500, "detail": detail})


def openapi_document() -> dict[str, Any]:
    """The OpenAPI document, without a running controller."""
    gateway = Gateway("", "", 1, Views([0]), {}, {}, status=dict, check_output=lambda stream, instance: {})
    return document(application(gateway).routes)
