"""The ASGI application of a controller: hot routes matched here and answered on plain ASGI, the others by FastAPI."""

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import FastAPI
from fastapi import Request as FullRequest
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from infra.log.codec import CloudEventMapper
from muster.wire.error import InvalidCommand, MusterError
from workers.gateway import Control
from workers.http import operation
from workers.http.audit import events as past
from workers.http.exchange import Reply, Request, problem, problem_of
from workers.http.metric import Metrics, Requests
from workers.http.openapi import with_hot_routes
from workers.http.reading import Reader, Unready
from workers.http.registry import reads as query
from workers.http.registry import writes as registry
from workers.http.registry.encoded import Encoded
from workers.http.registry.watch import Hub
from workers.http.routing import Handler, Routes
from workers.http.shards import keyspaces, migrations, nodes, tasks
from workers.http.shards import watch as shard_watch
from workers.http.shards.watch import ShardHub
from workers.http.watch.stream import Watching
from workers.http.watch.subscribers import Audience
from workers.views.views import Views

LOG: Final = logging.getLogger("muster.http")
_VERBS: Final = frozenset(("health", "heartbeat", "maintenance", "drain"))
_INSTANCE: Final = "/v1/services/{service}/instances/{instance}"


def always_ready() -> None:
    """For tests and for controllers that recover before they listen."""


def application(
    control: Control,
    *,
    unready: Unready = always_ready,
    mapper: CloudEventMapper | None = None,
    stale_after_seconds: float = 30.0,
) -> "Application":
    """The HTTP face of the controller. Make it before the log is replayed, so that watchers can resume over a restart.

    `unready` says why reads cannot be answered yet (None: they can); `mapper` opens events that are compressed or
    enciphered; views older than `stale_after_seconds` are called stale in their answers.
    """
    views = control.views
    encoded, audience = Encoded(views), Audience(views)
    hub, shard_hub = Hub(views, encoded, audience), ShardHub(views, audience)
    # First the cache forgets, then watchers are told.
    views.listen(encoded.on_batch)
    views.listen(hub.on_batch)
    views.shards.listen(shard_hub.on_batch)
    metrics = Metrics(control, audience)
    reader = Reader(control, unready, stale_after_seconds)
    present = query.Present(reader, encoded)
    hot: dict[tuple[str, str], Handler] = {
        **registry.routes(control),
        ("instance", "GET"): present.instance,
        ("discover", "GET"): present.discover,
        ("watch", "GET"): Watching(reader, audience, hub).watch,
    }
    handlers = {
        **query.routes(present),
        **keyspaces.routes(control, reader),
        **nodes.routes(control, reader),
        **migrations.routes(control, reader),
        **tasks.routes(control, reader, shard_hub.progressed),
        **shard_watch.routes(reader, audience, shard_hub),
    }
    api = _api(metrics)
    api.include_router(past.router(past.Past(reader, mapper or CloudEventMapper())))
    api.include_router(operation.router(control, reader, metrics))
    return Application(hot, Routes(handlers, metrics), api, metrics, (hub, shard_hub, audience))


class Application:
    """ASGI. Call `drain` before the server stops: it ends the watch streams, which would not end by themselves."""

    def __init__(
        self,
        hot: dict[tuple[str, str], Handler],
        routes: Routes,
        api: FastAPI,
        metrics: Metrics,
        watches: tuple[Hub, ShardHub, Audience],
    ) -> None:
        self.metrics = metrics
        self.api = api
        self._routes = routes
        self._watches = watches
        self._methods: dict[str, dict[str, tuple[Handler, Requests]]] = {}
        for (resource, method), handler in hot.items():
            counts = metrics.of(_template(resource), method)
            self._methods.setdefault(resource, {})[method] = (handler, counts)

    def restored(self) -> None:
        """Say that the views were filled from snapshots, before the log is replayed onto them."""
        self._watches[0].restored()

    def drain(self) -> None:
        """End all watch streams, with what is queued for them; take no new ones."""
        _, shard_hub, audience = self._watches
        shard_hub.close()
        audience.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (or the server's lifespan)."""
        if scope["type"] != "http":
            return await self.api(scope, receive, send)
        found = _hot(scope["path"])
        if found is not None:
            resource, service, instance = found
            methods, request = self._methods[resource], Request(scope, receive, send, service, instance)
        else:
            routed = self._routes.find(scope["path"])
            if routed is None:
                return await self._cold(scope, receive, send)
            methods, request = routed[0].methods, Request(scope, receive, send)
            request.names = routed[1]
        known = methods.get(scope["method"])
        if known is None:
            return await _not_allowed(scope["method"], sorted(methods)).send(send)
        handler, counts = known
        began = time.perf_counter()
        try:
            reply = await handler(request)
        except MusterError as error:
            reply = problem_of(error)
        except Exception as error:  # noqa: BLE001 the rim: one request's fault is logged and told, the others go on
            reply = _unexpected(error)
        if reply is not None:
            await reply.send(send)
            counts.observe(reply.status, time.perf_counter() - began)
        return None

    async def _cold(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, began = 500, time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        # Starlette raises an unexpected error again once its handler, `_unexpected`, has logged and told it.
        with contextlib.suppress(Exception):
            await self.api(scope, receive, noting)
        route = getattr(scope.get("route"), "path", "(unknown)")
        self.metrics.of(route, scope["method"]).observe(status, time.perf_counter() - began)
        return


def _hot(path: str) -> tuple[str, str, str] | None:
    """The resource, service and instance of a hot path."""
    parts = path.split("/")
    match len(parts):
        case 6 if parts[2] == "services" and parts[4] == "instances" and parts[1] == "v1":
            return "instance", parts[3], parts[5]
        case 7 if parts[2] == "services" and parts[4] == "instances" and parts[1] == "v1" and parts[6] in _VERBS:
            return parts[6], parts[3], parts[5]
        case 4 if parts[2] == "discover" and parts[1] == "v1":
            return "discover", parts[3], ""
        case 3 if parts[1] == "v1" and parts[2] in ("commands", "watch"):
            return parts[2], "", ""
        case _:
            return None


def _template(resource: str) -> str:
    match resource:
        case "instance":
            return _INSTANCE
        case "discover":
            return "/v1/discover/{service}"
        case "commands" | "watch":
            return f"/v1/{resource}"
        case _:
            return f"{_INSTANCE}/{resource}"


def _api(metrics: Metrics) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        metrics.start()
        try:
            yield
        finally:
            metrics.stop()

    api = FastAPI(title="muster", version="1", docs_url=None, redoc_url=None, lifespan=lifespan)
    handlers: dict[Any, Callable[[FullRequest, Any], Reply]] = {
        MusterError: lambda _, error: problem_of(error),
        RequestValidationError: lambda _, error: problem_of(_invalid(error)),
        HTTPException: lambda request, error: _from_http(request, error),
        Exception: lambda _, error: _unexpected(error),
    }
    for kind, handler in handlers.items():
        api.add_exception_handler(kind, _answering(handler))
    document = api.openapi
    api.openapi = lambda: api.openapi_schema if api.openapi_schema else with_hot_routes(document())  # type: ignore[method-assign]
    return api


def _answering(
    handler: Callable[[FullRequest, Any], Reply],
) -> Callable[[FullRequest, Exception], Awaitable[Response]]:
    async def answer(request: FullRequest, error: Exception) -> Response:  # Were it not async, a thread would be asked.
        return handler(request, error).response()

    return answer


def _invalid(error: RequestValidationError) -> InvalidCommand:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:]) or "query"
    return InvalidCommand(f"{name}: {first['msg']}", field=name)


def _from_http(request: FullRequest, error: HTTPException) -> Reply:
    if error.status_code == 404:
        return problem({"name": "RouteNotFound", "status": 404, "detail": f"there is nothing at {request.url.path}"})
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "GET").split(", ")
        return _not_allowed(request.method, allowed)
    return problem({"name": "HttpError", "status": error.status_code, "detail": str(error.detail)})


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
    control = Control("", "", 1, Views([0]), {}, {}, status=dict, check_output=lambda stream, instance: {})
    return application(control).api.openapi()
