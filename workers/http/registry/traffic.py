"""What operators set for the clients of a service, over HTTP. Reads are the read model's; clients hear of it in the watch."""

from dataclasses import dataclass

from domain.registry.traffic import SetTraffic
from muster.wire.stream import traffic_stream
from workers.gateway import Gateway
from workers.http.exchange import Reply, Request
from workers.http.model import Written
from workers.http.routing import Route
from workers.http.write import give


@dataclass(frozen=True, slots=True)
class TrafficWrites:
    """The writes of services' traffic."""

    gateway: Gateway

    async def set(self, request: Request) -> Reply:
        """Set what the body gives; the rest stays."""
        stream = traffic_stream(request.name("service"))
        return await give(self.gateway, request, stream, SetTraffic, {}, reasoned=True)


def routes(gateway: Gateway) -> tuple[Route, ...]:
    """The writes of traffic."""
    handler, summary = TrafficWrites(gateway).set, "Set how the clients of a service spread their calls"
    path = "/v1/traffic/{service}"
    return (Route("PUT", path, handler, summary, "traffic", answer=Written, command=SetTraffic, reasoned=True),)
