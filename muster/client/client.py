"""The client of controllers: typed, asynchronous, and it reads its own writes.

    async with Client("http://127.0.0.1:8740", actor="deploy") as client:
        await client.register("orders", "orders-1", "10.0.0.7", 8080, tags=("blue",))
        for instance in await client.discover("users"):
            ...
        async for change in client.watch("users"):
            ...

Reads see the client's own writes (`consistency="session"`): it keeps the newest token of all answers and sends it with
each read. `observe` takes over the token of another client. Transient errors are tried again with the same command id.
"""

import math
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, Unpack
from urllib.parse import urlencode

import orjson

from muster.client.command_batch import run_commands
from muster.client.event_stream import follow
from muster.client.past import follow_events, newest_events
from muster.client.registration import Registration, keep_alive
from muster.client.rows import RowsChanged, changes_of, page_of, query_of, row_of
from muster.client.transport import Consistency as Consistency
from muster.client.transport import Transport, path_of
from muster.client.watch import Change, Follower
from muster.client.writing import write, written_of
from muster.wire import DEFAULT_URL
from muster.wire.command import Envelope, PublishedCommand, new_id
from muster.wire.read_model import Item, Page, ReadModel
from muster.wire.registry.answers import (
    EVENT_PAGE,
    HISTORY,
    INSTANCE,
    INSTANCE_PAGE,
    SERVICES,
    WRITTEN,
    Event,
    EventPage,
    EventQuery,
    History,
    Instance,
    Outcome,
    Service,
    Written,
)
from muster.wire.registry.check import Health
from muster.wire.registry.spec import SPEC, Spec, SpecFields, spec_of

if TYPE_CHECKING:
    from muster.client.control.groups import GroupControl
    from muster.client.control.sagas import SagaControl
    from muster.client.control.shards import ShardControl


class Client:
    """A client of a controller, or of several that share a log; use it as `async with Client(url) as client`.

    `url` is one address or several: `"http://a:8740,http://b:8740"`, or a sequence. A call asks the one that answered last, and
    goes on at the others when it is away, silent or not ready; while the client is open it learns of further ones. With
    `cluster` the controllers of another cluster refuse (WrongCluster).

    `actor` is recorded with every write. `timeout_seconds` limits each call with all its retries. Raises the refusals
    of `muster.wire.error` by their names, and NotReady, Timeout or Unreachable when the time is over. `shards` is for
    keyspaces, data nodes and migrations, `groups` for failover groups, `sagas` for sagas of all kinds.
    """

    def __init__(
        self,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        actor: str | None = None,
        timeout_seconds: float = 10.0,
        cluster: str | None = None,
    ) -> None:
        self._transport = Transport(url, actor=actor, timeout_seconds=timeout_seconds, cluster=cluster)
        self._held: dict[tuple[str, str], Registration] = {}

    @cached_property
    def shards(self) -> "ShardControl":
        """Keyspaces, data nodes and migrations."""
        # Here, as below: its types cost a tenth of a start, and few use them.
        from muster.client.control.shards import ShardControl

        return ShardControl(self._transport)

    @cached_property
    def groups(self) -> "GroupControl":
        """Failover groups."""
        from muster.client.control.groups import GroupControl

        return GroupControl(self._transport)

    @cached_property
    def sagas(self) -> "SagaControl":
        """Sagas of all kinds."""
        from muster.client.control.sagas import SagaControl

        return SagaControl(self._transport)

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.close()

    @property
    def url(self) -> str:
        """The address of the controller that is asked first: the one that answered last."""
        return self._transport.url

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses of all controllers that are known by now, in the order in which they are asked."""
        return self._transport.controllers.urls

    @property
    def token(self) -> str:
        """How much this client has seen, for `observe` of another one: `0:1234@9f3a01bc,3:17@52c07e4d`."""
        return self._transport.token

    def observe(self, token: str) -> None:
        """From the next read on, see at least what the client with this token has seen. Raises InvalidCommand."""
        self._transport.observe(token)

    async def register(
        self,
        service: str,
        instance: str,
        address: str,
        port: int,
        *,
        reason: str | None = None,
        expected_version: int | None = None,
        command_id: str | None = None,
        **fields: Unpack[SpecFields],
    ) -> Written:
        """Register the instance, or change its registration; with the same fields again, its lease is renewed."""
        # Who changes what a registration of this client holds is no successor to it.
        held = self._held.get((service, instance))
        return await self.register_spec(
            service,
            instance,
            spec_of(address, port, fields),
            reason=reason,
            expected_version=expected_version,
            command_id=command_id,
            holder=None if held is None else held.holder,
        )

    async def register_spec(
        self,
        service: str,
        instance: str,
        spec: Spec,
        *,
        reason: str | None = None,
        expected_version: int | None = None,
        command_id: str | None = None,
        holder: str | None = None,
        incarnation: int | None = None,
    ) -> Written:
        """As `register`, with the whole spec. `expected_version`: only if the instance is at it (VersionConflict).

        `holder`: an id of your own; what another holder has registered is removed, and a new incarnation begins.
        `incarnation`: the one that you had; if another has come since, it stays (StaleIncarnation).
        """
        body = SPEC.dump_python(spec, mode="json", warnings=False)  # The controller validates it.
        return await self._write(
            "PUT",
            (service, instance),
            body,
            reason=reason,
            expected_version=expected_version,
            command_id=command_id,
            query=_given(holder=holder, incarnation=incarnation),
        )

    async def deregister(
        self,
        service: str,
        instance: str,
        *,
        incarnation: int | None = None,
        holder: str | None = None,
        reason: str | None = None,
        expected_version: int | None = None,
        command_id: str | None = None,
    ) -> Written:
        """Remove the instance; with `incarnation` or `holder` only that one, or what that one registered (StaleIncarnation)."""
        body = _given(incarnation=incarnation, holder=holder) or None
        return await self._write(
            "DELETE",
            (service, instance),
            body,
            reason=reason,
            expected_version=expected_version,
            command_id=command_id,
        )

    async def report_health(
        self,
        service: str,
        instance: str,
        status: Health,
        cause: str | None = None,
        *,
        check: str | None = None,
        incarnation: int | None = None,
        reason: str | None = None,
        command_id: str | None = None,
    ) -> Written:
        """Report the instance's health; `check` names one of its ttl checks, else it is the health of the instance itself."""
        body = _given(status=status, cause=cause, check=check, incarnation=incarnation)
        return await self._write("PUT", (service, instance, "health"), body, reason=reason, command_id=command_id)

    async def heartbeat(
        self,
        service: str,
        instance: str,
        *,
        incarnation: int | None = None,
        holder: str | None = None,
        command_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Written:
        """Renew the instance's lease and ttl checks; with `incarnation` or `holder` only of that one (StaleIncarnation).

        `timeout_seconds`: not those of the client.
        """
        path = path_of("services", service, "instances", instance, "heartbeat")
        body = _given(incarnation=incarnation, holder=holder)
        reply = await self._transport.write(
            "POST", path, body, command_id=command_id or new_id(), timeout_seconds=timeout_seconds
        )
        return written_of(self._transport, WRITTEN, reply)

    async def set_maintenance(
        self, service: str, instance: str, reason: str | None = None, *, command_id: str | None = None
    ) -> Written:
        """Take the instance out of discovery for maintenance."""
        return await self._mark("PUT", (service, instance, "maintenance"), reason, command_id)

    async def clear_maintenance(
        self, service: str, instance: str, reason: str | None = None, *, command_id: str | None = None
    ) -> Written:
        """End the maintenance."""
        return await self._mark("DELETE", (service, instance, "maintenance"), reason, command_id)

    async def drain(
        self, service: str, instance: str, reason: str | None = None, *, command_id: str | None = None
    ) -> Written:
        """Take the instance out of discovery because it is about to leave."""
        return await self._mark("PUT", (service, instance, "drain"), reason, command_id)

    async def undrain(
        self, service: str, instance: str, reason: str | None = None, *, command_id: str | None = None
    ) -> Written:
        """Bring the instance back into discovery: it stays after all."""
        return await self._mark("DELETE", (service, instance, "drain"), reason, command_id)

    async def commands(self, envelopes: Sequence[Envelope | PublishedCommand]) -> list[Outcome]:
        """Run commands in batches of 1,000. Returns their outcomes in the same order, refusals among them. Those that no writer
        has answered are sent again with the same ids, as long as the time allows; then their outcome is `unknown`.
        """
        return await run_commands(self._transport, envelopes)

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
        path, query = path_of("services", service, "instances"), _given(health=health, tag=tag, zone=zone)
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

    def watch(
        self, service: str | None = None, *, reconnect_seconds_max: float = math.inf
    ) -> AsyncGenerator[Change, None]:
        """First a Snapshot, then every change once, in order; of all services when none is named.

        When the connection breaks, the watch continues where it was. It raises Unreachable when no controller answers
        for `reconnect_seconds_max`, at the beginning for the client's `timeout_seconds`.
        """
        query = {} if service is None else {"service": service}
        return follow(self._transport, path_of("watch"), query, Follower().take, reconnect_seconds_max)

    @asynccontextmanager
    async def registered(
        self, service: str, instance: str, address: str, port: int, **fields: Unpack[SpecFields]
    ) -> AsyncIterator[Registration]:
        """Stay registered for the length of the block: heartbeats at a third of the lease (30 s unless given otherwise),
        deregistered at the end.

        A lease that ran out meanwhile is taken again. After a deregistration on request it stays out, and so it does once
        another process has registered under this name, which is not harmed by it: `lost` is set.
        """
        spec = spec_of(address, port, {"lease_seconds": 30.0, **fields})
        name, registration = (service, instance), Registration(service, instance)
        try:
            async with keep_alive(self, registration, spec):
                self._held[name] = registration
                yield registration
        finally:
            if self._held.get(name) is registration:
                del self._held[name]

    async def _mark(self, method: str, parts: tuple[str, ...], reason: str | None, command_id: str | None) -> Written:
        return await self._write(method, parts, _given(reason=reason), command_id=command_id)

    async def _write(
        self,
        method: str,
        parts: tuple[str, ...],
        body: object | None,
        *,
        reason: str | None = None,
        expected_version: int | None = None,
        command_id: str | None = None,
        query: Mapping[str, object] | None = None,
    ) -> Written:
        service, *rest = parts
        path = path_of("services", service, "instances", *rest) + (f"?{urlencode(query)}" if query else "")
        return await write(
            self._transport,
            WRITTEN,
            method,
            path,
            body,
            reason=reason,
            expected_version=expected_version,
            command_id=command_id,
        )


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
