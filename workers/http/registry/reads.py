"""Reads of the present: discovery, one instance, instances, services."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from domain.registry.instance import Instance
from muster.wire.error import NotReady
from muster.wire.registry.check import Health
from muster.wire.registry.spec import Tag, Zone
from muster.wire.stream import service_stream
from projections.registry.instances import item
from workers.http.exchange import Items, Reading, Reply, Request
from workers.http.model import InstanceList, InstanceWhole
from workers.http.reading import Reader
from workers.http.registry.encoded import Encoded
from workers.http.routing import INSTANCE, Route


class InstancesQuery(Reading):
    """Which instances of a service are wanted, and how current they have to be."""

    health: Annotated[Health | None, Field(description="Only those of this health")] = None
    tag: Annotated[Tag | None, Field(description="Only those with this tag")] = None
    zone: Annotated[Zone | None, Field(description="Only those in this zone")] = None


@dataclass(frozen=True, slots=True)
class Present:
    """The reads of the local views."""

    reader: Reader
    encoded: Encoded

    async def discover(self, request: Request) -> Reply:
        """The instances that can take traffic."""
        service, partition = await self._settled(request)
        items = self.encoded.discoverable(service)
        return self.reader.listing(items, (partition,), self._parked(service))

    async def instance(self, request: Request) -> Reply:
        """One instance, with what its checks last put out."""
        instance = request.name("instance")
        service, partition = await self._settled(request)
        gateway = self.reader.gateway
        parked = gateway.views.parked.get(("instances", (service, instance)))
        # Alone, a row that stands still would pass for the current one. Lists name such rows beside their items.
        if parked is not None:
            raise NotReady(
                f"{service}/{instance} is parked: the event at position {parked.position} could not be folded "
                f"({parked.reason}); rebuild the view with a version of muster that can",
                position=parked.position,
            )
        found = gateway.views.registry.instance(service, instance)
        whole = {**item(found), "check_output": gateway.check_output(service_stream(service), instance)}
        return self.reader.whole(whole, (partition,), [(b"etag", b'"%d"' % found.version)])

    async def instances(self, request: Request) -> Reply:
        """The instances that match; an empty list is an answer too."""
        service, asked = request.name("service"), request.asked(InstancesQuery)
        partition = self.reader.gateway.partition_of(service_stream(service))
        await self.reader.settle(asked, request.header(b"muster-token"), (partition,))
        # A service that does not exist has no instances here; `discover` refuses it.
        instances = self.reader.gateway.views.instances.get(service, {})
        items = Items.of(map(self.encoded.one, [one for one in instances.values() if _matches(one, asked)]))
        return self.reader.listing(items, (partition,), self._parked(service))

    async def _settled(self, request: Request) -> tuple[str, int]:
        service = request.name("service")
        partition = self.reader.gateway.partition_of(service_stream(service))
        await self.reader.settle(request.reading(), request.header(b"muster-token"), (partition,))
        return service, partition

    def _parked(self, service: str) -> list[str]:
        parked = self.reader.gateway.views.parked
        return [key[1] for name, key in parked if name == "instances" and key[0] == service] if parked else []


def _matches(instance: Instance, query: InstancesQuery) -> bool:
    return (
        (query.health is None or instance.health == query.health)
        and (query.tag is None or query.tag in instance.spec.tags)
        and (query.zone is None or instance.spec.zone == query.zone)
    )


def routes(present: Present) -> tuple[Route, ...]:
    """The reads of services and instances."""
    return (
        Route(
            "GET",
            INSTANCE,
            present.instance,
            "One instance, with the last output of its checks",
            "reading",
            answer=InstanceWhole,
        ),
        Route(
            "GET",
            "/v1/services/{service}/instances",
            present.instances,
            "The instances of a service that match; an empty list when there is none",
            "reading",
            answer=InstanceList,
            query=InstancesQuery,
        ),
        Route(
            "GET",
            "/v1/discover/{service}",
            present.discover,
            "The instances that can take traffic",
            "reading",
            answer=InstanceList,
        ),
    )
