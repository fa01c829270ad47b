"""What operators and orchestrators ask: status, liveness, readiness, metrics, and the API's own document."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

import orjson
from pydantic import BaseModel, ConfigDict

from muster.wire.controllers import LiveControllers
from workers.gateway import Gateway
from workers.http.controller.metric import Metrics
from workers.http.controller.model import ControllerList
from workers.http.exchange import JSON_OPTIONS, Reply, Request
from workers.http.reading import Reader
from workers.http.routing import Route


class ControllersQuery(BaseModel):
    """It takes nothing: the answer is in no log, and is what this controller knows now."""

    model_config = ConfigDict(extra="forbid")


_TEXT: Final = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")


def routes(
    gateway: Gateway, reader: Reader, metrics: Metrics, document: Callable[[], dict[str, Any]]
) -> tuple[Route, ...]:
    """The routes of operations; `document` gives the OpenAPI document."""

    async def status(_: Request) -> Reply:
        return Reply(orjson.dumps(gateway.status(), option=JSON_OPTIONS))

    async def controllers(request: Request) -> Reply:
        request.asked(ControllersQuery)
        # Not before it can be asked for anything else: clients come here to learn whom to ask.
        reader.ready()
        named = LiveControllers(cluster=gateway.cluster, items=gateway.controllers())
        return Reply(orjson.dumps(asdict(named)))

    async def alive(_: Request) -> Reply:
        return Reply(b'{"status":"alive"}')

    async def ready(_: Request) -> Reply:
        # Raises NotReady, which is answered with 503 and the reason.
        reader.writes()
        return Reply(b'{"status":"ready"}')

    async def exposition(_: Request) -> Reply:
        return Reply(metrics.text(), media=_TEXT)

    async def openapi(_: Request) -> Reply:
        return Reply(orjson.dumps(document()))

    return (
        Route(
            "GET",
            "/v1/status",
            status,
            summary="Status",
            description="Role, log, and by partition: term, positions, lags, and how far back command ids are remembered.",
            tag="operation",
            answer=dict[str, Any],
        ),
        Route(
            "GET",
            "/v1/controllers",
            controllers,
            "List the live controllers",
            "operation",
            answer=ControllerList,
            query=ControllersQuery,
        ),
        Route(
            "GET",
            "/healthz",
            alive,
            summary="Healthz",
            description="The process answers.",
            tag="operation",
            answer=dict[str, str],
        ),
        Route(
            "GET",
            "/readyz",
            ready,
            summary="Readyz",
            description="The controller answers reads: its first recovery is complete. 503 says why not. "
            "And it takes writes: each partition has a live writer, here or at a peer.",
            tag="operation",
            answer=dict[str, str],
        ),
        Route(
            "GET",
            "/metrics",
            exposition,
            summary="Prometheus",
            description="Prometheus' text exposition.",
            tag="operation",
        ),
        Route("HEAD", "/metrics", exposition, documented=False),
        Route("GET", "/openapi.json", openapi, documented=False),
        Route("HEAD", "/openapi.json", openapi, documented=False),
    )
