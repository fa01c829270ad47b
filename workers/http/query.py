"""Reads of the present: discovery and one instance (hot), instances, services."""

from dataclasses import dataclass
from typing import Annotated

import orjson
from fastapi import APIRouter, Header, Query, Response

from domain.check import Health
from domain.error import NotReady
from domain.instance import Instance, Tag, Zone
from projections.instances import item
from projections.services import ServiceRow
from workers.http.encoded import Encoded, encode
from workers.http.exchange import Reading, Reply, Request
from workers.http.model import InstanceList, ServiceList
from workers.http.reading import Reader
from workers.wire import check_name


class InstancesQuery(Reading):
    """Which instances of a service are wanted, and how current they have to be."""

    health: Health | None = None
    tag: Tag | None = None
    zone: Zone | None = None


TokenHeader = Annotated[str | None, Header(alias="Muster-Token", description="What the answer must have seen.")]


@dataclass(frozen=True, slots=True)
class Present:
    """The reads of the local views."""

    reader: Reader
    encoded: Encoded

    async def discover(self, request: Request) -> Reply:
        """Who can take traffic."""
        partition = await self._settled(request)
        items = self.encoded.discoverable(request.service)
        return self.reader.listing(items, (partition,), self._parked(request.service))

    async def instance(self, request: Request) -> Reply:
        """One instance, with what its checks last put out."""
        check_name("instance", request.instance)
        partition = await self._settled(request)
        control, service, instance = self.reader.control, request.service, request.instance
        parked = control.views.parked.get(("instances", (service, instance)))
        if parked is not None:
            raise NotReady(
                f"{service}/{instance} is parked: the event at position {parked.position} could not be folded "
                f"({parked.reason}); rebuild the view with a version of muster that can",
                position=parked.position,
            )
        found = control.views.instance(service, instance)
        whole = {**item(found), "check_output": control.check_output(f"service/{service}", instance)}
        return self.reader.whole(whole, (partition,), [(b"etag", b'"%d"' % found.version)])

    async def instances(self, service: str, query: InstancesQuery, token: str | None) -> Reply:
        """The instances that match; an empty list is an answer too."""
        check_name("service", service)
        partition = self.reader.control.partition_of(f"service/{service}")
        await self.reader.settle(query, token, (partition,))
        instances = self.reader.control.views.instances.get(service, {})
        items = b",".join(encode(instance) for instance in instances.values() if _matches(instance, query))
        return self.reader.listing(b"[%b]" % items, (partition,), self._parked(service))

    async def services(self, reading: Reading, token: str | None) -> Reply:
        """All services with instances, by name."""
        views, partitions = self.reader.control.views, tuple(range(self.reader.control.partitions))
        await self.reader.settle(reading, token, partitions)
        rows = sorted(views.services.values(), key=lambda row: row.service)
        parked = [key[0] for name, key in views.parked if name == "services"]
        return self.reader.listing(orjson.dumps([_service(row) for row in rows]), partitions, parked)

    async def _settled(self, request: Request) -> int:
        check_name("service", request.service)
        partition = self.reader.control.partition_of(f"service/{request.service}")
        await self.reader.settle(request.reading(), request.header(b"muster-token"), (partition,))
        return partition

    def _parked(self, service: str) -> list[str]:
        parked = self.reader.control.views.parked
        return [key[1] for name, key in parked if name == "instances" and key[0] == service] if parked else []


def _matches(instance: Instance, query: InstancesQuery) -> bool:
    return (
        (query.health is None or instance.health == query.health)
        and (query.tag is None or query.tag in instance.spec.tags)
        and (query.zone is None or instance.spec.zone == query.zone)
    )


def _service(row: ServiceRow) -> dict[str, object]:
    return {
        "service": row.service,
        "instances": row.instances,
        "healthy": row.healthy,
        "unhealthy": row.unhealthy,
        "unknown": row.unknown,
        "position": row.position,
    }


def router(present: Present) -> APIRouter:
    """The reads that are not hot, as FastAPI routes."""
    api = APIRouter(tags=["reading"])

    @api.get("/v1/services", response_model=ServiceList)
    async def services(reading: Annotated[Reading, Query()], muster_token: TokenHeader = None) -> Response:
        """All services with instances, by name."""
        return (await present.services(reading, muster_token)).response()

    @api.get("/v1/services/{service}/instances", response_model=InstanceList)
    async def instances(
        service: str, query: Annotated[InstancesQuery, Query()], muster_token: TokenHeader = None
    ) -> Response:
        """The instances of a service that match; 200 and an empty list when there is none."""
        return (await present.instances(service, query, muster_token)).response()

    return api
