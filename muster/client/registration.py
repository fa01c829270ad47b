"""Staying registered: register, heartbeat at a third of the lease, deregister at the end."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from muster.wire.error import InstanceNotFound, MusterError, Refused, ServiceNotFound, StaleIncarnation, Transient
from muster.wire.registry.answers import DEREGISTERED
from muster.wire.registry.spec import Spec

if TYPE_CHECKING:
    from muster.client.client import Client

_LOG: Final = logging.getLogger("muster.client.registration")


class Registration:
    """A registration that is kept alive. `incarnation` grows when a lost lease is taken again; `lost`: it was taken out."""

    def __init__(self, service: str, instance: str, incarnation: int | None) -> None:
        self.service = service
        self.instance = instance
        self.incarnation = incarnation
        self.lost = asyncio.Event()


@asynccontextmanager
async def keep_alive(client: "Client", service: str, instance: str, spec: Spec) -> AsyncIterator[Registration]:
    """Stay registered for the length of the block; see `Client.registered`. The spec must have a lease."""
    written = await client.register_spec(service, instance, spec)
    registration = Registration(service, instance, written.incarnation)
    heart = asyncio.create_task(_beat(client, registration, spec), name=f"heartbeat {service}/{instance}")
    try:
        yield registration
    finally:
        heart.cancel()
        await asyncio.wait([heart])  # `await heart` could not tell its cancellation from our own
        await _leave(client, registration)


async def _beat(client: "Client", registration: Registration, spec: Spec) -> None:
    assert spec.lease_seconds is not None, "a registration that is kept alive has a lease"
    service, instance, pause = registration.service, registration.instance, spec.lease_seconds / 3
    while not registration.lost.is_set():
        await asyncio.sleep(pause)
        try:
            # A connection that hangs must not cost the lease: the next heartbeat takes another connection.
            async with asyncio.timeout(max(1.0, pause)):
                await client.heartbeat(service, instance, incarnation=registration.incarnation)
        except (ServiceNotFound, InstanceNotFound, StaleIncarnation):
            await _return(client, registration, spec)
        except Refused as error:
            _LOG.error("%s/%s cannot be kept registered: %s", service, instance, error.detail)
            registration.lost.set()
        except (MusterError, TimeoutError) as error:
            _LOG.warning("heartbeat of %s/%s failed, the next one follows: %s", service, instance, error)


async def _return(client: "Client", registration: Registration, spec: Spec) -> None:
    """Register again, unless the instance was deregistered on request."""
    try:
        if await _taken_out(client, registration):
            registration.lost.set()
            return
        written = await client.register_spec(registration.service, registration.instance, spec)
        registration.incarnation = written.incarnation
    except Refused as error:
        _LOG.error("%s/%s cannot be registered again: %s", registration.service, registration.instance, error.detail)
        registration.lost.set()
    # The next heartbeat is refused for the same reason as the last one, and leads here again.
    except Transient as error:
        _LOG.warning("%s/%s is not registered: %s", registration.service, registration.instance, error.detail)


async def _taken_out(client: "Client", registration: Registration) -> bool:
    try:
        history = await client.history(registration.service, registration.instance)
    except InstanceNotFound:
        # The controller's log is another one, or its beginning is gone: nobody can have asked for the removal here.
        return False
    last = history.items[-1] if history.items else None
    if last is None or last.type != DEREGISTERED:
        return last is not None  # Another process has registered under this name since.
    return bool(last.data.get("cause") == "requested")


async def _leave(client: "Client", registration: Registration) -> None:
    if registration.lost.is_set():
        return
    try:
        await client.deregister(registration.service, registration.instance, incarnation=registration.incarnation)
    except Refused as error:
        _LOG.info("%s/%s was not deregistered: %s", registration.service, registration.instance, error.detail)
    except Transient as error:
        _LOG.warning(
            "%s/%s stays until its lease runs out: %s", registration.service, registration.instance, error.detail
        )
