"""`GET /v1/loads`: what the instances of services, data nodes and shards have to do, as far as this controller has heard."""

from typing import Annotated

import orjson
from pydantic import BaseModel, ConfigDict, Field

from muster.wire.stream import Name
from muster.wire.telemetry.loads import ServiceLoad
from workers.gateway import Gateway
from workers.http.exchange import JSON_OPTIONS, Reply, Request
from workers.http.model import LoadList
from workers.http.routing import Route


class LoadsQuery(BaseModel):
    """Whose loads are asked for."""

    model_config = ConfigDict(extra="forbid")
    service: Annotated[
        Name | None, Field(description="Only that of this service, and what clients saw of its instances")
    ] = None
    keyspace: Annotated[Name | None, Field(description="Of this keyspace's shards, and not of services")] = None
    node: Annotated[Name | None, Field(description="Of this data node's shards, and not of services")] = None


def routes(gateway: Gateway) -> tuple[Route, ...]:
    """The one route."""

    async def loads(request: Request) -> Reply:
        """The loads that are told now; a service, a node or a shard of which nothing is heard has none."""
        asked = request.asked(LoadsQuery)
        of_shards = asked.keyspace is not None or asked.node is not None
        found: list[ServiceLoad | None] = []
        if asked.service is not None:
            found = [gateway.loads.service(asked.service)]
        elif not of_shards:
            found = [*gateway.loads.services()]
        told = gateway.loads.shards.loads(asked.keyspace, asked.node) if of_shards or asked.service is None else None
        of_instances = () if asked.service is None else gateway.loads.instances(asked.service)
        answer = {
            "items": [load for load in found if load is not None],
            "nodes": told.nodes if told is not None else (),
            # There may be hundreds of thousands: nobody gets them who has not asked for some.
            "shards": told.shards if told is not None and of_shards else (),
            "instances": of_instances,
        }
        return Reply(orjson.dumps(answer, option=JSON_OPTIONS))

    return (
        Route(
            "GET",
            "/v1/loads",
            loads,
            "What services, data nodes and shards have to do now",
            "registry",
            answer=LoadList,
            query=LoadsQuery,
        ),
    )
