"""Data nodes over HTTP: join, renew, remove, cordon and drain them; limit the moves that run at a time."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

import orjson
from pydantic import Field

from domain.catalogue import Answer, command_from
from domain.shards.node import (
    CordonNode,
    DrainNode,
    JoinNode,
    RemoveNode,
    RenewNode,
    SetMoveLimits,
    UncordonNode,
    UndrainNode,
)
from muster.wire.command import Command
from muster.wire.error import InvalidCommand
from muster.wire.stream import CLUSTER
from sagas.drain import DrainPlan
from workers.gateway import Gateway
from workers.http.exchange import Reading, Reply, Request
from workers.http.model import Written
from workers.http.reading import Reader
from workers.http.routing import Handler, Route
from workers.http.shards.answers import cluster_item, held, node_item, owned
from workers.http.shards.model import ClusterItem, Joined, NodeItem, NodeList
from workers.http.write import answered, begun, execute, give
from workers.rules import no_refusal, refusal

_NODE: Final = "/v1/nodes/{node}"


class RemoveQuery(Reading):
    """Whether the node is given up together with the shards that it owns."""

    force: Annotated[bool, Field(description="Although it owns shards, or is alive")] = False


@dataclass(frozen=True, slots=True)
class Nodes:
    """The routes of data nodes and of the cluster."""

    gateway: Gateway
    reader: Reader

    async def join(self, request: Request) -> Reply:
        """Be a data node. The answer has the lease that was granted; the node counts it from when it sent the request."""
        node = request.name("node")
        write, fields = await begun(request)
        if "node" in fields:
            raise InvalidCommand("node: it stands in the path", field="node")
        command = command_from(JoinNode.type, {**fields, "node": node})
        assert isinstance(command, JoinNode), "a join"
        answer = await execute(self.gateway, write.envelope(CLUSTER, command), write.seconds)
        return answered(
            answer, write.known, self.gateway.views, lease_seconds=await self._lease_seconds(command, answer)
        )

    async def _lease_seconds(self, command: JoinNode, answer: Answer) -> float:
        """The lease of the node's reign: a node that has joined already keeps the lease it joined with."""
        if answer.status != "unchanged":
            return command.lease_seconds
        views = self.gateway.views
        # The writer that answered may be another controller's, and ahead of these views.
        await views.reach({answer.partition: answer.position}, Reading().timeout_seconds)
        return views.shards.node(command.node).lease_seconds

    def write(self, command: type[Command], *, reasoned: bool = True) -> Handler:
        """The route of a command to one node."""

        async def run(request: Request) -> Reply:
            in_path = {"node": request.name("node")}
            return await give(self.gateway, request, CLUSTER, command, in_path, reasoned=reasoned)

        return run

    async def remove(self, request: Request) -> Reply:
        """Give the node up. While it is alive, or owns shards, that has to be said: `force`."""
        node, query = request.name("node"), request.asked(RemoveQuery)
        return await give(
            self.gateway,
            request,
            CLUSTER,
            RemoveNode,
            {"node": node},
            reasoned=True,
            seconds=query.timeout_seconds,
            check=no_refusal if query.force else refusal,
        )

    async def limit(self, request: Request) -> Reply:
        """How many moves a node may take part in, and the cluster have, at a time."""
        return await give(self.gateway, request, CLUSTER, SetMoveLimits, {}, reasoned=True)

    async def list(self, request: Request) -> Reply:
        """All data nodes, by name."""
        # Owners stand in the keyspaces, and those live in all partitions.
        partitions = tuple(range(self.gateway.partitions))
        await self.reader.settle(request.reading(), request.header(b"muster-token"), partitions)
        views = self.gateway.views.shards
        shards, moves = owned(views.keyspaces.values()), held(views.cluster)
        nodes = sorted(views.cluster.nodes.values(), key=lambda node: node.id)
        plan = self._drain_plan()
        items = [node_item(node, shards[node.id], moves[node.id], plan) for node in nodes]
        return self.reader.listing(orjson.dumps(items), partitions)

    async def one(self, request: Request) -> Reply:
        """One data node."""
        name, partitions = request.name("node"), tuple(range(self.gateway.partitions))
        await self.reader.settle(request.reading(), request.header(b"muster-token"), partitions)
        views = self.gateway.views.shards
        node = views.node(name)
        item = node_item(node, owned(views.keyspaces.values())[name], held(views.cluster)[name], self._drain_plan())
        return self.reader.whole(item, partitions, [(b"etag", b'"%d"' % node.version)])

    def _drain_plan(self) -> DrainPlan:
        return self.gateway.views.shards.drain_plan(datetime.now(UTC), self.gateway.loads.shards.weights)

    async def cluster(self, request: Request) -> Reply:
        """The limits of moves, and who holds slots or waits for some."""
        partitions = (self.gateway.partition_of(CLUSTER),)
        await self.reader.settle(request.reading(), request.header(b"muster-token"), partitions)
        return self.reader.whole(cluster_item(self.gateway.views.shards.cluster), partitions)


def routes(gateway: Gateway, reader: Reader) -> tuple[Route, ...]:
    """The routes of data nodes and of the cluster."""
    nodes, tag = Nodes(gateway, reader), "nodes"

    def write(method: str, verb: str, command: type[Command], summary: str, *, reasoned: bool = True) -> Route:
        path, handler = f"{_NODE}{verb}", nodes.write(command, reasoned=reasoned)
        return Route(method, path, handler, summary, tag, answer=Written, command=command, reasoned=reasoned)

    return (
        Route("GET", "/v1/nodes", nodes.list, "All data nodes, by name", tag, answer=NodeList),
        Route("GET", _NODE, nodes.one, "One data node", tag, answer=NodeItem),
        Route("PUT", _NODE, nodes.join, "Join as a data node", tag, answer=Joined, command=JoinNode),
        Route(
            "DELETE",
            _NODE,
            nodes.remove,
            "Give a node up",
            tag,
            answer=Written,
            command=RemoveNode,
            reasoned=True,
            query=RemoveQuery,
        ),
        write("POST", "/renew", RenewNode, "Renew a node's lease", reasoned=False),
        write("PUT", "/cordon", CordonNode, "Let no new shards come"),
        write("DELETE", "/cordon", UncordonNode, "Let shards come again"),
        write("PUT", "/drain", DrainNode, "Have all shards moved away"),
        write("DELETE", "/drain", UndrainNode, "Let the node stay"),
        Route(
            "GET",
            "/v1/cluster",
            nodes.cluster,
            "The limits of moves, and who holds or awaits slots",
            tag,
            answer=ClusterItem,
        ),
        Route(
            "PUT",
            "/v1/cluster/limits",
            nodes.limit,
            "Limit moves at a time",
            tag,
            answer=Written,
            command=SetMoveLimits,
            reasoned=True,
        ),
    )
