"""What a client reads: services, instances, what has happened, the rows of any read model, and watches of them."""

import math
from collections.abc import AsyncGenerator, Callable
from typing import Any, Literal, Unpack, overload

import orjson

from muster.client.event_stream import follow
from muster.client.past import follow_events, newest_events
from muster.client.rows import RowsChanged, changes_of, page_of, query_of, row_of
from muster.client.transport import Consistency, Transport, path_of
from muster.client.watch import Change, Follower, TrafficFollower, TrafficSet
from muster.wire.read_model import Item, Page, ReadModel
from muster.wire.registry.answers import (
    EVENT_PAGE,
    HISTORY,
    INSTANCE,
    INSTANCE_PAGE,
    SERVICES,
    Event,
    EventPage,
    EventQuery,
    History,
    Instance,
    Service,
)
from muster.wire.registry.check import Health
from muster.wire.telemetry.loads import INSTANCE_LOADS, SERVICE_LOADS, SeenInstance, ServiceLoad
from muster.wire.telemetry.shard_loads import SHARD_LOADS, ShardLoads


class ClientReads:
    """The reads of a client, through its transport."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def services(self, *, consistency: Consistency = "session") -> Page[Service]:
        """All services, with their instances counted by health."""
        return await self.rows(SERVICES, consistency=consistency)

    async def instances(
        self,
        service: str,
        *,
        health: Health | None = None,
        tag: str | None = None,
        zone: str | None = None,
        consistency: Consistency = "session",
    ) -> Page[Instance]:
        """The service's instances that match; possibly none."""
        path, query = path_of("services", service, "instances"), query_of({"health": health, "tag": tag, "zone": zone})
        return INSTANCE_PAGE.validate_json(await self._transport.read(path, query, consistency))

    async def instance(self, service: str, instance: str, *, consistency: Consistency = "session") -> Instance:
        """One instance. Raises ServiceNotFound or InstanceNotFound."""
        path = path_of("services", service, "instances", instance)
        return INSTANCE.validate_json(await self._transport.read(path, {}, consistency))

    async def discover(self, service: str, *, consistency: Consistency = "session") -> tuple[Instance, ...]:
        """The instances that can take traffic now. Raises ServiceNotFound or NoHealthyInstances."""
        return (await self.discover_page(service, consistency=consistency)).items

    async def discover_page(self, service: str, *, consistency: Consistency = "session") -> Page[Instance]:
        """As `discover`, with the age and the token of the answer."""
        return INSTANCE_PAGE.validate_json(await self._transport.read(path_of("discover", service), {}, consistency))

    async def history(self, service: str, instance: str, *, consistency: Consistency = "session") -> History:
        """The instance's events, oldest first: what, when, by whom and why. They outlive the instance."""
        path = path_of("history", service, instance)
        return HISTORY.validate_json(await self._transport.read(path, {}, consistency))

    async def events(self, **asked: Unpack[EventQuery]) -> EventPage:
        """A page of recorded events, the newest last: the oldest of one partition, or the newest of all; see EventQuery."""
        return EVENT_PAGE.validate_json(await self._transport.read(path_of("events"), query_of(asked), "eventual"))

    async def newest_events(self, **asked: Unpack[EventQuery]) -> EventPage:
        """The newest events that match, `limit` of them (100) if there are so many, however far back they are."""
        return await newest_events(self.events, asked)

    def follow_events(self, **asked: Unpack[EventQuery]) -> AsyncGenerator[Event, None]:
        """The newest events that match, then those that come, for ever, also over restarts of controllers."""
        return follow_events(self.events, asked)

    async def rows(
        self, model: ReadModel[Item], *, consistency: Consistency = "session", **asked: object
    ) -> Page[Item]:
        """The rows of a read model (`muster.wire`), in the order of their keys; `asked` are its filters, by name."""
        return await page_of(self._transport, model, asked, consistency)

    async def row(self, model: ReadModel[Item], *key: str, consistency: Consistency = "session") -> Item:
        """The row of the key. Raises the refusal for what is not there."""
        return await row_of(self._transport, model, key, consistency)

    def watch_rows(
        self, model: ReadModel[Item], *, reconnect_seconds_max: float = math.inf, **asked: object
    ) -> AsyncGenerator[RowsChanged[Item], None]:
        """First all rows of a read model that is watched, then those that change, as they do. See `watch`."""
        return changes_of(self._transport, model, asked, reconnect_seconds_max)

    async def status(self) -> dict[str, Any]:
        """What the controller reports about itself: role, log, partitions with term, positions and lags."""
        return dict(orjson.loads(await self._transport.read(path_of("status"), {}, "eventual")))

    async def loads(self, service: str | None = None) -> tuple[ServiceLoad, ...]:
        """What the instances of services have to do now, or those of this one; none, of which nobody says so."""
        query = {} if service is None else {"service": service}
        return SERVICE_LOADS.validate_json(await self._transport.read(path_of("loads"), query, "eventual")).items

    async def instance_loads(self, service: str) -> tuple[SeenInstance, ...]:
        """What clients saw of the instances of the service that they called: those that fail most first, then the slowest."""
        told = await self._transport.read(path_of("loads"), {"service": service}, "eventual")
        return INSTANCE_LOADS.validate_json(told).instances

    async def shard_loads(self, keyspace: str | None = None, node: str | None = None) -> ShardLoads:
        """What the shards of the keyspace, or of the node, have to do now; without either what each node has, and no shards."""
        asked = {name: value for name, value in (("keyspace", keyspace), ("node", node)) if value is not None}
        return SHARD_LOADS.validate_json(await self._transport.read(path_of("loads"), asked, "eventual"))

    @overload
    def watch(
        self,
        service: str | None = None,
        *,
        reconnect_seconds_max: float = math.inf,
        traffic: Literal[False] = False,
        heard: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[Change, None]: ...
    @overload
    def watch(
        self,
        service: str,
        *,
        reconnect_seconds_max: float = math.inf,
        traffic: Literal[True],
        heard: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[Change | TrafficSet, None]: ...
    def watch(
        self,
        service: str | None = None,
        *,
        reconnect_seconds_max: float = math.inf,
        traffic: bool = False,
        heard: Callable[[], None] = lambda: None,
    ) -> AsyncGenerator[Change | TrafficSet, None] | AsyncGenerator[Change, None]:
        """First a Snapshot, then every change once, in order; of all services when none is named.

        `traffic`: also a TrafficSet behind the snapshot, if an operator has ever set how the clients of the service spread their
        calls, and at each change of that. `heard` is called with each sign that nothing was missed: a watch has one every 15 s.

        When the connection breaks, the watch continues where it was. It raises Unreachable when no controller answers
        for `reconnect_seconds_max`, at the beginning for the client's `timeout_seconds`.
        """
        query = {} if service is None else {"service": service}
        take = TrafficFollower().take if traffic else Follower().take
        return follow(self._transport, path_of("watch"), query, take, reconnect_seconds_max, heard)
