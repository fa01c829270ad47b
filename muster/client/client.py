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

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, Unpack
from urllib.parse import urlencode

from muster.client.command_batch import run_commands
from muster.client.reading import ClientReads
from muster.client.registration import Load, Registration, keep_alive
from muster.client.transport import Consistency as Consistency
from muster.client.transport import HttpReply, Transport, path_of
from muster.client.writing import write, written_of
from muster.durations import seconds_from
from muster.wire import DEFAULT_URL
from muster.wire.command import Envelope, PublishedCommand, new_id
from muster.wire.registry.answers import WRITTEN, Outcome, Written
from muster.wire.registry.check import Health
from muster.wire.registry.spec import SPEC, Spec, SpecFields, spec_of
from muster.wire.telemetry import observations
from muster.wire.telemetry.heard import HEARTBEATS_HEARD, HeartbeatsHeard
from muster.wire.telemetry.heartbeats import Heartbeats, document_of
from muster.wire.telemetry.observations import Observations

if TYPE_CHECKING:
    from muster.client.control.groups import GroupControl
    from muster.client.control.sagas import SagaControl
    from muster.client.control.shards import ShardControl
    from muster.client.control.traffic import TrafficControl


class Client(ClientReads):
    """A client of a controller, or of several that share a log; use it as `async with Client(url) as client`.

    `url` is one address or several: `"http://a:8740,http://b:8740"`, or a sequence. A call asks the one that answered last, and
    goes on at the others when it is away, silent or not ready; while the client is open it learns of further ones. With
    `cluster` the controllers of another cluster refuse (WrongCluster).

    `actor` is recorded with every write. `timeout_seconds` limits each call with all its retries. Raises the refusals
    of `muster.wire.error` by their names, and NotReady, Timeout or Unreachable when the time is over. `shards` is for
    keyspaces, data nodes and migrations, `groups` for failover groups, `sagas` for sagas of all kinds, `traffic` for how the
    clients of services spread their calls.
    """

    def __init__(
        self,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        actor: str | None = None,
        timeout_seconds: float = 10.0,
        cluster: str | None = None,
    ) -> None:
        super().__init__(Transport(url, actor=actor, timeout_seconds=timeout_seconds, cluster=cluster))
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
    def traffic(self) -> "TrafficControl":
        """How the clients of services spread their calls."""
        from muster.client.control.traffic import TrafficControl

        return TrafficControl(self._transport)

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
        reply = await self._tell(path, body, timeout_seconds, command_id)
        return written_of(self._transport, WRITTEN, reply)

    async def believe_checks(
        self, service: str, *instances: str, reason: str | None = None, command_id: str | None = None
    ) -> Written:
        """Take those out of discovery whose checks have failed together, all of them or these: they are ill indeed."""
        path = path_of("services", service, "believe")
        body = {"instances": instances} if instances else {}
        return await write(self._transport, WRITTEN, "POST", path, body, reason=reason, command_id=command_id)

    async def heartbeats(
        self, messages: Sequence[Heartbeats], *, timeout_seconds: float | None = None
    ) -> HeartbeatsHeard:
        """Renew the leases and ttl checks of many instances in one request, of up to 5,000; who was not heard is in the answer.

        Each beat names the incarnation that it speaks for, and may tell the load of its instance.
        """
        body = {"beats": [document_of(message) for message in messages]}
        reply = await self._tell(path_of("heartbeats"), body, timeout_seconds)
        return HEARTBEATS_HEARD.validate_json(reply.body)

    async def observations(self, messages: Sequence[Observations], *, timeout_seconds: float | None = None) -> None:
        """Tell what was seen of instances by calling them, of up to 5,000 in one request. It renews nothing."""
        body = {"observations": [observations.document_of(message) for message in messages]}
        await self._tell(path_of("observations"), body, timeout_seconds)

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

    @asynccontextmanager
    async def registered(
        self,
        service: str,
        instance: str,
        address: str,
        port: int,
        *,
        load: Load | None = None,
        **fields: Unpack[SpecFields],
    ) -> AsyncIterator[Registration]:
        """Stay registered for the length of the block: heartbeats at a third of the lease (30 s unless given otherwise),
        deregistered at the end. `load` is called for each, and what it says is told with it: a `LoadReport`, or a tuple.

        A lease that ran out meanwhile is taken again. After a deregistration on request it stays out, and so it does once
        another process has registered under this name, which is not harmed by it: `lost` is set.
        """
        spec = spec_of(address, port, {"lease_seconds": 30.0, **fields})
        name, registration = (service, instance), Registration(service, instance)
        try:
            async with keep_alive(self, registration, spec, load):
                self._held[name] = registration
                yield registration
        finally:
            if self._held.get(name) is registration:
                del self._held[name]

    async def _tell(
        self, path: str, body: object, timeout_seconds: float | None, command_id: str | None = None
    ) -> HttpReply:
        if timeout_seconds is not None:
            seconds_from(timeout_seconds, "timeout_seconds")
        return await self._transport.write(
            "POST", path, body, command_id=command_id or new_id(), timeout_seconds=timeout_seconds
        )

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
