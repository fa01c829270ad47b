"""`GET /v1/loads`: what the instances of services have to do, as far as this controller has heard."""

from typing import Annotated

import orjson
from pydantic import BaseModel, ConfigDict, Field

from muster.wire.stream import Name
from workers.gateway import Gateway
from workers.http.exchange import JSON_OPTIONS, Reply, Request
from workers.http.model import ServiceLoadList
from workers.http.routing import Route


class LoadsQuery(BaseModel):
    """Whose loads are asked for."""

    model_config = ConfigDict(extra="forbid")
    service: Annotated[Name | None, Field(description="Only that of this service")] = None


def routes(gateway: Gateway) -> tuple[Route, ...]:
    """The one route."""

    async def loads(request: Request) -> Reply:
        """The loads that are told now; a service of which nothing is heard has none."""
        asked = request.asked(LoadsQuery)
        found = gateway.loads.services() if asked.service is None else [gateway.loads.service(asked.service)]
        items = [load for load in found if load is not None]
        return Reply(orjson.dumps({"items": items}, option=JSON_OPTIONS))

    return (
        Route(
            "GET",
            "/v1/loads",
            loads,
            "What services have to do now",
            "registry",
            answer=ServiceLoadList,
            query=LoadsQuery,
        ),
    )
