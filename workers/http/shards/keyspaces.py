"""Keyspaces over HTTP: create, assign, pin and move shards; read keyspaces, shards, and where a key is."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from os import urandom
from typing import Annotated, Any, Final

import orjson
from pydantic import Field

from domain.catalogue import Answer, command_from
from domain.shards.keyspace import AssignShards, CreateKeyspace, MoveShard, PinShard, UnpinShard
from domain.shards.shard import Keyspace, Status
from muster.wire.command import Command
from muster.wire.error import InvalidCommand
from muster.wire.stream import CLUSTER, Name, keyspace_stream, saga_stream
from sagas.placement import Placement
from workers.gateway import Gateway
from workers.http.exchange import JSON_OPTIONS, Reading, Reply, Request
from workers.http.model import Written
from workers.http.reading import Reader
from workers.http.routing import Handler, Route
from workers.http.shards.answers import keyspace_item, route_item, shard_item
from workers.http.shards.model import (
    AssignBody,
    KeyspaceBody,
    KeyspaceItem,
    KeyspaceList,
    MoveWritten,
    RouteItem,
    ShardList,
)
from workers.http.watch.frames import slices
from workers.http.write import Write, answered, begun, execute, give
from workers.rules import eligible, some_eligible
from workers.writer.published import refuse_unknown

slice_items_max: Final = 1_024
_KEYSPACE: Final = "/v1/keyspaces/{keyspace}"


class ShardListQuery(Reading):
    """Which shards of a keyspace are wanted."""

    owner: Annotated[Name | None, Field(description="Only this node's")] = None
    status: Annotated[Status | None, Field(description="Only those")] = None
    unavailable: Annotated[bool | None, Field(description="Only those that nobody serves, or only the others")] = None


class RouteQuery(Reading):
    """Which key is to be found."""

    key: Annotated[str, Field(max_length=1_000, description="The key")]


@dataclass(frozen=True, slots=True)
class Keyspaces:
    """The routes of keyspaces and shards."""

    gateway: Gateway
    reader: Reader

    async def create(self, request: Request) -> Reply:
        """Have a keyspace. Without `nodes` all that are eligible get the shards, by a command of its own: the first one
        says only what the caller said, so a repeat of it is known as one, whichever nodes there are by then.
        """
        stream = _stream(request)
        write, fields = await begun(request)
        nodes = eligible(self.gateway.views.shards.cluster) if fields.get("nodes") is None else ()
        created = await execute(
            self.gateway, write.envelope(stream, command_from(CreateKeyspace.type, _named(fields))), write.seconds
        )
        # Also when the keyspace was there before: an earlier try may have ended between the two commands. Only shards
        # without an owner are assigned.
        if created.error is None and nodes:
            assigned = await self._assigned(stream, nodes, write)
            if assigned.error is not None:
                return answered(assigned, write.known, self.gateway.views)
            # A read with the answer's token must see the assignment too.
            created = replace(created, position=max(created.position, assigned.position))
        return answered(created, write.known, self.gateway.views)

    async def assign(self, request: Request) -> Reply:
        """Spread the shards that nobody owns; without `nodes` over all that are eligible, whatever the request's key."""
        stream = _stream(request)
        write, fields = await begun(request)
        if fields.get("nodes") is not None:
            command = command_from(AssignShards.type, fields)
            answer = await execute(self.gateway, write.envelope(stream, command), write.seconds)
            return answered(answer, write.known, self.gateway.views)
        # The other branch leaves this to `command_from`; here the command is not made from the fields.
        refuse_unknown(fields, "nodes")
        nodes = some_eligible(self.gateway.views.shards.cluster)
        return answered(await self._assigned(stream, nodes, write), write.known, self.gateway.views)

    async def _assigned(self, stream: str, nodes: tuple[str, ...], write: Write) -> Answer:
        # The controller has chosen these nodes, not the caller, so the command gets an id of its own.
        own = replace(write, key=urandom(16).hex(), expected_version=None)
        dealt = AssignShards(nodes=self._least_first(nodes))
        return await execute(self.gateway, own.envelope(stream, dealt), write.seconds)

    def _least_first(self, nodes: tuple[str, ...]) -> tuple[str, ...]:
        """The shards are dealt out in turn: who has the least to do comes first, and so gets the one more that is left over."""
        views = self.gateway.views.shards
        there = [views.cluster.nodes[node] for node in nodes if node in views.cluster.nodes]
        placement = Placement(views.keyspaces, there, self.gateway.loads.shards.weights())
        return tuple(node.id for node in sorted(there, key=lambda node: (placement.rank(node, 0.0), node.id)))

    def pin(self, command: type[Command]) -> Handler:
        """The route of a pin, set or cleared."""

        async def run(request: Request) -> Reply:
            in_path = {"shard": request.number("shard")}
            return await give(self.gateway, request, _stream(request), command, in_path, reasoned=True)

        return run

    async def move(self, request: Request) -> Reply:
        """Move a shard; the answer names the migration."""
        name, stream = request.name("keyspace"), _stream(request)
        write, fields = await begun(request)
        if "to" in fields:
            if "target" in fields:
                raise InvalidCommand("to: `target` says the same; leave one out", field="to")
            fields["target"] = fields.pop("to")
        command = command_from(MoveShard.type, fields)
        assert isinstance(command, MoveShard), "a move"
        answer = await execute(self.gateway, write.envelope(stream, command), write.seconds)
        return answered(answer, write.known, self.gateway.views, migration=await self._migration(name, command, answer))

    async def _migration(self, name: str, command: MoveShard, answer: Answer) -> str | None:
        """The migration that the answer is about; when nothing was to be done, the shard's newest."""
        if answer.error is not None:
            return None
        if answer.incarnation is not None:
            return saga_stream(keyspace_stream(name), "migration", answer.incarnation)
        views = self.gateway.views
        # The writer that answered may be another controller's, and ahead of these views.
        await views.reach({answer.partition: answer.position}, Reading().timeout_seconds)
        return views.shards.keyspace(name).shard(command.shard).latest

    async def list(self, request: Request) -> Reply:
        """All keyspaces, by name."""
        partitions = tuple(range(self.gateway.partitions))
        await self.reader.settle(request.reading(), request.header(b"muster-token"), partitions)
        views = self.gateway.views.shards
        items = [keyspace_item(name, space, views.cluster) for name, space in sorted(views.keyspaces.items())]
        return self.reader.listing(orjson.dumps(items), partitions)

    async def one(self, request: Request) -> Reply:
        """One keyspace."""
        name, keyspace, partitions = await self._settled(request, request.reading())
        version = (b"etag", b'"%d"' % (keyspace.version - 1))
        item = keyspace_item(name, keyspace, self.gateway.views.shards.cluster)
        return self.reader.whole(item, partitions, [version])

    async def shards(self, request: Request) -> Reply:
        """The keyspace's shards that match, by number."""
        query = request.asked(ShardListQuery)
        name, keyspace, partitions = await self._settled(request, query)
        # Taken first: rows that change between two pieces may be in the answer as they were, so its token must not cover
        # those changes. A row that is newer than the token says does no harm.
        marks, parts = self.reader.marks(partitions), []
        for part in slices(self._encoded(name, keyspace, query), slice_items_max):
            parts.append(part)
            await asyncio.sleep(0)  # A long list lets others run between its pieces.
        return self.reader.listing(b"[%b]" % b"".join(parts), partitions, marks=marks)

    def _encoded(self, name: str, keyspace: Keyspace, query: ShardListQuery) -> Iterator[bytes]:
        found = self.gateway.views.shards.cluster
        for number in range(keyspace.count):
            shard = keyspace.shard(number)
            if query.owner not in (None, shard.owner) or query.status not in (None, shard.status):
                continue
            item = shard_item(name, keyspace, number, found)
            if query.unavailable in (None, item["unavailable"]):
                yield orjson.dumps(item, option=JSON_OPTIONS)

    async def route(self, request: Request) -> Reply:
        """Where a key is served."""
        query = request.asked(RouteQuery)
        name, keyspace, partitions = await self._settled(request, query)
        found = route_item(name, keyspace, query.key, self.gateway.views.shards.cluster)
        return self.reader.whole(found, partitions)

    async def _settled(self, request: Request, reading: Reading) -> tuple[str, Keyspace, tuple[int, ...]]:
        name = request.name("keyspace")
        # Addresses are the cluster's to know.
        partitions = {self.gateway.partition_of(stream) for stream in (keyspace_stream(name), CLUSTER)}
        await self.reader.settle(reading, request.header(b"muster-token"), tuple(partitions))
        return name, self.gateway.views.shards.keyspace(name), tuple(partitions)


def _stream(request: Request) -> str:
    return keyspace_stream(request.name("keyspace"))


def _named(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields without `nodes` when it is null: then it was left out."""
    return {name: found for name, found in fields.items() if name != "nodes" or found is not None}


def routes(gateway: Gateway, reader: Reader) -> tuple[Route, ...]:
    """The routes of keyspaces and shards."""
    keyspaces, tag = Keyspaces(gateway, reader), "shards"

    def pin(method: str, command: type[Command], summary: str) -> Route:
        path, handler = f"{_KEYSPACE}/shards/{{shard}}/pin", keyspaces.pin(command)
        return Route(method, path, handler, summary, tag, answer=Written, command=command, reasoned=True)

    return (
        Route("GET", "/v1/keyspaces", keyspaces.list, "All keyspaces, by name", tag, answer=KeyspaceList),
        Route("GET", _KEYSPACE, keyspaces.one, "One keyspace", tag, answer=KeyspaceItem),
        Route(
            "PUT",
            _KEYSPACE,
            keyspaces.create,
            "Have a keyspace, spread over the nodes",
            tag,
            answer=Written,
            command=CreateKeyspace,
            body=KeyspaceBody,
        ),
        Route(
            "POST",
            f"{_KEYSPACE}/assign",
            keyspaces.assign,
            "Assign the shards that nobody owns",
            tag,
            answer=Written,
            command=AssignShards,
            body=AssignBody,
        ),
        Route(
            "GET",
            f"{_KEYSPACE}/shards",
            keyspaces.shards,
            "A keyspace's shards",
            tag,
            answer=ShardList,
            query=ShardListQuery,
        ),
        Route("GET", f"{_KEYSPACE}/route", keyspaces.route, "Where a key is", tag, answer=RouteItem, query=RouteQuery),
        pin("PUT", PinShard, "Keep a shard where it is"),
        pin("DELETE", UnpinShard, "Let a shard be moved again"),
        Route(
            "POST",
            f"{_KEYSPACE}/moves",
            keyspaces.move,
            "Move a shard, live",
            tag,
            answer=MoveWritten,
            command=MoveShard,
        ),
    )
