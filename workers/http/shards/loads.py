"""`POST /v1/nodes/{node}/loads`: what the shards of a data node have to do, as the node tells it every few seconds."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson

from domain.shards.cluster import check_incarnation
from muster.wire.error import InvalidCommand
from muster.wire.telemetry.shard_loads import NodeLoads, judged
from workers.gateway import Gateway
from workers.http.exchange import JSON_OPTIONS, Reply, Request
from workers.http.routing import Route
from workers.http.shards.model import ShardLoadsHeard, ShardLoadsTold
from workers.writer.published import refuse_unknown


@dataclass(frozen=True, slots=True)
class TellingNodes:
    """The one route."""

    gateway: Gateway
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def tell(self, request: Request) -> Reply:
        """Take what the node says into memory. It is no command and no event: who asks next gets it, and nobody later."""
        name, body = request.name("node"), await request.fields()
        refuse_unknown(body, "incarnation", "keyspaces")
        told, incarnation = judged(body.get("keyspaces")), body.get("incarnation")
        if type(incarnation) is not int:
            raise InvalidCommand("incarnation: the whole number that the join was answered with", field="incarnation")
        # A process that was succeeded by another one may still run, and knows no better.
        check_incarnation(self.gateway.views.shards.node(name), incarnation)
        self.gateway.loads.told(NodeLoads(node=name, keyspaces=told, at=self.now()))
        return Reply(orjson.dumps({"shards": sum(map(len, told.values()))}, option=JSON_OPTIONS))


def routes(gateway: Gateway) -> tuple[Route, ...]:
    """The one route."""
    return (
        Route(
            "POST",
            "/v1/nodes/{node}/loads",
            TellingNodes(gateway).tell,
            "Tell what a node's shards have to do",
            "nodes",
            answer=ShardLoadsHeard,
            body=ShardLoadsTold,
        ),
    )
