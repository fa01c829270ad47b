"""Staying registered: register, heartbeat at a third of the lease, deregister at the end.

Each registration is held under a random id of its own. Whoever registers under the same name takes it over, and whatever this one
says from then on is refused: it notices with its next heartbeat, is `lost`, and neither comes back nor takes the other one out.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from muster.wire.error import (
    InstanceNotFound,
    InvalidInstance,
    MusterError,
    Refused,
    ServiceNotFound,
    StaleIncarnation,
    Transient,
)
from muster.wire.problem import error_from
from muster.wire.registry.answers import DEREGISTERED
from muster.wire.registry.spec import Spec
from muster.wire.telemetry.heartbeats import Beat, Heartbeats, LoadReport, beats_of

if TYPE_CHECKING:
    from muster.client.client import Client

_LOG: Final = logging.getLogger("muster.client.registration")

Load = Callable[[], LoadReport | tuple[float | None, ...]]
"""Says what the process has to do now: calls in flight, calls and failed calls per second, the share of its capacity taken."""


class Registration:
    """A registration that is kept alive. `incarnation` grows when a lost lease is taken again; `lost`: it was taken out, or
    another process has registered under its name. `holder` is the id under which it is held.
    """

    def __init__(self, service: str, instance: str) -> None:
        self.service = service
        self.instance = instance
        self.holder = uuid4().hex
        self.incarnation: int | None = None
        self.lost = asyncio.Event()

    def lose(self, why: str) -> None:
        """From here on it is not registered any more, and nothing is done about that."""
        _LOG.error("%s/%s is lost: %s", self.service, self.instance, why)
        self.lost.set()


@asynccontextmanager
async def keep_alive(
    client: "Client", registration: Registration, spec: Spec, load: Load | None = None
) -> AsyncIterator[Registration]:
    """Stay registered for the length of the block; see `Client.registered`. The spec must have a lease."""
    if spec.heartbeats == "topic":
        # What is sent from here comes over HTTP, and would keep no lease that telemetry watches over.
        raise InvalidInstance(
            "heartbeats: 'topic' is for who sends them to Kafka, like muster host run --kafka", field="heartbeats"
        )
    await _register(client, registration, spec)
    service, instance = registration.service, registration.instance
    heart = asyncio.create_task(_beat(client, registration, spec, load), name=f"heartbeat {service}/{instance}")
    try:
        yield registration
    finally:
        heart.cancel()
        await asyncio.wait([heart])  # `await heart` could not tell its cancellation from our own
        await _leave(client, registration)


async def _register(client: "Client", registration: Registration, spec: Spec) -> None:
    # With the incarnation from before, if there was one: a successor that has come since is not pushed out by our return.
    written = await client.register_spec(
        registration.service,
        registration.instance,
        spec,
        holder=registration.holder,
        incarnation=registration.incarnation,
    )
    registration.incarnation = written.incarnation


async def _beat(client: "Client", registration: Registration, spec: Spec, load: Load | None) -> None:
    assert spec.lease_seconds is not None, "a registration that is kept alive has a lease"
    service, instance, pause = registration.service, registration.instance, spec.lease_seconds / 3
    while not registration.lost.is_set():
        await asyncio.sleep(pause)
        try:
            # A controller that hangs must not cost the lease: within this time another one is asked, or by the next heartbeat.
            await _say(client, registration, load, max(1.0, pause))
        except (ServiceNotFound, InstanceNotFound):
            await _return(client, registration, spec, gone=True)
        except StaleIncarnation:
            # Either somebody else is there, or we are, by a registration of which we have not heard the answer.
            await _return(client, registration, spec, gone=False)
        except Refused as error:
            registration.lose(error.detail)
        except MusterError as error:
            _LOG.warning("heartbeat of %s/%s failed, the next one follows: %s", service, instance, error)


async def _say(client: "Client", registration: Registration, load: Load | None, seconds: float) -> None:
    """A heartbeat, with the load if there is one to tell. Raises why it was not taken."""
    service, instance, incarnation = registration.service, registration.instance, registration.incarnation
    if load is not None and incarnation is not None:
        message = Heartbeats(instance, service, [Beat(instance, incarnation, *_told(load))])
        try:
            heard = await client.heartbeats([message], timeout_seconds=seconds)
        except MusterError as error:
            # A controller of before knows no such route. The lease counts for more than the load.
            if not error.detail.startswith("RouteNotFound:"):
                raise
        else:
            for unheard in heard.refused:
                raise error_from(unheard.error)
            return
    await client.heartbeat(service, instance, incarnation=incarnation, timeout_seconds=seconds)


def _told(load: Load) -> tuple[float | None, ...]:
    """What the function says, if it is a load; unknown otherwise: no lease may end because a figure was wrong."""
    try:
        told = tuple(load())
        beats_of([["any", 0, *told]])
    except Exception:  # noqa: BLE001 it is the caller's code, and may raise anything
        _LOG.exception("the load is not told: the function that should say it has failed")
        return ()
    return told


async def _return(client: "Client", registration: Registration, spec: Spec, *, gone: bool) -> None:
    """Register again, unless the instance was deregistered on request, or another one has its name."""
    try:
        if gone and await taken_out(client, registration.service, registration.instance):
            registration.lose("it was deregistered on request")
            return
        await _register(client, registration, spec)
    except StaleIncarnation as error:
        registration.lose(f"another process has registered under its name: {error.detail}")
    except Refused as error:
        registration.lose(f"it cannot be registered again: {error.detail}")
    # The next heartbeat is refused for the same reason as the last one, and leads here again.
    except Transient as error:
        _LOG.warning("%s/%s is not registered: %s", registration.service, registration.instance, error.detail)


async def taken_out(client: "Client", service: str, instance: str) -> bool:
    """Whether the instance is gone because somebody wanted it so."""
    try:
        history = await client.history(service, instance)
    except InstanceNotFound:
        # The controller's log is another one, or its beginning is gone: nobody can have asked for the removal here.
        return False
    last = history.items[-1] if history.items else None
    # If somebody has come meanwhile, the attempt to register says so.
    return last is not None and last.type == DEREGISTERED and last.data.get("cause") == "requested"


async def _leave(client: "Client", registration: Registration) -> None:
    if registration.lost.is_set():
        return
    try:
        # By the holder and not by the incarnation: the answer that had the newest one may not have reached us.
        await client.deregister(registration.service, registration.instance, holder=registration.holder)
    except Refused as error:
        _LOG.info("%s/%s was not deregistered: %s", registration.service, registration.instance, error.detail)
    except Transient as error:
        _LOG.warning(
            "%s/%s stays until its lease runs out: %s", registration.service, registration.instance, error.detail
        )
