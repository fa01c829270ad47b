"""The client: typed, asynchronous, consistent with itself.

    async with Client("http://127.0.0.1:8740", actor="deploy") as client:
        await client.register("orders", "orders-1", "10.0.0.7", 8080, tags=("blue",))
        for instance in await client.discover("users"):
            ...
        async for change in client.watch("users"):
            ...

Reads see the client's own writes (`consistency="session"`): it keeps the newest token of every answer and sends it
along. Another client's token is taken over with `observe`. Transient errors are tried again with the same command id.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import orjson
from pydantic import TypeAdapter

from muster.client.event_stream import follow
from muster.client.registration import Registration, keep_alive
from muster.client.shards import ShardControl
from muster.client.transport import Consistency as Consistency
from muster.client.transport import Transport, backoff_seconds, path_of
from muster.client.watch import Change, Follower
from muster.client.writing import write
from muster.wire import DEFAULT_URL
from muster.wire.check import Check, Health
from muster.wire.command import Envelope, PublishedCommand, document_of, new_id
from muster.wire.registry import (
    EVENT_PAGE,
    HISTORY,
    INSTANCE,
    INSTANCE_PAGE,
    SERVICE_PAGE,
    WRITTEN,
    EventPage,
    History,
    Instance,
    Outcome,
    Page,
    Service,
    Written,
)
from muster.wire.spec import Spec

BATCH_COMMANDS_MAX: Final = 1_000
_SPEC: Final = TypeAdapter(Spec)
_OUTCOMES: Final = TypeAdapter(list[Outcome])


class Client:
    """A controller's client; use it as `async with Client(url) as client`.

    `actor` is recorded with every write. `timeout_seconds` bounds each call with all its retries. Raises the refusals
    of `muster.wire.error` by their names, and NotReady, Timeout or Unreachable when the time is over. `shards` has what
    concerns keyspaces, data nodes and migrations.
    """

    def __init__(self, url: str = DEFAULT_URL, *, actor: str | None = None, timeout_seconds: float = 10.0) -> None:
        self._transport = Transport(url, actor=actor, timeout_seconds=timeout_seconds)
        self.shards = ShardControl(self._transport)

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.close()

    @property
    def url(self) -> str:
        """The controller's address."""
        return self._transport.url

    @property
    def token(self) -> str:
        """What this client has seen, for `observe` of another one: `0:1234,3:17`."""
        return self._transport.token

    def observe(self, token: str) -> None:
        """See at least what the token's giver has seen, from the next read on. Raises InvalidCommand."""
        self._transport.observe(token)

    async def register(
        self,
        service: str,
        instance: str,
        address: str,
        port: int,
        *,
        metadata: Mapping[str, str] | None = None,
        tags: Sequence[str] = (),
        zone: str = "",
        weight: int = 1,
        checks: Sequence[Check] = (),
        lease_seconds: float | None = None,
        deregister_after_seconds: float | None = None,
        reason: str | None = None,
        expected_version: int | None = None,
        command_id: str | None = None,
    ) -> Written:
        """Register the instance, or change what is registered; identical: its lease is renewed."""
        spec = Spec(
            address=address,
            port=port,
            metadata=dict(metadata or {}),
            tags=tuple(tags),
            zone=zone,
            weight=weight,
            checks=tuple(checks),
            lease_seconds=lease_seconds,
            deregister_after_seconds=deregister_after_seconds,
        )
        return await self.register_spec(
            service, instance, spec, reason=reason, expected_version=expected_version, command_id=command_id
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
    ) -> Written:
        """As `register`, with the whole spec. `expected_version`: only if the instance is at it (VersionConflict)."""
        body = _SPEC.dump_python(spec, mode="json", warnings=False)  # the controller judges it
        return await self._write(
            "PUT", (service, instance), body, reason=reason, expected_version=expected_version, command_id=command_id
        )

    async def deregister(
        self,
        service: str,
        instance: str,
        *,
        incarnation: int | None = None,
        reason: str | None = None,
        expected_version: int | None = None,
        command_id: str | None = None,
    ) -> Written:
        """Remove the instance; with `incarnation` only that one (StaleIncarnation)."""
        body = _given(incarnation=incarnation) or None
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
        """Say how the instance is; `check` names one of its ttl checks, else it is the reported health."""
        body = _given(status=status, cause=cause, check=check, incarnation=incarnation)
        return await self._write("PUT", (service, instance, "health"), body, reason=reason, command_id=command_id)

    async def heartbeat(
        self, service: str, instance: str, *, incarnation: int | None = None, command_id: str | None = None
    ) -> Written:
        """Renew the instance's lease and ttl checks."""
        body = _given(incarnation=incarnation)
        return await self._write("POST", (service, instance, "heartbeat"), body, command_id=command_id)

    async def set_maintenance(
        self, service: str, instance: str, reason: str | None = None, *, command_id: str | None = None
    ) -> Written:
        """Take the instance out of discovery for maintenance."""
        return await self._write(
            "PUT", (service, instance, "maintenance"), _given(reason=reason), command_id=command_id
        )

    async def clear_maintenance(
        self, service: str, instance: str, reason: str | None = None, *, command_id: str | None = None
    ) -> Written:
        """End the maintenance."""
        return await self._write(
            "DELETE", (service, instance, "maintenance"), _given(reason=reason), command_id=command_id
        )

    async def drain(
        self, service: str, instance: str, reason: str | None = None, *, command_id: str | None = None
    ) -> Written:
        """Take the instance out of discovery because it is about to leave."""
        return await self._write("PUT", (service, instance, "drain"), _given(reason=reason), command_id=command_id)

    async def undrain(
        self, service: str, instance: str, reason: str | None = None, *, command_id: str | None = None
    ) -> Written:
        """It stays after all."""
        return await self._write("DELETE", (service, instance, "drain"), _given(reason=reason), command_id=command_id)

    async def commands(self, envelopes: Sequence[Envelope | PublishedCommand]) -> list[Outcome]:
        """Give commands in batches of 1,000; the outcomes in the same order, refusals among them (`outcome.written()`).

        Commands that no writer has answered are given again with their ids; what stays `unknown` at the end says so.
        """
        outcomes: list[Outcome] = []
        for start in range(0, len(envelopes), BATCH_COMMANDS_MAX):
            outcomes += await self._batch(envelopes[start : start + BATCH_COMMANDS_MAX])
        return outcomes

    async def _batch(self, envelopes: Sequence[Envelope | PublishedCommand]) -> list[Outcome]:
        ends_at, tries = time.monotonic() + self._transport.timeout_seconds, 0
        outcomes: dict[int, Outcome] = {}
        open_ = list(range(len(envelopes)))
        while True:
            body = {"commands": [document_of(envelopes[index]) for index in open_]}
            reply = await self._transport.write("POST", path_of("commands"), body, command_id=new_id())
            outcomes |= zip(open_, _OUTCOMES.validate_python(orjson.loads(reply.body)["items"]), strict=True)
            open_ = [index for index in open_ if outcomes[index].status == "unknown"]
            pause = backoff_seconds(tries)
            if not open_ or time.monotonic() + pause >= ends_at:
                return [outcomes[index] for index in range(len(envelopes))]
            tries += 1
            await asyncio.sleep(pause)

    async def services(self, *, consistency: Consistency = "session") -> Page[Service]:
        """All services, with their instances counted by health."""
        return SERVICE_PAGE.validate_json(await self._transport.read(path_of("services"), {}, consistency))

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
        """What happened to the instance, oldest first: what, when, by whom and why. It outlives the instance."""
        path = path_of("history", service, instance)
        return HISTORY.validate_json(await self._transport.read(path, {}, consistency))

    async def events(
        self,
        *,
        stream: str | None = None,
        type: str | None = None,
        partition: int | None = None,
        after: int = -1,
        limit: int = 100,
    ) -> EventPage:
        """Recorded events behind position `after` of a partition (the stream's, or 0), oldest first."""
        query = _given(stream=stream, type=type, partition=partition, after=after, limit=limit)
        texts = {name: str(value) for name, value in query.items()}
        return EVENT_PAGE.validate_json(await self._transport.read(path_of("events"), texts, "eventual"))

    async def status(self) -> dict[str, Any]:
        """The controller's own account: role, log, partitions with term, positions and lags."""
        body: dict[str, Any] = orjson.loads(await self._transport.read(path_of("status"), {}, "eventual"))
        return body

    def watch(
        self, service: str | None = None, *, reconnect_seconds_max: float = math.inf
    ) -> AsyncGenerator[Change, None]:
        """First a Snapshot, then every change once, in order; of all services when none is named.

        A controller that goes away is waited for, up to `reconnect_seconds_max` each time (the first one up to the
        client's `timeout_seconds`), then Unreachable is raised; the watch goes on where it was.
        """
        query = {} if service is None else {"service": service}
        return follow(self._transport, path_of("watch"), query, Follower().take, reconnect_seconds_max)

    @asynccontextmanager
    async def registered(
        self,
        service: str,
        instance: str,
        address: str,
        port: int,
        *,
        lease_seconds: float = 30.0,
        metadata: Mapping[str, str] | None = None,
        tags: Sequence[str] = (),
        zone: str = "",
        weight: int = 1,
        checks: Sequence[Check] = (),
    ) -> AsyncIterator[Registration]:
        """Be registered for as long as the block runs: heartbeats at a third of the lease, deregistered at its end.

        A lease that ran out meanwhile is taken again. Who was deregistered on request stays out: `lost` is set.
        """
        spec = Spec(
            address=address,
            port=port,
            metadata=dict(metadata or {}),
            tags=tuple(tags),
            zone=zone,
            weight=weight,
            checks=tuple(checks),
            lease_seconds=lease_seconds,
        )
        async with keep_alive(self, service, instance, spec) as registration:
            yield registration

    async def _write(
        self,
        method: str,
        parts: tuple[str, ...],
        body: object | None,
        *,
        reason: str | None = None,
        expected_version: int | None = None,
        command_id: str | None = None,
    ) -> Written:
        service, *rest = parts
        return await write(
            self._transport,
            WRITTEN,
            method,
            path_of("services", service, "instances", *rest),
            body,
            reason=reason,
            expected_version=expected_version,
            command_id=command_id,
        )


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
