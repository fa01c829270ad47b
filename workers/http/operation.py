"""What operators and orchestrators ask: status, liveness, readiness, metrics."""

from typing import Any

import orjson
from fastapi import APIRouter, Response

from workers.gateway import Control
from workers.http.exchange import JSON_OPTIONS, Reply
from workers.http.metric import Metrics
from workers.http.reading import Reader


def router(control: Control, reader: Reader, metrics: Metrics) -> APIRouter:
    """The routes of operations."""
    api = APIRouter(tags=["operation"])

    @api.get("/v1/status", response_model=dict[str, Any])
    async def status() -> Response:
        """Role, log, and by partition: term, positions, lags, and how far back command ids are remembered."""
        return Reply(orjson.dumps(control.status(), option=JSON_OPTIONS)).response()

    @api.get("/healthz", response_model=dict[str, str])
    async def healthz() -> Response:
        """The process answers."""
        return Reply(b'{"status":"alive"}').response()

    @api.get("/readyz", response_model=dict[str, str])
    async def readyz() -> Response:
        """The controller answers reads: its first recovery is complete. 503 says why not."""
        reader.ready()
        return Reply(b'{"status":"ready"}').response()

    @api.get("/metrics", response_class=Response)
    async def prometheus() -> Response:
        """Prometheus' text exposition."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return api
